//! Gives each Node its pod range and its host name label.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use kube::Resource as _;
use serde_json::json;

use super::cidr::{Range, allocate};
use crate::manager::Context;
use crate::objects::owners;
use crate::runtime::events::Severity;
use crate::runtime::{Cluster, Controller, Error, ObjectKey, Outcome, WorkQueue};

/// The label that pods are pinned to a node by.
const HOST_NAME: &str = "kubernetes.io/hostname";

/// Allocates pod ranges. One pass at a time sees all nodes, so no range is given twice.
#[derive(Debug)]
pub struct NodeIpamController {
    cluster: Cluster,
    range: Option<Range>,
    prefix_len: u8,
}

/// Builds the controller and registers what wakes it.
pub fn register(context: &Context, queue: &WorkQueue) -> Arc<dyn Controller> {
    let mut cluster = context.cluster.clone();
    cluster.recorder = cluster.recorder.signed("cidrAllocator");
    let own = queue.clone();
    cluster.nodes.on_change(move |change| {
        if change.after.as_ref().is_some_and(|node| needs_range(node)) || change.after.is_none() {
            own.add(key());
        }
    });
    let range = Range::parse(&context.config.cluster_cidr);
    Arc::new(NodeIpamController { cluster, range, prefix_len: context.config.node_prefix_len })
}

fn key() -> ObjectKey {
    ObjectKey::cluster("nodes")
}

fn needs_range(node: &Node) -> bool {
    node.spec.as_ref().and_then(|spec| spec.pod_cidr.as_deref()).is_none_or(str::is_empty)
        && !owners::is_terminating(&node.metadata)
}

/// Returns the range each node without one shall get, oldest node first; `None` when the cluster has none left.
pub fn plan(nodes: &[Arc<Node>], range: Range, prefix_len: u8) -> Vec<(Arc<Node>, Option<String>)> {
    let taken = nodes.iter().filter_map(|node| node.spec.as_ref()?.pod_cidr.as_deref());
    let mut without: Vec<Arc<Node>> = nodes.iter().filter(|node| needs_range(node)).cloned().collect();
    without.sort_by_key(|node| {
        (node.metadata.creation_timestamp.as_ref().map(|time| time.0), owners::name(&node.metadata).to_owned())
    });
    let mut free = allocate(range, prefix_len, taken, without.len()).into_iter();
    without.into_iter().map(|node| (node, free.next())).collect()
}

#[async_trait::async_trait]
impl Controller for NodeIpamController {
    fn name(&self) -> &'static str {
        "nodeipam"
    }

    fn keys(&self) -> Vec<ObjectKey> {
        vec![key()]
    }

    async fn reconcile(&self, _key: &ObjectKey) -> Result<Outcome, Error> {
        self.cluster.nodes.caught_up().await?;
        let Some(range) = self.range else { return Ok(Outcome::DONE) };
        for (node, share) in plan(&self.cluster.nodes.cache().all(), range, self.prefix_len) {
            let Some(share) = share else {
                let message = "No pod range is left in the cluster's range; the node cannot run pods";
                self.cluster.recorder.record(node.object_ref(&()), Severity::Warning, "CIDRNotAvailable", message);
                continue;
            };
            let mut patch = json!({"spec": {"podCIDR": share, "podCIDRs": [share]}});
            if !node.metadata.labels.iter().flatten().any(|(name, _)| name == HOST_NAME) {
                patch["metadata"] = json!({"labels": {HOST_NAME: owners::name(&node.metadata)}});
            }
            self.cluster.nodes.patch(&node, patch, None).await?;
        }
        Ok(Outcome::DONE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, cidr: Option<&str>) -> Arc<Node> {
        Arc::new(serde_json::from_value(json!({"metadata": {"name": name}, "spec": {"podCIDR": cidr}})).unwrap())
    }

    #[test]
    fn nodes_without_a_range_get_one_each_and_the_last_goes_without() {
        let nodes = [node("c", None), node("a", Some("10.0.0.0/24")), node("b", None)];
        let plan = plan(&nodes, Range::parse("10.0.0.0/23").unwrap(), 24);
        let text: Vec<_> = plan.iter().map(|(node, share)| (owners::name(&node.metadata), share.as_deref())).collect();
        assert_eq!(text, [("b", Some("10.0.1.0/24")), ("c", None)]);
    }

    #[test]
    fn a_fleet_with_ranges_needs_nothing() {
        assert!(plan(&[node("a", Some("10.0.0.0/24"))], Range::parse("10.0.0.0/16").unwrap(), 24).is_empty());
    }
}
