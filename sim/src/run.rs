//! One run: a schedule played against a cluster, with the oracles looking on.

use std::{
    collections::{BTreeMap, BTreeSet, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use drover_apiserver::volatile::Volatile;
use drover_invariants::{Violation, World, check_invariants, check_step};
use drover_store::Backend;
use tokio::time::{Instant, sleep_until};

use crate::{
    chance::Chance,
    disk::DiskStore,
    faults::{Phase, Tally},
    observe::Observer,
    parts::Cluster,
    runtime::run_seeded,
    schedule::{Event, Schedule},
    user::{Action, User},
};

/// Between two looks of the oracles while things happen.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// The longest that a cluster may take to come up without faults.
const START_SPAN: Duration = Duration::from_secs(20);
/// From the last fault on, this long is left for convergence; what backs off for longer counts if it says why.
const SETTLE_SPAN: Duration = Duration::from_secs(60);
/// What is not as it should be for less than this is under way: a container that fails again and again changes what has
/// to be true with every start and end.
const LASTING_SPAN: Duration = Duration::from_secs(5);
/// Once converged, it must stay so for this long.
const STAY_SPAN: Duration = Duration::from_secs(15);
/// In one run of so many it must stay so until the oracles judge the rest as well: nothing is written any more.
const RESTS_ONE_IN: u64 = 8;
const REST_SPAN: Duration = Duration::from_secs(130);
/// While nothing is written, time alone can change the judgement; it is looked at this often.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// A part counts as recovering for this long after its crash.
const RECOVERY_SPAN: Duration = Duration::from_secs(10);
/// Between two rounds of the store's maintenance.
const TICK_EVERY: Duration = Duration::from_secs(1);
/// More violations than this tell nothing new.
const VIOLATIONS_MAX: usize = 20;

/// Since when each thing that is not as it should be has been so.
#[derive(Debug, Default)]
struct Standing(BTreeMap<(&'static str, String), Instant>);

impl Standing {
    /// Takes in what a look found; returns what has been found ever since [`LASTING_SPAN`].
    fn lasting(&mut self, found: Vec<Violation>, now: Instant) -> Vec<Violation> {
        let key = |violation: &Violation| (violation.rule, violation.subject.clone());
        let known = std::mem::take(&mut self.0);
        self.0 = found.iter().map(key).map(|key| (key.clone(), known.get(&key).copied().unwrap_or(now))).collect();
        found.into_iter().filter(|violation| now >= self.0[&key(violation)] + LASTING_SPAN).collect()
    }
}

/// What a run showed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What was broken; empty for a clean run.
    pub violations: Vec<String>,
    /// Which faults struck when.
    pub tally: Tally,
    /// Stands for everything that was written and when: equal for two runs of one schedule.
    pub trace: u64,
    /// Virtual time, in milliseconds.
    pub elapsed_ms: u64,
    /// Writes to the store.
    pub writes: u64,
    /// How the pods and nodes stood when it failed to converge; empty otherwise.
    pub dump: String,
}

/// How much of the stack a run drives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Everything behind the server's door: fast.
    Core,
    /// Also HTTP/2, TLS with client certificates, and the embedded store on a disk that a crash may tear.
    Full,
}

/// Plays a schedule on a thread of its own.
pub fn play(schedule: &Schedule, depth: Depth) -> Outcome {
    let schedule = schedule.clone();
    run_seeded(schedule.seed, move || Run::start(schedule, depth))
}

struct Run {
    cluster: Cluster,
    observer: Observer,
    user: User,
    known: World,
    found: BTreeSet<String>,
    tally: Tally,
    trace: DefaultHasher,
    phase: Phase,
    crashed_at: Option<Instant>,
    /// Receipts that were acknowledged.
    receipts: Arc<std::sync::Mutex<BTreeSet<u64>>>,
    images: Arc<tokio::sync::Mutex<BTreeMap<usize, Vec<usize>>>>,
    dump: String,
    tick_at: Instant,
    seed: u64,
}

impl Run {
    async fn start(schedule: Schedule, depth: Depth) -> Outcome {
        let chance = Chance::new(schedule.seed);
        let disk = match depth {
            Depth::Core => None,
            Depth::Full => {
                let disk = DiskStore::new(chance.fork("disk"));
                Some(Arc::new(disk.expect("an empty disk without faults takes a store")))
            }
        };
        let backend: Arc<dyn Backend> = match &disk {
            Some(disk) => Arc::clone(disk) as Arc<dyn Backend>,
            None => Arc::new(Volatile::new(1, Vec::new())),
        };
        let cluster = Cluster::new(Arc::clone(&backend), disk, schedule.nodes, chance.fork("cluster"));
        let observer = Observer::new(backend, cluster.clock.another());
        let user = User::new(&cluster.wire);
        let mut run = Self {
            cluster,
            observer,
            user,
            known: World::default(),
            found: BTreeSet::new(),
            tally: Tally::default(),
            trace: DefaultHasher::new(),
            phase: Phase::Start,
            crashed_at: None,
            receipts: Arc::default(),
            images: Arc::default(),
            dump: String::new(),
            tick_at: Instant::now(),
            seed: schedule.seed,
        };
        run.bring_up(schedule.replicas).await;
        run.storm(&schedule).await;
        run.settle().await;
        Outcome {
            violations: run.found.into_iter().take(VIOLATIONS_MAX).collect(),
            tally: run.tally,
            trace: run.trace.finish(),
            elapsed_ms: run.cluster.clock.elapsed_ms(),
            writes: run.observer.writes(),
            dump: run.dump,
        }
    }

    async fn bring_up(&mut self, replicas: u32) {
        for part in self.cluster.parts() {
            self.cluster.start(part);
        }
        let user = self.user.clone();
        tokio::spawn(async move { user.set_up(replicas).await });
    }

    /// Everything that the schedule has.
    async fn storm(&mut self, schedule: &Schedule) {
        let begin = Instant::now() + Duration::from_secs(1);
        for (number, (at, event)) in (0..).zip(&schedule.events) {
            self.watch_until(begin + *at).await;
            match event {
                Event::Fault(fault) => {
                    if self.cluster.strike(fault) {
                        self.tally.count(fault.kind(), self.phase_now());
                    }
                    if fault.kind().starts_with("crash") {
                        self.crashed_at = Some(Instant::now());
                    }
                }
                Event::Action(action) => self.act(*action, number),
            }
        }
        self.watch_until(Instant::now() + Duration::from_secs(5)).await;
    }

    /// Starts an action; several may be under way at a time, as users do not wait for each other.
    fn act(&mut self, action: Action, number: u64) {
        self.phase = action.phase();
        let (user, receipts, images) = (self.user.clone(), Arc::clone(&self.receipts), Arc::clone(&self.images));
        tokio::spawn(async move {
            user.act(action, &mut *images.lock().await).await;
            if user.receive(number).await {
                receipts.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(number);
            }
        });
    }

    /// No more faults: the cluster must come to rest as its objects say, and stay there.
    async fn settle(&mut self) {
        self.cluster.heal();
        let healed_at = Instant::now();
        // Users who were still trying get their answer.
        self.watch_until(healed_at + START_SPAN).await;
        drop(self.images.lock().await);
        let quiet_since = Instant::now();
        let deadline = quiet_since + SETTLE_SPAN;
        let stay = if self.seed.is_multiple_of(RESTS_ONE_IN) { REST_SPAN } else { STAY_SPAN };
        let (mut calm_since, mut seen, mut standing) = (None, None, Standing::default());
        loop {
            self.watch_until(Instant::now() + Duration::from_secs(1)).await;
            let written = self.observer.writes();
            let now = Instant::now();
            if seen.is_some_and(|(writes, at)| writes == written && now < at + LOOK_AGAIN) {
                continue;
            }
            seen = Some((written, now));
            let quiet_secs = quiet_since.elapsed().as_secs_f64();
            let world = self.look(quiet_secs).await;
            let violations = standing.lasting(check_invariants(&world), now);
            if violations.is_empty() {
                let since = *calm_since.get_or_insert(now);
                if now >= since + stay {
                    break;
                }
            } else if now >= deadline {
                self.note(violations);
                self.dump = dump(&world);
                break;
            } else {
                calm_since = None;
            }
        }
        self.check_receipts().await;
        if let Some(error) = self.cluster.unrecovered.take() {
            self.found.insert(format!("S1 the store was not recovered after a crash: {error}"));
        }
    }

    async fn check_receipts(&mut self) {
        let receipts = self.receipts.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        for number in receipts {
            let key = format!("{}core/configmaps/default/receipt-{number}", drover_apiserver::registry::ROOT);
            if matches!(self.cluster.backend.get(key.as_bytes()).await, Ok(None)) {
                self.found.insert(format!("S1 ConfigMap/default/receipt-{number}: was acknowledged and is gone"));
            }
        }
    }

    /// Lets time pass, with the oracles looking whenever something has changed.
    async fn watch_until(&mut self, until: Instant) {
        while Instant::now() < until {
            let next = (Instant::now() + LOOK_EVERY).min(until);
            self.cluster.run_until(next).await;
            sleep_until(next).await;
            if next >= self.tick_at {
                self.tick_at = next + TICK_EVERY;
                self.cluster.tick();
            }
            match self.observer.catch_up().await {
                Ok(true) => {
                    let world = self.observer.world(0.0, &self.cluster.nodes);
                    self.note(check_invariants(&world));
                    self.note(check_step(&self.known, &world));
                    self.known = world;
                    (self.cluster.clock.elapsed_ms(), self.observer.revision()).hash(&mut self.trace);
                }
                Ok(false) => {}
                Err(error) => drop(self.found.insert(format!("the store cannot be watched: {error}"))),
            }
        }
    }

    async fn look(&mut self, quiet_secs: f64) -> World {
        if let Err(error) = self.observer.catch_up().await {
            self.found.insert(format!("the store cannot be watched: {error}"));
        }
        self.observer.world(quiet_secs, &self.cluster.nodes)
    }

    fn note(&mut self, violations: Vec<Violation>) {
        let at = self.cluster.clock.elapsed_ms();
        for violation in violations {
            if self.found.len() < VIOLATIONS_MAX {
                self.found.insert(format!("at {at} ms {violation}"));
            }
        }
    }

    fn phase_now(&self) -> Phase {
        let recovering = self.crashed_at.is_some_and(|at| at.elapsed() < RECOVERY_SPAN);
        if recovering { Phase::Recovery } else { self.phase }
    }
}

/// Writes down what people look at first.
fn dump(world: &World) -> String {
    let mut text = String::new();
    for pod in &world.pods {
        let (meta, node) = (&pod.metadata, pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()));
        let status = serde_json::to_string(&pod.status).unwrap_or_default();
        let (name, deleted) = (meta.name.as_deref().unwrap_or_default(), meta.deletion_timestamp.is_some());
        text += &format!("pod {name} on {node:?}, deleted {deleted}: {status}\n");
    }
    for (name, host) in &world.hosts {
        text += &format!("host {name}: {host:?}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_broken_for_a_moment_only_is_under_way() {
        let broken = |subject: &str| Violation { rule: "L1", subject: subject.into(), message: String::new() };
        let (mut standing, mut counts) = (Standing::default(), Vec::new());
        for found in [vec!["a"], vec!["a", "b"], vec!["b"], vec!["a", "b"]] {
            let found = found.into_iter().map(broken).collect();
            counts.push(standing.lasting(found, Instant::now()).len());
            tokio::time::advance(LASTING_SPAN).await;
        }
        assert_eq!(counts, [0, 1, 1, 1]);
    }
}
