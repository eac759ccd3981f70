//! An engine in memory: deterministic, scriptable, for tests, simulations and hollow nodes.
//!
//! Containers behave as their image says ([`Behaviour`]); faults strike by call number or by operation ([`Fault`]).

mod calls;
mod world;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{broadcast, watch};

use self::world::World;
use super::{EngineEvent, ErrorKind};
use crate::clock::Clock;

/// What containers of an image do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behaviour {
    /// Ends by itself after this time; `None` runs for ever.
    pub runs_for: Option<Duration>,
    /// With this code.
    pub exit_code: i64,
    /// How long after the stop signal it ends; `None` ignores it.
    pub stops_after: Option<Duration>,
    /// The engine fails to start it with these words.
    pub start_error: Option<String>,
    /// The kernel kills it for memory when it ends by itself.
    pub out_of_memory: bool,
    /// What any command run in it returns.
    pub exec_code: i64,
    /// What it writes.
    pub log: String,
    /// The user of the image.
    pub user: String,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            runs_for: None,
            exit_code: 0,
            stops_after: Some(Duration::ZERO),
            start_error: None,
            out_of_memory: false,
            exec_code: 0,
            log: String::new(),
            user: String::new(),
        }
    }
}

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Which call.
    pub when: When,
    /// What happens to it.
    pub effect: Effect,
}

/// Which calls a fault strikes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum When {
    /// The call of this number, counted from 0 over the life of the engine.
    Call(usize),
    /// The next call of an operation (`create`, `start`, …), once.
    Next(&'static str),
    /// Every call of an operation.
    Every(&'static str),
}

/// What happens to a call that a fault strikes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Nothing happens and no answer comes.
    Hang,
    /// Nothing happens and an error comes.
    Fail(ErrorKind),
    /// It takes effect and no answer comes.
    LoseReply,
    /// It takes effect and a time-out comes.
    TimeOutAfter,
}

/// An engine in memory. Cheap to clone; clones are the same engine.
#[derive(Debug, Clone)]
pub struct FakeEngine {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    world: Mutex<World>,
    events: broadcast::Sender<EngineEvent>,
    /// The number of the last call that a [`Effect::Hang`] or [`Effect::LoseReply`] struck.
    struck: watch::Sender<Option<usize>>,
    clock: Clock,
}

impl FakeEngine {
    /// An engine with no images, whose time is `clock`'s.
    pub fn new(clock: Clock) -> Self {
        let (events, _) = broadcast::channel(1024);
        let (struck, _) = watch::channel(None);
        Self { shared: Arc::new(Shared { world: Mutex::new(World::default()), events, struck, clock }) }
    }

    /// Puts an image on the engine.
    pub fn add_image(&self, image: &str, behaviour: Behaviour) {
        self.world().add_image(image, behaviour);
    }

    /// Makes an image known to the registry: a pull brings it after `delay`.
    pub fn add_registry_image(&self, image: &str, behaviour: Behaviour, delay: Duration) {
        self.world().registry.insert(super::normalise(image), (behaviour, delay));
    }

    /// Adds a fault.
    pub fn inject(&self, fault: Fault) {
        self.world().faults.push(fault);
    }

    /// Takes all faults away; calls that hang go on hanging.
    pub fn heal(&self) {
        self.world().faults.clear();
    }

    /// Whether events get lost.
    pub fn lose_events(&self, lose: bool) {
        self.world().lose_events = lose;
    }

    /// Makes every call take this long.
    pub fn set_latency(&self, latency: Duration) {
        self.world().latency = latency;
    }

    /// The calls so far that change something, as `operation subject`.
    pub fn calls(&self) -> Vec<String> {
        self.world().calls.clone()
    }

    /// Names and phases of all containers.
    pub fn containers(&self) -> BTreeMap<String, super::ContainerPhase> {
        self.world().containers.values().map(|container| (container.name.clone(), container.phase)).collect()
    }

    /// How often each container, by name, was started.
    pub fn starts(&self) -> BTreeMap<String, u32> {
        self.world().starts.clone()
    }

    /// Waits until a fault has swallowed a call's answer.
    pub async fn struck(&self) -> usize {
        let mut struck = self.shared.struck.subscribe();
        // The sender lives as long as `self`.
        let number = struck.wait_for(Option::is_some).await.map(|number| *number);
        number.ok().flatten().unwrap_or_default()
    }

    /// Ends a container as if its process had.
    pub fn exit(&self, name: &str, exit_code: i64, out_of_memory: bool) {
        let id = self.world().containers.values().find(|container| container.name == name).map(|c| c.id.clone());
        if let Some(id) = id {
            self.end(&id, exit_code, out_of_memory, None);
        }
    }

    /// Removes a container behind the agent's back.
    pub fn vanish(&self, name: &str) {
        self.world().containers.retain(|_, container| container.name != name);
    }

    /// Adds a container that is not the agent's.
    pub fn add_foreign(&self, name: &str, labels: BTreeMap<String, String>) {
        let now = self.shared.clock.now();
        self.world().add_foreign(name, labels, now);
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.shared.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
