//! An engine in memory: deterministic, scriptable, for tests, simulations and hollow nodes.
//!
//! Containers behave as their image says ([`Behaviour`]); faults strike by call number, by operation ([`Fault`]) or by
//! chance ([`Weather`]).

mod calls;
mod prober;
mod world;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{broadcast, watch};

use self::world::World;
use super::{EngineEvent, EngineInfo, ErrorKind};
use crate::{chance::Chance, clock::Clock};

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
    /// How long after its start it answers over the network; `None` never does.
    pub answers_after: Option<Duration>,
    /// What any command run in it returns.
    pub exec_code: i64,
    /// What it writes.
    pub log: String,
    /// The user of the image.
    pub user: String,
    /// The working directory of the image.
    pub working_dir: String,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            runs_for: None,
            exit_code: 0,
            stops_after: Some(Duration::ZERO),
            start_error: None,
            out_of_memory: false,
            answers_after: Some(Duration::ZERO),
            exec_code: 0,
            log: String::new(),
            user: String::new(),
            working_dir: String::new(),
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
    /// It takes effect after this time, and then answers.
    Delay(Duration),
}

/// What goes wrong at random, by probabilities from 0 to 1 for each call. The default is fair weather.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Weather {
    /// A call fails without effect.
    pub failures: f64,
    /// A call takes effect and its answer is lost.
    pub lost_replies: f64,
    /// A call takes effect late.
    pub delays: f64,
    /// How late at most.
    pub delay_max: Duration,
    /// An event is lost.
    pub lost_events: f64,
    /// A pull fails.
    pub failed_pulls: f64,
    /// What is added to a pull at most.
    pub pull_delay_max: Duration,
}

/// An engine in memory. Cheap to clone; clones are the same engine.
#[derive(Debug, Clone)]
pub struct FakeEngine {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    world: Mutex<World>,
    /// `None` ends the streams: the engine went away.
    events: broadcast::Sender<Option<EngineEvent>>,
    /// The number of the last call that a [`Effect::Hang`] or [`Effect::LoseReply`] struck.
    struck: watch::Sender<Option<usize>>,
    clock: Clock,
    chance: Chance,
    /// Distinguishes the containers of this engine from those of others.
    salt: u64,
}

impl FakeEngine {
    /// An engine with no images, whose time is `clock`'s.
    pub fn new(clock: Clock) -> Self {
        Self::with(clock, Chance::seeded(0), 0)
    }

    /// An engine with no images, whose weather is drawn from `chance`, as are the ids of its containers.
    pub fn with_chance(clock: Clock, chance: Chance) -> Self {
        let salt = chance.number();
        Self::with(clock, chance, salt)
    }

    fn with(clock: Clock, chance: Chance, salt: u64) -> Self {
        let (events, _) = broadcast::channel(1024);
        let (struck, _) = watch::channel(None);
        let world = Mutex::new(World::default());
        Self { shared: Arc::new(Shared { world, events, struck, clock, chance, salt }) }
    }

    /// Keeps no record of calls and starts, which would grow for ever: for long runs that nobody questions.
    #[must_use]
    pub fn without_records(self) -> Self {
        self.world().unrecorded = true;
        self
    }

    /// What the engine says of itself and its host.
    pub fn set_info(&self, info: EngineInfo) {
        self.world().info = info;
    }

    /// Makes every image known to the registry that is not known by [`Self::add_registry_image`].
    pub fn add_any_registry_image(&self, behaviour: Behaviour, delay: Duration) {
        self.world().any_image = Some((behaviour, delay));
    }

    /// What goes wrong at random from now on.
    pub fn set_weather(&self, weather: Weather) {
        self.world().weather = weather;
    }

    /// Whether the engine is down: every call fails, and the streams of events end.
    pub fn set_down(&self, down: bool) {
        self.world().down = down;
        if down {
            self.end_streams();
        }
    }

    /// Restarts the engine. Containers go on, as with live-restore, or all end without a word.
    pub fn restart(&self, keep: bool) {
        if !keep {
            let now = self.shared.clock.now();
            self.world().end_all(now);
        }
        self.end_streams();
    }

    fn end_streams(&self) {
        // Nobody may be listening.
        let _ = self.shared.events.send(None);
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

    /// Makes every start of a container take this long.
    pub fn set_start_latency(&self, latency: Duration) {
        self.world().start_latency = latency;
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

    /// Names of the containers that run, each with when it started.
    pub fn running(&self) -> BTreeMap<String, jiff::Timestamp> {
        let world = self.world();
        let running = world.containers.values().filter(|container| container.phase == super::ContainerPhase::Running);
        running.filter_map(|container| Some((container.name.clone(), container.started_at?))).collect()
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
