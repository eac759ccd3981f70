//! Turns a node's silence, and the loss of its host, into conditions and taints, with a brake for when we are the ones
//! cut off.
//!
//! Two findings, with two meanings. An agent that is silent for 40 s may have crashed while its pods run on: they are
//! taken out of Services and evicted when their tolerations end. A host that its neighbours have lost and that does not
//! answer the roll call is gone with all that was on it, and so found within two seconds: its pods are replaced at once.

mod plan;
mod roll_call;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::stream::{StreamExt as _, TryStreamExt as _, iter};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod, Taint};
use kube::Resource as _;
use serde_json::json;
use tokio::time::Instant;

use super::heartbeats::{Heartbeats, NODE_LEASES};
use super::published::publish;
use crate::manager::Context;
use crate::objects::{owners, pods};
use crate::runtime::events::Severity;
use crate::runtime::{Cluster, Controller, Error, Index, ObjectKey, Outcome, WorkQueue};

use plan::Loss;
pub(crate) use plan::is_down;
pub use plan::{Action, Observed, Plan, Seen, plan};
pub use roll_call::{RollCall, Word};

/// Nodes are looked at this often: silence makes no event of its own.
const PERIOD: Duration = Duration::from_secs(5);
/// When our own view of the Leases is older than this, or its stream is down, silence says nothing about nodes. Longer
/// than a watch lasts, for in a cluster whose nodes are all dead the stream carries nothing but its own renewal.
const BLIND_AFTER: Duration = Duration::from_secs(90);
/// What a node's Lease says of its neighbours, with commas between the names: those that answer it, and those that did
/// and do so no more.
const HEARD: &str = "drover.dev/heard";
const LOST: &str = "drover.dev/lost";
/// The Lease on which nodes are called upon to renew theirs, in `kube-node-lease`; every agent watches it.
const ROLL_CALL: &str = "drover-roll-call";
/// Whose hosts may be gone, or are; with commas between the names.
const SUSPECTS: &str = "drover.dev/suspects";
/// Pods of a lost node written at a time.
const POD_WRITES_MAX: usize = 16;

/// Watches over nodes. One pass sees them all, for the brake depends on their number.
#[derive(Debug)]
pub struct NodeLifecycleController {
    cluster: Cluster,
    heartbeats: Heartbeats,
    /// Since when this process has had sight of the Leases without a break.
    sighted_since: Mutex<Timestamp>,
    roll_call: Mutex<RollCall>,
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
    // After the heartbeats have taken it in.
    let by_lease = queue.clone();
    cluster.leases.on_change(move |change| {
        let says_lost = |lease: &Arc<Lease>| !names(lease, LOST).is_empty();
        if change.versions().any(|lease| owners::namespace(&lease.metadata) == NODE_LEASES && says_lost(lease)) {
            by_lease.add(key());
        }
    });
    let sighted_since = Mutex::new(cluster.environment.now());
    let roll_call = Mutex::new(RollCall::default());
    Arc::new(NodeLifecycleController { cluster, heartbeats, sighted_since, roll_call })
}

/// Reads a list of names from an annotation.
fn names(lease: &Lease, annotation: &str) -> BTreeSet<String> {
    let text = lease.metadata.annotations.as_ref().and_then(|annotations| annotations.get(annotation));
    let names = text.map(String::as_str).unwrap_or_default().split(',');
    names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
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
        // First of all: the sooner everybody is asked, the sooner it is known.
        self.publish_suspects().await?;
        if self.confirm_silence(&plan, now).await? {
            plan = self::plan(&self.observe(now), now);
        }
        let mut first_error = None;
        for action in &plan.actions {
            if let Err(error) = self.apply(action, now).await {
                first_error.get_or_insert(error);
            }
        }
        let is_calling = self.lock_roll_call().suspects().next().is_some();
        let next = if is_calling { roll_call::LOOK_EVERY } else { PERIOD };
        first_error.map_or(Ok(Outcome::after(Some(next))), Err)
    }
}

impl NodeLifecycleController {
    /// Reads the Leases of nodes about to be given up past the cache; returns whether one turned out to be fresh.
    async fn confirm_silence(&self, plan: &Plan, now: Timestamp) -> Result<bool, Error> {
        let mut heard = false;
        for action in &plan.actions {
            let (Action::MarkUnknown { node } | Action::MarkDown { node, .. }) = action else { continue };
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
            let pods_unmarked = pods.iter().any(|pod| pods::is_replica(pod));
            Seen { node, heard_at, pods_ready, pods_unmarked }
        };
        let nodes: Vec<Seen> = self.cluster.nodes.cache().all().into_iter().map(seen).collect();
        let gone = self.lock_roll_call().look(&self.words(&nodes), Instant::now());
        Observed { nodes, sighted_since: *sighted_since, gone }
    }

    /// What the nodes say of each other. One that is down already says nothing, and nothing needs to be found out of it.
    fn words(&self, nodes: &[Seen]) -> BTreeMap<String, Word> {
        let up = nodes.iter().filter(|seen| !is_down(&seen.node) && !owners::is_terminating(&seen.node.metadata));
        let leases = self.cluster.leases.cache();
        up.map(|seen| {
            let name = owners::name(&seen.node.metadata).to_owned();
            let lease = leases.get(&ObjectKey::new(NODE_LEASES, name.clone()));
            let say = |annotation| lease.as_ref().map(|lease| names(lease, annotation)).unwrap_or_default();
            let word = Word { renewals: self.heartbeats.renewals(&name), heard: say(HEARD), lost: say(LOST) };
            (name, word)
        })
        .collect()
    }

    fn lock_roll_call(&self) -> std::sync::MutexGuard<'_, RollCall> {
        self.roll_call.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the agents who is called upon. Nodes that are down stay on the list: Services do without them.
    async fn publish_suspects(&self) -> Result<(), Error> {
        let mut suspects: BTreeSet<String> = self.lock_roll_call().suspects().cloned().collect();
        let nodes = self.cluster.nodes.cache().all();
        let down = nodes.iter().filter(|node| is_down(node));
        suspects.extend(down.map(|node| owners::name(&node.metadata).to_owned()));
        let list = suspects.iter().map(String::as_str).collect::<Vec<_>>().join(",");
        if suspects.is_empty() && self.cluster.leases.cache().get(&ObjectKey::new(NODE_LEASES, ROLL_CALL)).is_none() {
            return Ok(());
        }
        // The cache lags behind our own last write; the next look sees it.
        match publish(&self.cluster, ROLL_CALL, SUSPECTS, list).await {
            Err(error) if !error.is_conflict() => Err(error),
            _ => Ok(()),
        }
    }

    async fn apply(&self, action: &Action, now: Timestamp) -> Result<(), Error> {
        let nodes = self.cluster.nodes.cache();
        let node = |name: &str| nodes.get(&ObjectKey::cluster(name));
        match action {
            Action::MarkUnknown { node: name } => {
                let Some(node) = node(name) else { return Ok(()) };
                let message = format!("Node {name} has not been heard for too long");
                self.cluster.recorder.record(node.object_ref(&()), Severity::Normal, "NodeNotReady", message);
                let conditions = plan::unknown_conditions(&node, &Loss::Silence, now);
                self.cluster.nodes.patch(&node, json!({"status": {"conditions": conditions}}), Some("status")).await?;
                Ok(())
            }
            Action::MarkDown { node: name, witnesses, taints } => {
                let Some(node) = node(name) else { return Ok(()) };
                let message = format!("Node {name} is down: {} lost its host", witnesses.join(" and "));
                self.cluster.recorder.record(node.object_ref(&()), Severity::Warning, "NodeNotReady", message);
                let conditions = plan::unknown_conditions(&node, &Loss::HostDown(witnesses.clone()), now);
                let patch = json!({"status": {"conditions": conditions}});
                let marked = self.cluster.nodes.patch(&node, patch, Some("status")).await?;
                self.set_taints(&marked, taints).await
            }
            Action::SetTaints { node: name, taints } => {
                let Some(node) = node(name) else { return Ok(()) };
                self.set_taints(&node, taints).await
            }
            Action::MarkPodsNotReady { node: name, host_down } => self.mark_pods_not_ready(name, *host_down, now).await,
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

    async fn set_taints(&self, node: &Node, taints: &[Taint]) -> Result<(), Error> {
        let taints = if taints.is_empty() { serde_json::Value::Null } else { json!(taints) };
        // A write before this may have moved the version on; the next pass then sets the taints.
        match self.cluster.nodes.patch(node, json!({"spec": {"taints": taints}}), None).await {
            Err(error) if !error.is_conflict() => Err(error),
            _ => Ok(()),
        }
    }

    /// Takes the pods of a lost node out of Services. Their agent, when it comes back, says what is true.
    async fn mark_pods_not_ready(&self, node: &str, host_down: bool, now: Timestamp) -> Result<(), Error> {
        let mut pods = self.cluster.pods.cache().by_index(Index::Node, node);
        pods.retain(|pod| if host_down { pods::is_replica(pod) } else { is_shown_ready(pod) });
        let write = async |pod: Arc<Pod>| {
            let conditions = plan::not_ready_conditions(&pod, host_down, now);
            let patch = json!({"status": {"conditions": conditions}});
            match self.cluster.pods.patch(&pod, patch, Some("status")).await {
                Err(error) if !error.is_conflict() && !error.is_not_found() => Err(error),
                _ => Ok(()),
            }
        };
        iter(pods.into_iter().map(write)).buffer_unordered(POD_WRITES_MAX).try_collect().await
    }
}

fn is_shown_ready(pod: &Pod) -> bool {
    pods::is_true(pod, "Ready") || pods::is_true(pod, "ContainersReady")
}
