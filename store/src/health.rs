//! What a store says about itself.

use crate::Revision;

/// Whether a store takes writes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum State {
    /// Everything works.
    #[default]
    Serving,
    /// The disk is full: only deletes are accepted. Ends by itself when there is space again.
    Full,
    /// The disk or the data failed; nothing is acknowledged until the process is started again.
    Broken {
        /// What failed first.
        reason: String,
    },
}

/// The state of a store and its counters since it was opened.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Health {
    /// Whether it takes writes.
    pub state: State,
    /// Newest revision.
    pub revision: Revision,
    /// Oldest readable revision.
    pub compacted: Revision,
    /// Transactions that wrote something.
    pub transactions: u64,
    /// Durable commits; fewer than transactions when writers share them.
    pub commits: u64,
    /// Most transactions that shared one commit.
    pub largest_batch: usize,
    /// Syncs of the data file.
    pub syncs: u64,
    /// Compactions done.
    pub compactions: u64,
    /// Rounds of maintenance that failed since the last one that succeeded; 0 when all is well, alarm from 2.
    pub maintenance_failures: u64,
    /// The last failure of maintenance.
    pub maintenance_error: Option<String>,
    /// Whether rows of compacted history are still being removed.
    pub purging: bool,
    /// Length of the data file.
    pub file_bytes: u64,
}
