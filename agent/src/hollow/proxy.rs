//! The service proxy of a hollow node: the shipping proxy's tables, kept in memory instead of the kernel.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::proxy::{ProxyConfig, ProxyInput, Tables, desired, raise};

/// The table of Services as a simulated kernel holds it. Cheap to clone; clones are the same table. It outlives the
/// agent.
#[derive(Debug, Clone)]
pub struct ProxyTable {
    applied: Arc<Mutex<AppliedTable>>,
    stuck: watch::Sender<bool>,
}

/// What the table holds.
#[derive(Debug, Clone, Default)]
pub struct AppliedTable {
    /// Chains and elements.
    pub tables: Tables,
    /// The EndpointSlice revision that they are made from; 0 for an empty table.
    pub revision: u64,
}

impl Default for ProxyTable {
    fn default() -> Self {
        Self { applied: Arc::default(), stuck: watch::channel(false).0 }
    }
}

impl ProxyTable {
    /// What the table holds now.
    pub fn applied(&self) -> AppliedTable {
        self.lock().clone()
    }

    /// Whether the kernel refuses every change from now on; nothing is acknowledged meanwhile.
    pub fn set_stuck(&self, stuck: bool) {
        self.stuck.send_replace(stuck);
    }

    /// Empties the table, as the host's end does.
    pub(super) fn lose(&self) {
        *self.lock() = AppliedTable::default();
    }

    fn lock(&self) -> MutexGuard<'_, AppliedTable> {
        self.applied.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps the table as the informers demand it, and publishes the applied revision, until `stop`. The input is `None` until
/// the informers have synced. Without a table every revision is acknowledged as it comes.
pub(super) async fn keep(
    config: ProxyConfig,
    mut input: watch::Receiver<Option<ProxyInput>>,
    table: Option<ProxyTable>,
    acknowledged: watch::Sender<u64>,
    stop: CancellationToken,
) {
    // A sender of its own, so that a node without a table waits on nothing.
    let never = watch::channel(false).0;
    let mut stuck = table.as_ref().map_or(&never, |table| &table.stuck).subscribe();
    loop {
        let present = input.borrow_and_update().clone();
        let refused = *stuck.borrow_and_update();
        if let Some(present) = present.filter(|_| !refused) {
            if let Some(table) = &table {
                *table.lock() = AppliedTable { tables: desired(&present, &config), revision: present.revision };
            }
            acknowledged.send_if_modified(|revision| raise(revision, present.revision));
        }
        // Cancel-safe: watches and a token.
        tokio::select! {
            () = stop.cancelled() => return,
            changed = input.changed() => if changed.is_err() { return stop.cancelled().await },
            Ok(()) = stuck.changed() => {}
        }
    }
}
