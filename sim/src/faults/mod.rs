//! What can go wrong, as values: a schedule of them can be printed, replayed and shrunk.

mod generate;
mod tally;

use std::fmt;

pub use generate::faults;
pub use tally::{Phase, Tally};

/// Processes of controllers that compete for the lead.
pub const CANDIDATES: usize = 2;

/// A part of the cluster that can fail on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The API server with its registry and watch cache.
    Server,
    /// The n-th process of controllers; one of them leads.
    Controllers(usize),
    /// The agent of the n-th node.
    Agent(usize),
    /// Whoever drives the cluster. Users do not fail; they try again.
    User,
}

impl fmt::Display for Part {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server => write!(formatter, "server"),
            Self::Controllers(number) => write!(formatter, "controllers c{number}"),
            Self::Agent(node) => write!(formatter, "agent of n{node}"),
            Self::User => write!(formatter, "user"),
        }
    }
}

/// When a crash strikes, counted in requests of the part: to the API, or of the server to its store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// At once.
    Now,
    /// Before the n-th request from now is sent.
    BeforeRequest(u64),
    /// After the n-th request from now has been carried out, before its reply arrives.
    AfterEffect(u64),
    /// After the reply to the n-th request from now, before anything is done with it.
    AfterReply(u64),
}

/// Which way a link is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Nothing arrives at the server.
    Requests,
    /// What arrives is carried out, no reply and no watch event comes back.
    Replies,
    /// Both.
    Both,
}

/// What an engine does wrong for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineTrouble {
    /// Every call of an operation fails.
    Fails(&'static str),
    /// Every call of an operation takes effect and its reply is lost.
    LosesReplies(&'static str),
    /// Every call of an operation hangs.
    Hangs(&'static str),
    /// Events are lost.
    LosesEvents,
    /// Every call takes long.
    Slow,
}

/// How the store fails for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreTrouble {
    /// Writes fail and are not carried out.
    Refuses,
    /// Writes are carried out and reported as failed.
    LosesReplies,
    /// Writes take long.
    Slow,
    /// The disk is full: only deletes are accepted.
    Full,
}

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A part ends without a word and starts again later.
    Crash {
        /// Which part.
        part: Part,
        /// When.
        moment: Moment,
        /// How long it stays away.
        down_ms: u64,
    },
    /// A part stands still: nothing leaves it and nothing reaches it.
    Pause {
        /// Which part.
        part: Part,
        /// For how long.
        ms: u64,
    },
    /// A link is cut.
    Cut {
        /// Whose link to the server.
        part: Part,
        /// Which way.
        cut: Cut,
        /// For how long.
        ms: u64,
    },
    /// A link comes and goes.
    Flap {
        /// Whose link.
        part: Part,
        /// Half of this it is up, half down.
        period_ms: u64,
        /// For how long.
        ms: u64,
    },
    /// A link is slow.
    Slow {
        /// Whose link.
        part: Part,
        /// Each way takes this much longer.
        by_ms: u64,
        /// For how long.
        ms: u64,
    },
    /// The reply to one request is lost.
    LoseReply {
        /// Whose request.
        part: Part,
        /// The n-th write from now.
        nth: u64,
    },
    /// All watches of a part break.
    BreakWatches {
        /// Whose.
        part: Part,
    },
    /// All watches of a part break and must begin with a new list: what happened in between goes unobserved.
    ForgetHistory {
        /// Whose.
        part: Part,
        /// It cannot watch for so long.
        ms: u64,
    },
    /// Watch events arrive late: the part acts on stale views.
    StaleWatches {
        /// Whose.
        part: Part,
        /// For how long they are held back.
        ms: u64,
    },
    /// Watch events arrive more than once.
    DuplicateEvents {
        /// Whose.
        part: Part,
        /// For how long.
        ms: u64,
    },
    /// A part's clock jumps.
    ClockJump {
        /// Whose.
        part: Part,
        /// By how much, either way.
        secs: i64,
        /// Until it is put right.
        ms: u64,
    },
    /// The store fails.
    Store {
        /// How.
        trouble: StoreTrouble,
        /// For how long.
        ms: u64,
    },
    /// The store forgets its history up to now.
    Compact,
    /// The engine of a node fails.
    Engine {
        /// The node.
        node: usize,
        /// How.
        trouble: EngineTrouble,
        /// For how long.
        ms: u64,
    },
    /// A running container of a node ends.
    ContainerEnds {
        /// The node.
        node: usize,
        /// Chooses the container.
        which: u64,
    },
    /// A node loses its power and comes back: no container runs, no sandbox is left.
    Reboot {
        /// The node.
        node: usize,
        /// How long it stays away.
        down_ms: u64,
    },
    /// The host of a node answers none of its neighbours, nor they it.
    HostSilent {
        /// The node.
        node: usize,
        /// Whether its agent does not reach the server either: then nobody can tell it from a dead one.
        cut: bool,
        /// For how long.
        ms: u64,
    },
    /// A node does not hear a neighbour that is well.
    Deaf {
        /// Who does not hear.
        node: usize,
        /// Whom.
        neighbour: usize,
        /// For how long.
        ms: u64,
    },
}

impl Fault {
    /// The name of its kind, for the counters.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Crash { moment: Moment::Now, .. } => "crash",
            Self::Crash { moment: Moment::BeforeRequest(_), .. } => "crash before request",
            Self::Crash { moment: Moment::AfterEffect(_), .. } => "crash after effect",
            Self::Crash { moment: Moment::AfterReply(_), .. } => "crash after reply",
            Self::Pause { .. } => "pause",
            Self::Cut { cut: Cut::Requests, .. } => "requests cut",
            Self::Cut { cut: Cut::Replies, .. } => "replies cut",
            Self::Cut { cut: Cut::Both, .. } => "link cut",
            Self::Flap { .. } => "flapping link",
            Self::Slow { .. } => "slow link",
            Self::LoseReply { .. } => "lost reply",
            Self::BreakWatches { .. } => "broken watches",
            Self::ForgetHistory { .. } => "forgotten history",
            Self::StaleWatches { .. } => "stale views",
            Self::DuplicateEvents { .. } => "duplicate events",
            Self::ClockJump { .. } => "clock jump",
            Self::Store { trouble: StoreTrouble::Refuses, .. } => "store errors",
            Self::Store { trouble: StoreTrouble::LosesReplies, .. } => "store loses replies",
            Self::Store { trouble: StoreTrouble::Slow, .. } => "slow store",
            Self::Store { trouble: StoreTrouble::Full, .. } => "full store",
            Self::Compact => "compaction",
            Self::Engine { trouble: EngineTrouble::Fails(_), .. } => "engine errors",
            Self::Engine { trouble: EngineTrouble::LosesReplies(_), .. } => "engine loses replies",
            Self::Engine { trouble: EngineTrouble::Hangs(_), .. } => "engine hangs",
            Self::Engine { trouble: EngineTrouble::LosesEvents, .. } => "engine loses events",
            Self::Engine { trouble: EngineTrouble::Slow, .. } => "slow engine",
            Self::ContainerEnds { .. } => "container ends",
            Self::Reboot { .. } => "node loss and return",
            Self::HostSilent { cut: true, .. } => "host cut off",
            Self::HostSilent { cut: false, .. } => "host drops echoes",
            Self::Deaf { .. } => "deaf neighbour",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self:?}")
    }
}
