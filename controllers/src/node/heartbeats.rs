//! When each node was last heard, by this process's own clock.
//!
//! The times that agents write into Leases are compared with themselves only: a node whose clock is off is not a dead
//! node, and a controller that just started has heard nobody yet and gives everybody the full time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use crate::objects::owners;
use crate::runtime::Cluster;

/// The namespace of node Leases.
pub const NODE_LEASES: &str = "kube-node-lease";
/// A node silent for this long is no longer counted on, as in Kubernetes.
pub const SILENCE_MAX: Duration = Duration::from_secs(40);

/// The last heartbeat of each node. Clones share the memory.
#[derive(Debug, Clone, Default)]
pub struct Heartbeats {
    heard: Arc<Mutex<BTreeMap<String, Heartbeat>>>,
}

#[derive(Debug)]
struct Heartbeat {
    /// What the agent wrote, compared only with what it wrote before.
    renewed: Option<Timestamp>,
    /// When this process saw it change.
    heard: Timestamp,
    /// How often it has.
    renewals: u64,
}

impl Heartbeats {
    /// Notes every change of a node Lease's renew time from now on.
    pub fn follow(cluster: &Cluster) -> Self {
        let heartbeats = Self::default();
        let (noting, environment) = (heartbeats.clone(), cluster.environment.clone());
        cluster.leases.on_change(move |change| {
            let node = change.versions().next().map(|lease| owners::name(&lease.metadata).to_owned());
            let in_scope = change.versions().all(|lease| owners::namespace(&lease.metadata) == NODE_LEASES);
            let Some(node) = node.filter(|_| in_scope) else { return };
            match &change.after {
                None => noting.forget(&node),
                Some(lease) => {
                    let renewed = lease.spec.as_ref().and_then(|spec| spec.renew_time.as_ref()).map(|time| time.0);
                    noting.note(node, renewed, environment.now());
                }
            }
        });
        heartbeats
    }

    /// Returns when a node was last heard; `None` when it never was.
    pub fn heard_at(&self, node: &str) -> Option<Timestamp> {
        self.lock().get(node).map(|heartbeat| heartbeat.heard)
    }

    /// Returns how often a node was heard by this process.
    pub fn renewals(&self, node: &str) -> u64 {
        self.lock().get(node).map_or(0, |heartbeat| heartbeat.renewals)
    }

    /// Notes what an agent wrote; only a change counts as a heartbeat.
    pub(super) fn note(&self, node: String, renewed: Option<Timestamp>, now: Timestamp) {
        let mut heard = self.lock();
        let known = heard.get(&node).is_some_and(|before| before.renewed == renewed);
        if !known {
            let foreign_clock = renewed.filter(|_| drover_api::mutants::active("T01-trusts-the-nodes-clock"));
            let renewals = heard.get(&node).map_or(0, |before| before.renewals) + 1;
            heard.insert(node, Heartbeat { renewed, heard: foreign_clock.unwrap_or(now), renewals });
        }
    }

    fn forget(&self, node: &str) {
        self.lock().remove(node);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Heartbeat>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    #[test]
    fn a_node_is_heard_when_its_heartbeat_comes_whatever_its_clock_says() {
        let heartbeats = Heartbeats::default();
        let now: Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
        let (slow, later) = (now - SignedDuration::from_hours(2), now + SignedDuration::from_secs(10));
        heartbeats.note("n".to_owned(), Some(slow), now);
        assert_eq!(heartbeats.heard_at("n"), Some(now));
        heartbeats.note("n".to_owned(), Some(slow), later);
        assert_eq!(heartbeats.heard_at("n"), Some(now), "the same word again is no heartbeat");
        heartbeats.note("n".to_owned(), Some(slow + SignedDuration::from_secs(10)), later);
        assert_eq!(heartbeats.heard_at("n"), Some(later));
    }
}
