//! All parts together: which of them live, and what a fault does to them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use drover_agent::clock::Clock;
use drover_store::Backend;
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    Node, ServerBox,
    controllers::run_controllers,
    hosts::{Hosts, NOTICED_AFTER},
    server::start_server,
};
use crate::{
    chance::Chance,
    clock::SimClock,
    disk::DiskStore,
    faults::{CANDIDATES, Cut, Fault, Moment, Part},
    store::Troubles,
    wire::{Crashed, Wire},
};

/// A simulated cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    /// The network.
    pub(crate) wire: Wire,
    /// The right time.
    pub(crate) clock: SimClock,
    /// The nodes.
    pub(crate) nodes: Vec<Arc<Node>>,
    /// The store, without faults, for whoever looks from outside.
    pub(crate) backend: Arc<dyn Backend>,
    disk: Option<Arc<DiskStore>>,
    server: ServerBox,
    hosts: Hosts,
    controllers_clocks: Vec<SimClock>,
    chance: Chance,
    running: BTreeMap<Part, Running>,
    /// What happens by itself later.
    due: BTreeMap<(Instant, u64), Later>,
    sequence: u64,
    /// Why the store could not be opened after a crash.
    pub(crate) unrecovered: Option<String>,
    crashes: mpsc::UnboundedReceiver<Crashed>,
}

impl Drop for Cluster {
    /// The network holds the server, which reaches its peers over the network: left alone they would keep each other.
    fn drop(&mut self) {
        self.wire.end(Part::Server);
    }
}

#[derive(Debug)]
struct Running {
    task: JoinHandle<()>,
    shutdown: CancellationToken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Later {
    Start(Part),
    RightClock(Part),
    HealEngine(usize),
    HostSpeaks(usize),
    HostHears(usize, usize),
    TellNeighbours,
}

impl Cluster {
    /// Builds a cluster on a store; nothing runs yet.
    /// `disk` is the store again, when it is one that a crash of the server reopens; connections are real then.
    pub(crate) fn new(backend: Arc<dyn Backend>, disk: Option<Arc<DiskStore>>, nodes: usize, chance: Chance) -> Self {
        let (crash_tx, crashes) = mpsc::unbounded_channel();
        let clock = SimClock::new();
        let agents_clock = Clock::runtime(clock.time());
        let wire = Wire::new(chance.fork("wire"), crash_tx, disk.is_some());
        let hosts = Hosts::new(nodes);
        let nodes = (0..nodes).map(|index| Arc::new(Node::new(index, &agents_clock, &chance.fork("node")))).collect();
        let server = ServerBox {
            backend: Arc::clone(&backend),
            troubles: Troubles::default(),
            clock: clock.another(),
            chance: chance.fork("server"),
        };
        let controllers_clocks = (0..CANDIDATES).map(|_| clock.another()).collect();
        let mut cluster = Self {
            wire,
            clock,
            nodes,
            backend,
            disk,
            server,
            hosts,
            controllers_clocks,
            chance,
            running: BTreeMap::new(),
            due: BTreeMap::new(),
            sequence: 0,
            unrecovered: None,
            crashes,
        };
        cluster.later(NOTICED_AFTER, Later::TellNeighbours);
        cluster
    }

    /// Returns every part there is.
    pub(crate) fn parts(&self) -> Vec<Part> {
        let agents = (0..self.nodes.len()).map(Part::Agent);
        let controllers = (0..CANDIDATES).map(Part::Controllers);
        [Part::Server].into_iter().chain(controllers).chain(agents).collect()
    }

    /// Starts a part, unless it runs.
    pub(crate) fn start(&mut self, part: Part) {
        if self.running.contains_key(&part) {
            return;
        }
        let shutdown = CancellationToken::new();
        let (wire, stop) = (self.wire.clone(), shutdown.clone());
        let task = match part {
            Part::Server => {
                let host = self.server.clone();
                tokio::spawn(async move { start_server(&host, &wire, stop).await })
            }
            Part::Controllers(number) => {
                let (clock, chance) = (self.controllers_clocks[number].clone(), self.chance.fork("controllers"));
                tokio::spawn(async move { run_controllers(number, &wire, clock, chance, stop).await })
            }
            Part::Agent(index) => {
                let node = Arc::clone(&self.nodes[index]);
                tokio::spawn(async move { node.run_agent(&wire, stop).await })
            }
            Part::User => return,
        };
        self.running.insert(part, Running { task, shutdown });
    }

    /// Ends a part without a word, to start again after `down`.
    pub(crate) fn crash(&mut self, part: Part, down: Duration) {
        self.wire.end(part);
        if let Some(running) = self.running.remove(&part) {
            running.task.abort();
            running.shutdown.cancel();
            if part == Part::Server {
                self.lose_power();
            }
            self.later(down, Later::Start(part));
        }
    }

    /// Lets a fault strike. Returns whether there was anything to strike.
    pub(crate) fn strike(&mut self, fault: &Fault) -> bool {
        let (now, millis) = (Instant::now(), Duration::from_millis);
        match *fault {
            Fault::Crash { part, moment: Moment::Now, down_ms } => self.crash(part, millis(down_ms)),
            Fault::Crash { part, moment, down_ms } => {
                self.wire.link(part, |link| link.crash_at(moment, millis(down_ms)));
            }
            Fault::Pause { part, ms } => self.wire.link(part, |link| link.pause(now, millis(ms))),
            Fault::Cut { part, cut, ms } => self.wire.link(part, |link| link.cut(cut, now, millis(ms))),
            Fault::Flap { part, period_ms, ms } => {
                self.wire.link(part, |link| link.flap(millis(period_ms), now, millis(ms)));
            }
            Fault::Slow { part, by_ms, ms } => self.wire.link(part, |link| link.slow(millis(by_ms), now, millis(ms))),
            Fault::LoseReply { part, nth } => self.wire.link(part, |link| link.lose_reply(nth)),
            Fault::BreakWatches { part } => self.wire.break_watches(part),
            Fault::ForgetHistory { part, ms } => {
                self.wire.link(part, |link| link.forget_history(now, millis(ms)));
                self.wire.break_watches(part);
            }
            Fault::StaleWatches { part, ms } => self.wire.link(part, |link| link.hold_watches(now, millis(ms))),
            Fault::DuplicateEvents { part, ms } => self.wire.link(part, |link| link.duplicate_events(now, millis(ms))),
            Fault::ClockJump { part, secs, ms } => {
                self.set_clock(part, secs);
                self.later(millis(ms), Later::RightClock(part));
            }
            Fault::Store { trouble, ms } => self.server.troubles.begin(trouble, millis(ms)),
            Fault::Compact => self.compact(),
            Fault::Engine { node, trouble, ms } => {
                self.nodes[node].trouble(trouble);
                self.later(millis(ms), Later::HealEngine(node));
            }
            Fault::ContainerEnds { node, which } => return self.nodes[node].end_container(which),
            Fault::Reboot { node, down_ms } => {
                self.crash(Part::Agent(node), millis(down_ms));
                self.nodes[node].state.reboot(true);
                self.silence(node, millis(down_ms));
            }
            Fault::HostSilent { node, cut, ms } => {
                if cut {
                    self.wire.link(Part::Agent(node), |link| link.cut(Cut::Both, now, millis(ms)));
                }
                self.silence(node, millis(ms));
            }
            Fault::Deaf { node, neighbour, ms } => {
                self.hosts.set_deaf(node, neighbour, true);
                self.later(NOTICED_AFTER, Later::TellNeighbours);
                self.later(millis(ms), Later::HostHears(node, neighbour));
            }
        }
        true
    }

    /// A host answers nobody for so long.
    fn silence(&mut self, host: usize, span: Duration) {
        self.hosts.falls_silent(host);
        self.later(NOTICED_AFTER, Later::TellNeighbours);
        self.later(span, Later::HostSpeaks(host));
    }

    /// Lets each node know what its questions to its neighbours find now.
    fn tell_neighbours(&self) {
        for (index, node) in self.nodes.iter().enumerate() {
            let heard = self.hosts.heard_by(index, |other| self.nodes[other].name.clone());
            node.state.heard.send_if_modified(|before| std::mem::replace(before, heard.clone()) != heard);
        }
    }

    /// Does what is due by itself until `until`: parts start again, faults end.
    pub(crate) async fn run_until(&mut self, until: Instant) {
        loop {
            let next = self.due.keys().next().map_or(until, |(at, _)| (*at).min(until));
            // Cancel-safe: a channel keeps what it holds, a timer only waits.
            tokio::select! {
                biased;
                Some(Crashed { part, down }) = self.crashes.recv() => self.crash(part, down),
                () = sleep_until(next) => self.do_due(),
            }
            if Instant::now() >= until {
                return;
            }
        }
    }

    /// Takes all faults away and starts what is down.
    pub(crate) fn heal(&mut self) {
        self.wire.heal();
        self.server.troubles.heal();
        self.due.clear();
        self.hosts.heal();
        self.tell_neighbours();
        for part in self.parts() {
            self.set_clock(part, 0);
            self.start(part);
        }
        self.nodes.iter().for_each(|node| node.heal());
    }

    /// Does the store's maintenance, which a thread does in a real server.
    pub(crate) fn tick(&self) {
        if let Some(disk) = &self.disk {
            disk.tick();
        }
    }

    /// The store's file is reopened as a crash leaves it.
    fn lose_power(&mut self) {
        if let Some(Err(error)) = self.disk.as_ref().map(|disk| disk.crash()) {
            self.unrecovered = Some(error.to_string());
        }
    }

    fn do_due(&mut self) {
        let now = Instant::now();
        while let Some(entry) = self.due.first_entry().filter(|entry| entry.key().0 <= now) {
            match entry.remove() {
                Later::Start(part) => self.start(part),
                Later::RightClock(part) => self.set_clock(part, 0),
                Later::HealEngine(node) => self.nodes[node].heal(),
                Later::HostSpeaks(host) => {
                    self.hosts.speaks(host);
                    self.later(NOTICED_AFTER, Later::TellNeighbours);
                }
                Later::HostHears(host, other) => {
                    self.hosts.set_deaf(host, other, false);
                    self.later(NOTICED_AFTER, Later::TellNeighbours);
                }
                Later::TellNeighbours => self.tell_neighbours(),
            }
        }
    }

    fn later(&mut self, after: Duration, what: Later) {
        self.sequence += 1;
        self.due.insert((Instant::now() + after, self.sequence), what);
    }

    fn set_clock(&self, part: Part, secs: i64) {
        match part {
            Part::Server => self.server.clock.set_offset_secs(secs),
            Part::Controllers(number) => self.controllers_clocks[number].set_offset_secs(secs),
            Part::Agent(index) => self.nodes[index].set_clock_offset(secs),
            Part::User => {}
        }
    }

    /// Compacts the store to what it holds now, past the server.
    fn compact(&self) {
        let backend = Arc::clone(&self.backend);
        tokio::spawn(async move {
            let compacted = match backend.revision().await {
                Ok(revision) => backend.compact(revision).await,
                Err(error) => Err(error),
            };
            if let Err(error) = compacted {
                tracing::debug!(%error, "not compacted");
            }
        });
    }
}
