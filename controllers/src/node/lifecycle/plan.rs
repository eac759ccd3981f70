//! Decides which nodes are lost and what that means for them. Pure.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod, PodCondition, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Serialize;

use crate::node::heartbeats::SILENCE_MAX;
use crate::objects::owners;
use crate::runtime::clock::whole_seconds;

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// Conditions that keep new pods away, with their taints.
const PRESSURES: [(&str, &str); 4] = [
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
];
/// Conditions that a silent node no longer vouches for.
const VOUCHED: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];
/// When this share of nodes is lost at once the fault is taken to be ours (Kubernetes: `unhealthy-zone-threshold`).
const PARTITION_PERCENT: usize = 55;

/// One node and what is known of it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The node.
    pub node: Arc<Node>,
    /// When it was last heard.
    pub heard_at: Option<Timestamp>,
    /// Whether any of its pods is still shown as ready.
    pub pods_ready: bool,
}

/// All nodes, and how long we can have heard them.
#[derive(Debug, Clone)]
pub struct Observed {
    /// Every node.
    pub nodes: Vec<Seen>,
    /// Since when this process has had sight of heartbeats: before that, silence was ours.
    pub sighted_since: Timestamp,
}

/// One write.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum Action {
    /// Say that nothing is known of the node any more.
    MarkUnknown {
        /// The node.
        node: String,
    },
    /// Set the node's taints.
    SetTaints {
        /// The node.
        node: String,
        /// All its taints.
        taints: Vec<Taint>,
    },
    /// Take the node's pods out of Services.
    MarkPodsNotReady {
        /// The node.
        node: String,
    },
    /// Tell people that so many nodes were lost at once that nothing is evicted.
    SuspectPartition {
        /// A node that was lost.
        node: String,
        /// What to tell.
        message: String,
    },
}

impl fmt::Display for Action {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MarkUnknown { node } => write!(formatter, "mark {node} unknown"),
            Self::SetTaints { node, taints } => {
                let text: Vec<String> = taints.iter().map(|taint| format!("{}:{}", taint.key, taint.effect)).collect();
                write!(formatter, "taint {node} [{}]", text.join(" "))
            }
            Self::MarkPodsNotReady { node } => write!(formatter, "mark pods of {node} not ready"),
            Self::SuspectPartition { node, .. } => write!(formatter, "suspect partition at {node}"),
        }
    }
}

/// The writes of one pass, by node name.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// In the order to carry them out.
    pub actions: Vec<Action>,
}

/// Decides what the nodes' silence means.
pub fn plan(observed: &Observed, now: Timestamp) -> Plan {
    let mut nodes: Vec<&Seen> =
        observed.nodes.iter().filter(|seen| !owners::is_terminating(&seen.node.metadata)).collect();
    nodes.sort_by_key(|seen| owners::name(&seen.node.metadata));
    let lost = nodes.iter().filter(|seen| is_lost(seen, observed.sighted_since, now)).count();
    let brake = !drover_api::mutants::active("C23-no-brake");
    let partition = lost > 0 && lost * 100 >= nodes.len() * PARTITION_PERCENT && brake;
    let mut plan = Plan::default();
    for seen in &nodes {
        let name = owners::name(&seen.node.metadata).to_owned();
        let lost = is_lost(seen, observed.sighted_since, now);
        let known = ready_status(&seen.node) != "Unknown";
        if lost && known {
            plan.actions.push(Action::MarkUnknown { node: name.clone() });
            if partition {
                let message = format!(
                    "{} of {} nodes fell silent together: a partition is suspected and no pod is evicted",
                    nodes.iter().filter(|seen| is_lost(seen, observed.sighted_since, now)).count(),
                    nodes.len()
                );
                plan.actions.push(Action::SuspectPartition { node: name.clone(), message });
            }
        }
        if lost && !partition && seen.pods_ready {
            plan.actions.push(Action::MarkPodsNotReady { node: name.clone() });
        }
        let wanted = taints(&seen.node, lost, partition, now);
        if wanted != seen.node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default() {
            plan.actions.push(Action::SetTaints { node: name, taints: wanted });
        }
    }
    plan
}

/// Whether a node has been silent for too long while we could hear. One that never spoke counts from its creation.
fn is_lost(seen: &Seen, sighted_since: Timestamp, now: Timestamp) -> bool {
    let created = seen.node.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let mut last = seen.heard_at.or(created).unwrap_or(sighted_since);
    if !drover_api::mutants::active("C23-restart-forgets") {
        last = last.max(sighted_since);
    }
    Duration::try_from(now.duration_since(last)).unwrap_or_default() > SILENCE_MAX
}

/// Returns the status of the Ready condition, `Unknown` when there is none.
pub(super) fn ready_status(node: &Node) -> &str {
    condition(node, "Ready").map_or("Unknown", |condition| &condition.status)
}

/// Returns the taints of the pressures a node reports.
pub(super) fn pressures(node: &Node) -> Vec<&'static str> {
    let reported = |kind: &str| condition(node, kind).is_some_and(|condition| condition.status == "True");
    PRESSURES.iter().filter(|(kind, _)| reported(kind)).map(|(_, taint)| *taint).collect()
}

fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    node.status.as_ref()?.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}

/// Returns a node's taints with ours brought up to date and everybody else's kept.
fn taints(node: &Node, lost: bool, partition: bool, now: Timestamp) -> Vec<Taint> {
    let spec = node.spec.clone().unwrap_or_default();
    let ready = if lost { "Unknown" } else { ready_status(node) };
    let mut wanted: Vec<(&str, &str)> = pressures(node).into_iter().map(|taint| (taint, "NoSchedule")).collect();
    if spec.unschedulable == Some(true) {
        wanted.push((UNSCHEDULABLE, "NoSchedule"));
    }
    let unready = match ready {
        "True" => None,
        "Unknown" if lost => Some(UNREACHABLE),
        _ => Some(NOT_READY),
    };
    if let Some(taint) = unready {
        wanted.push((taint, "NoSchedule"));
        // Evicting is for the fault of one node; when most are lost at once their pods are better left alone. A node
        // that has not come up yet has no pods to evict.
        if !partition && (lost || ready == "False") {
            wanted.push((taint, "NoExecute"));
        }
    }
    let present = spec.taints.unwrap_or_default();
    let is_ours = |taint: &Taint| {
        let keys = [NOT_READY, UNREACHABLE, UNSCHEDULABLE].into_iter().chain(PRESSURES.iter().map(|(_, key)| *key));
        keys.into_iter().any(|key| key == taint.key)
    };
    let is_wanted = |taint: &Taint| wanted.iter().any(|(key, effect)| taint.key == *key && taint.effect == *effect);
    let mut taints: Vec<Taint> = present.into_iter().filter(|taint| !is_ours(taint) || is_wanted(taint)).collect();
    for (key, effect) in wanted {
        if !taints.iter().any(|taint| taint.key == key && taint.effect == effect) {
            taints.push(Taint {
                key: key.to_owned(),
                effect: effect.to_owned(),
                value: None,
                time_added: Some(Time(whole_seconds(now))),
            });
        }
    }
    taints
}

/// Builds a silent node's conditions: what it vouched for is unknown now.
pub(super) fn unknown_conditions(node: &Node, now: Timestamp) -> Vec<NodeCondition> {
    let mut conditions = node.status.clone().unwrap_or_default().conditions.unwrap_or_default();
    for kind in VOUCHED {
        let unknown = NodeCondition {
            type_: kind.to_owned(),
            status: "Unknown".to_owned(),
            reason: Some("NodeStatusUnknown".to_owned()),
            message: Some("The node's agent stopped posting node status.".to_owned()),
            last_heartbeat_time: condition(node, kind).and_then(|condition| condition.last_heartbeat_time.clone()),
            last_transition_time: Some(Time(whole_seconds(now))),
        };
        match conditions.iter_mut().find(|condition| condition.type_ == kind) {
            Some(present) if present.status == "Unknown" => {}
            Some(present) => *present = unknown,
            None => conditions.push(unknown),
        }
    }
    conditions
}

/// Builds the conditions of a pod whose node is lost.
pub(super) fn not_ready_conditions(pod: &Pod, now: Timestamp) -> Vec<PodCondition> {
    let mut conditions = pod.status.clone().unwrap_or_default().conditions.unwrap_or_default();
    let claims = |condition: &&mut PodCondition| matches!(condition.type_.as_str(), "Ready" | "ContainersReady");
    for condition in conditions.iter_mut().filter(claims).filter(|condition| condition.status == "True") {
        condition.status = "False".to_owned();
        condition.reason = Some("NodeNotReady".to_owned());
        condition.message = Some("The node of this pod has not been heard for too long.".to_owned());
        condition.last_transition_time = Some(Time(whole_seconds(now)));
    }
    conditions
}
