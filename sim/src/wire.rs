//! The simulated network between the parts: who is alive, how each link is, and where the server is.
//!
//! Every effect of a part leaves it through here, so cutting a part off here is what ends it: a dead part's tasks may
//! still run, but nothing they do is seen by anyone.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use drover_apiserver::InProcess;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use crate::{
    chance::Chance,
    faults::Part,
    link::{Fate, Link},
};

/// How long a message takes on a good link, at most.
const LATENCY_MAX: Duration = Duration::from_millis(4);
/// After so long without a reply a connection counts as broken: what HTTP/2 pings find out.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(30);

/// A part crashed at a request: start it again after the time given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Crashed {
    /// Which part.
    pub(crate) part: Part,
    /// How long it stays away.
    pub(crate) down: Duration,
}

/// One life of a part, from a start to a crash.
#[derive(Debug, Clone)]
pub(crate) struct Life {
    /// Whose.
    pub(crate) part: Part,
    ended: watch::Receiver<bool>,
}

/// The network. Clones are the same.
#[derive(Clone)]
pub(crate) struct Wire {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    chance: Chance,
    crashes: mpsc::UnboundedSender<Crashed>,
    full: bool,
}

#[derive(Default)]
struct State {
    links: BTreeMap<Part, Link>,
    lives: BTreeMap<Part, watch::Sender<bool>>,
    server: Option<(Arc<InProcess>, Life)>,
    breaks: BTreeMap<Part, watch::Sender<u64>>,
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Wire").finish_non_exhaustive()
    }
}

impl Life {
    /// Whether the part has crashed since.
    pub(crate) fn is_over(&self) -> bool {
        *self.ended.borrow()
    }

    /// Waits for the crash.
    pub(crate) async fn over(&self) {
        // A sender that is gone means the same as a crash: nobody will start this life again.
        drop(self.ended.clone().wait_for(|ended| *ended).await);
    }

    /// What a dead part does for ever.
    pub(crate) async fn hold<T>(&self) -> T {
        std::future::pending().await
    }
}

impl Wire {
    /// Makes a network without parts; crashes at requests are reported to `crashes`.
    /// With `full`, requests travel as bytes over connections.
    pub(crate) fn new(chance: Chance, crashes: mpsc::UnboundedSender<Crashed>, full: bool) -> Self {
        Self { shared: Arc::new(Shared { state: Mutex::default(), chance, crashes, full }) }
    }

    /// Whether requests travel as bytes over connections.
    pub(crate) fn is_full(&self) -> bool {
        self.shared.full
    }

    /// Begins a life of `part`.
    pub(crate) fn begin(&self, part: Part) -> Life {
        let mut state = self.lock();
        let (sender, ended) = watch::channel(false);
        state.lives.insert(part, sender);
        Life { part, ended }
    }

    /// Ends the present life of `part`; its connections break.
    pub(crate) fn end(&self, part: Part) {
        let mut state = self.lock();
        if let Some(ended) = state.lives.get(&part) {
            ended.send_replace(true);
        }
        if part == Part::Server {
            state.server = None;
        }
    }

    /// Crashes a part at a request of one of its lives; a life that is over already cannot crash again.
    pub(crate) fn crash(&self, life: &Life, down: Duration) {
        if !life.is_over() {
            self.end(life.part);
            // The simulation outlives all parts.
            let _ = self.shared.crashes.send(Crashed { part: life.part, down });
        }
    }

    /// Puts a server on the network.
    pub(crate) fn serve(&self, server: Arc<InProcess>, life: Life) {
        self.lock().server = Some((server, life));
    }

    /// Returns the server that answers now.
    pub(crate) fn server(&self) -> Option<(Arc<InProcess>, Life)> {
        self.lock().server.clone().filter(|(_, life)| !life.is_over())
    }

    /// Changes a link.
    pub(crate) fn link<T>(&self, part: Part, change: impl FnOnce(&mut Link) -> T) -> T {
        change(self.lock().links.entry(part).or_default())
    }

    /// Takes all faults of all links away.
    pub(crate) fn heal(&self) {
        self.lock().links.values_mut().for_each(Link::heal);
    }

    /// Breaks the watches of a part.
    pub(crate) fn break_watches(&self, part: Part) {
        self.lock().breaks.entry(part).or_default().send_modify(|count| *count += 1);
    }

    /// Wakes when the watches of a part break.
    pub(crate) fn watch_breaks(&self, part: Part) -> watch::Receiver<u64> {
        self.lock().breaks.entry(part).or_default().subscribe()
    }

    /// Counts a request and says what it is in for.
    pub(crate) fn fate(&self, part: Part, is_write: bool) -> Fate {
        self.link(part, |link| link.next_request(is_write))
    }

    /// Lets one message of `part` travel, one way. Returns whether it arrived in time.
    pub(crate) async fn travel(&self, part: Part, blocked: impl Fn(&Link, Instant) -> Option<Instant>) -> bool {
        let patience_ends = Instant::now() + SILENCE_MAX;
        loop {
            let now = Instant::now();
            let free_at = self.link(part, |link| blocked(link, now));
            let Some(free_at) = free_at else { break };
            tokio::time::sleep_until(free_at.min(patience_ends)).await;
            if Instant::now() >= patience_ends {
                return false;
            }
        }
        let slower = self.link(part, |link| link.delay(Instant::now()));
        let micros = self.shared.chance.between(100, LATENCY_MAX.as_micros() as u64);
        tokio::time::sleep(Duration::from_micros(micros) + slower).await;
        true
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
