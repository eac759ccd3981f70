//! Tells every node how far all service proxies have come: the agreement that acked join and drain stand on.
//!
//! Each node notes on its Lease the highest EndpointSlice revision its kernel table holds; the smallest of them over
//! the live nodes is published on one Lease that every agent watches. Owns that Lease and nothing else.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;

use crate::manager::Context;
use crate::node::heartbeats::{Heartbeats, NODE_LEASES, SILENCE_MAX};
use crate::node::lifecycle::is_down;
use crate::node::published::publish;
use crate::objects::owners;
use crate::runtime::{Cluster, Controller, Error, ObjectKey, Outcome, WorkQueue};

/// The annotation on a node's Lease: the highest EndpointSlice revision its proxy has applied.
pub const PROXY_REVISION: &str = "drover.dev/proxy-revision";
/// The annotation on the published Lease: what every live proxy has applied.
pub const ACKNOWLEDGED_REVISION: &str = "drover.dev/acknowledged-revision";
/// The published Lease, in `kube-node-lease`.
pub const PUBLISHED: &str = "drover-proxies";

/// What is known of one node's proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    /// The revision it has applied; `None` for a node that runs no proxy.
    pub revision: Option<u64>,
    /// When its node was last heard.
    pub heard_at: Timestamp,
}

/// Returns the revision that every live proxy has applied; `None` when there is no live proxy. A node that has fallen
/// silent serves nobody that could be waited for.
pub fn acknowledged(proxies: &[Proxy], now: Timestamp) -> Option<u64> {
    let live = proxies.iter().filter(|proxy| is_live(proxy, now)).filter_map(|proxy| proxy.revision);
    if drover_api::mutants::active("E03-fastest-proxy-decides") { live.max() } else { live.min() }
}

fn is_live(proxy: &Proxy, now: Timestamp) -> bool {
    Duration::try_from(now.duration_since(proxy.heard_at)).unwrap_or_default() < SILENCE_MAX
}

/// Publishes the acknowledged revision.
#[derive(Debug)]
pub struct ProxyAckController {
    cluster: Cluster,
    heartbeats: Heartbeats,
}

/// Builds the controller and registers what wakes it.
pub fn register(context: &Context, queue: &WorkQueue) -> Arc<dyn Controller> {
    let cluster = context.cluster.clone();
    let heartbeats = Heartbeats::follow(&cluster);
    let own = queue.clone();
    cluster.leases.on_change(move |change| {
        if change.versions().any(|lease| owners::namespace(&lease.metadata) == NODE_LEASES) {
            own.add(key());
        }
    });
    let by_node = queue.clone();
    cluster.nodes.on_change(move |change| {
        if change.versions().any(|node| is_down(node)) {
            by_node.add(key());
        }
    });
    Arc::new(ProxyAckController { cluster, heartbeats })
}

fn key() -> ObjectKey {
    ObjectKey::new(NODE_LEASES, PUBLISHED)
}

#[async_trait::async_trait]
impl Controller for ProxyAckController {
    fn name(&self) -> &'static str {
        "proxyack"
    }

    fn keys(&self) -> Vec<ObjectKey> {
        vec![key()]
    }

    async fn reconcile(&self, _key: &ObjectKey) -> Result<Outcome, Error> {
        self.cluster.leases.caught_up().await?;
        let now = self.cluster.environment.now();
        let proxies = self.observe();
        // Only the passage of time takes a silent node out; looking again when it is due costs next to nothing.
        let next = proxies.iter().filter(|proxy| is_live(proxy, now)).map(|proxy| {
            SILENCE_MAX.saturating_sub(Duration::try_from(now.duration_since(proxy.heard_at)).unwrap_or_default())
        });
        let outcome = Outcome::after(next.min().map(|left| left + Duration::from_millis(10)));
        let Some(revision) = acknowledged(&proxies, now) else { return Ok(outcome) };
        publish(&self.cluster, PUBLISHED, ACKNOWLEDGED_REVISION, revision.to_string()).await?;
        Ok(outcome)
    }
}

impl ProxyAckController {
    fn observe(&self) -> Vec<Proxy> {
        let leases = self.cluster.leases.cache();
        let nodes = self.cluster.nodes.cache().all();
        let proxy = |node: &Arc<Node>| {
            let name = owners::name(&node.metadata);
            let lease = leases.get(&ObjectKey::new(NODE_LEASES, name))?;
            let revision = lease.metadata.annotations.iter().flatten().find(|(name, _)| *name == PROXY_REVISION);
            let heard_at = self.heartbeats.heard_at(name)?;
            Some(Proxy { revision: revision.and_then(|(_, text)| text.parse().ok()), heard_at })
        };
        // A host that is gone takes its proxy with it.
        nodes.iter().filter(|node| !is_down(node)).filter_map(proxy).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::SignedDuration;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1_000_000 + seconds)
    }

    fn proxy(revision: Option<u64>, heard: i64) -> Proxy {
        Proxy { revision, heard_at: at(heard) }
    }

    #[test]
    fn the_slowest_live_proxy_decides() {
        assert_eq!(acknowledged(&[proxy(Some(9), 0), proxy(Some(7), 0)], at(1)), Some(7));
    }

    #[test]
    fn a_node_that_fell_silent_or_runs_no_proxy_holds_nobody_up() {
        assert_eq!(acknowledged(&[proxy(Some(9), 0), proxy(Some(7), -60), proxy(None, 0)], at(1)), Some(9));
    }

    #[test]
    fn without_a_live_proxy_nothing_is_acknowledged() {
        assert_eq!(acknowledged(&[proxy(Some(7), -60)], at(1)), None);
        assert_eq!(acknowledged(&[], at(1)), None);
    }

    #[test]
    fn a_clock_behind_the_heartbeat_does_not_kill_the_node() {
        assert_eq!(acknowledged(&[proxy(Some(7), 500)], at(0)), Some(7));
    }
}
