//! Turns a node's silence into conditions and taints, with a brake for when we are the ones cut off.

mod plan;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Resource as _;
use serde_json::json;

use super::heartbeats::{Heartbeats, NODE_LEASES};
use crate::manager::Context;
use crate::objects::{owners, pods};
use crate::runtime::events::Severity;
use crate::runtime::{Cluster, Controller, Error, Index, ObjectKey, Outcome, WorkQueue};

pub use plan::{Action, Observed, Plan, Seen, plan};

/// Nodes are looked at this often: silence makes no event of its own.
const PERIOD: Duration = Duration::from_secs(5);
/// When our own view of the Leases is older than this, or its stream is down, silence says nothing about nodes. Longer
/// than a watch lasts, for in a cluster whose nodes are all dead the stream carries nothing but its own renewal.
const BLIND_AFTER: Duration = Duration::from_secs(90);

/// Watches over nodes. One pass sees them all, for the brake depends on their number.
#[derive(Debug)]
pub struct NodeLifecycleController {
    cluster: Cluster,
    heartbeats: Heartbeats,
    /// Since when this process has had sight of the Leases without a break.
    sighted_since: Mutex<Timestamp>,
}

/// Builds the controller and registers what wakes it.
pub fn register(context: &Context, queue: &WorkQueue) -> Arc<dyn Controller> {
    let mut cluster = context.cluster.clone();
    cluster.recorder = cluster.recorder.signed("node-controller");
    let own = queue.clone();
    cluster.nodes.on_change(move |change| {
        let facts = |node: &Option<Arc<Node>>| {
            node.as_ref().map(|node| {
                let ready = plan::ready_status(node).to_owned();
                (ready, node.spec.clone().unwrap_or_default().unschedulable, plan::pressures(node))
            })
        };
        if facts(&change.before) != facts(&change.after) {
            own.add(key());
        }
    });
    let heartbeats = Heartbeats::follow(&cluster);
    let sighted_since = Mutex::new(cluster.environment.now());
    Arc::new(NodeLifecycleController { cluster, heartbeats, sighted_since })
}

fn key() -> ObjectKey {
    ObjectKey::cluster("nodes")
}

#[async_trait::async_trait]
impl Controller for NodeLifecycleController {
    fn name(&self) -> &'static str {
        "nodelifecycle"
    }

    fn keys(&self) -> Vec<ObjectKey> {
        vec![key()]
    }

    async fn reconcile(&self, _key: &ObjectKey) -> Result<Outcome, Error> {
        self.cluster.nodes.caught_up().await?;
        let now = self.cluster.environment.now();
        let mut plan = plan(&self.observe(now), now);
        if self.confirm_silence(&plan, now).await? {
            plan = self::plan(&self.observe(now), now);
        }
        let mut first_error = None;
        for action in &plan.actions {
            if let Err(error) = self.apply(action, now).await {
                first_error.get_or_insert(error);
            }
        }
        first_error.map_or(Ok(Outcome::after(Some(PERIOD))), Err)
    }
}

impl NodeLifecycleController {
    /// Reads the Leases of nodes about to be given up past the cache; returns whether one turned out to be fresh.
    async fn confirm_silence(&self, plan: &Plan, now: Timestamp) -> Result<bool, Error> {
        let mut heard = false;
        for action in &plan.actions {
            let Action::MarkUnknown { node } = action else { continue };
            let before = self.heartbeats.heard_at(node);
            if let Some(lease) = self.cluster.leases.get_fresh(&ObjectKey::new(NODE_LEASES, node.clone())).await? {
                let renewed = lease.spec.as_ref().and_then(|spec| spec.renew_time.as_ref()).map(|time| time.0);
                self.heartbeats.note(node.clone(), renewed, now);
            }
            heard |= self.heartbeats.heard_at(node) != before;
        }
        Ok(heard)
    }

    fn observe(&self, now: Timestamp) -> Observed {
        let mut sighted_since = self.sighted_since.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.cluster.leases.is_live(now, BLIND_AFTER) {
            *sighted_since = now;
        }
        let seen = |node: Arc<Node>| {
            let heard_at = self.heartbeats.heard_at(owners::name(&node.metadata));
            let pods = self.cluster.pods.cache().by_index(Index::Node, owners::name(&node.metadata));
            let pods_ready = pods.iter().any(|pod| is_shown_ready(pod));
            Seen { node, heard_at, pods_ready }
        };
        let nodes = self.cluster.nodes.cache().all().into_iter().map(seen).collect();
        Observed { nodes, sighted_since: *sighted_since }
    }

    async fn apply(&self, action: &Action, now: Timestamp) -> Result<(), Error> {
        let nodes = self.cluster.nodes.cache();
        let node = |name: &str| nodes.get(&ObjectKey::cluster(name));
        match action {
            Action::MarkUnknown { node: name } => {
                let Some(node) = node(name) else { return Ok(()) };
                let message = format!("Node {name} has not been heard for too long");
                self.cluster.recorder.record(node.object_ref(&()), Severity::Normal, "NodeNotReady", message);
                let conditions = plan::unknown_conditions(&node, now);
                self.cluster.nodes.patch(&node, json!({"status": {"conditions": conditions}}), Some("status")).await?;
                Ok(())
            }
            Action::SetTaints { node: name, taints } => {
                let Some(node) = node(name) else { return Ok(()) };
                let taints = if taints.is_empty() { serde_json::Value::Null } else { json!(taints) };
                // The status write above may have moved the version on; the next pass then sets the taints.
                match self.cluster.nodes.patch(&node, json!({"spec": {"taints": taints}}), None).await {
                    Err(error) if !error.is_conflict() => Err(error),
                    _ => Ok(()),
                }
            }
            Action::MarkPodsNotReady { node: name } => self.mark_pods_not_ready(name, now).await,
            Action::SuspectPartition { node: name, message } => {
                let Some(node) = node(name) else { return Ok(()) };
                self.cluster.recorder.record(
                    node.object_ref(&()),
                    Severity::Warning,
                    "PartitionSuspected",
                    message.clone(),
                );
                Ok(())
            }
        }
    }

    /// Takes the pods of a lost node out of Services. Their agent, when it comes back, says what is true.
    async fn mark_pods_not_ready(&self, node: &str, now: Timestamp) -> Result<(), Error> {
        for pod in self.cluster.pods.cache().by_index(Index::Node, node) {
            if is_shown_ready(&pod) {
                let conditions = plan::not_ready_conditions(&pod, now);
                let patch = json!({"status": {"conditions": conditions}});
                match self.cluster.pods.patch(&pod, patch, Some("status")).await {
                    Err(error) if !error.is_conflict() && !error.is_not_found() => return Err(error),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

fn is_shown_ready(pod: &Pod) -> bool {
    pods::is_true(pod, "Ready") || pods::is_true(pod, "ContainersReady")
}
