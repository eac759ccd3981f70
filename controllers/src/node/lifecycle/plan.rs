//! Decides which nodes are lost and what that means for them. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod, PodCondition, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Serialize;

use crate::node::heartbeats::SILENCE_MAX;
use crate::objects::owners;
use crate::objects::pods::HOST_DOWN;
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
    /// Whether any of them is not yet shown to be gone with its host.
    pub pods_unmarked: bool,
}

/// All nodes, and how long we can have heard them.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// Every node.
    pub nodes: Vec<Seen>,
    /// Since when this process has had sight of heartbeats: before that, silence was ours.
    pub sighted_since: Timestamp,
    /// Nodes whose hosts are gone by the roll call, with those that witness it.
    pub gone: BTreeMap<String, Vec<String>>,
}

/// One write.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum Action {
    /// Say that nothing is known of the node any more.
    MarkUnknown {
        /// The node.
        node: String,
    },
    /// Say that the node's host is gone, and taint it.
    MarkDown {
        /// The node.
        node: String,
        /// Neighbours that have lost it.
        witnesses: Vec<String>,
        /// All its taints.
        taints: Vec<Taint>,
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
        /// Whether its host is gone: then they are replaced at once.
        host_down: bool,
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
            Self::MarkDown { node, witnesses, .. } => {
                write!(formatter, "mark {node} down by {}", witnesses.join(" and "))
            }
            Self::SetTaints { node, taints } => {
                let text: Vec<String> = taints.iter().map(|taint| format!("{}:{}", taint.key, taint.effect)).collect();
                write!(formatter, "taint {node} [{}]", text.join(" "))
            }
            Self::MarkPodsNotReady { node, host_down: true } => write!(formatter, "mark pods of {node} gone"),
            Self::MarkPodsNotReady { node, .. } => write!(formatter, "mark pods of {node} not ready"),
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
    let is_accused = |seen: &Seen| observed.gone.contains_key(owners::name(&seen.node.metadata));
    let is_silent = |seen: &Seen| is_silent(seen, observed.sighted_since, now);
    let lost = nodes.iter().filter(|seen| is_down(&seen.node) || is_accused(seen) || is_silent(seen)).count();
    let brake = !drover_api::mutants::active("C23-no-brake");
    let partition = lost > 0 && lost * 100 >= nodes.len() * PARTITION_PERCENT && brake;
    let partition_message =
        format!("{lost} of {} nodes fell silent together: a partition is suspected and no pod is evicted", nodes.len());
    let mut plan = Plan::default();
    for seen in &nodes {
        let name = owners::name(&seen.node.metadata).to_owned();
        let falls = is_accused(seen) && !partition && !is_down(&seen.node);
        let host_down = falls || is_down(&seen.node);
        let lost = host_down || is_silent(seen);
        let wanted = taints(&seen.node, lost, partition, now);
        let known = ready_status(&seen.node) != "Unknown";
        let tainted = wanted == seen.node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
        if falls {
            let witnesses = observed.gone.get(&name).cloned().unwrap_or_default();
            plan.actions.push(Action::MarkDown { node: name.clone(), witnesses, taints: wanted.clone() });
        } else if lost && known {
            plan.actions.push(Action::MarkUnknown { node: name.clone() });
            if partition {
                plan.actions.push(Action::SuspectPartition { node: name.clone(), message: partition_message.clone() });
            }
        }
        if lost && !partition && (seen.pods_ready || host_down && seen.pods_unmarked) {
            plan.actions.push(Action::MarkPodsNotReady { node: name.clone(), host_down });
        }
        if !tainted && !falls {
            plan.actions.push(Action::SetTaints { node: name, taints: wanted });
        }
    }
    plan
}

/// Whether the node's host was found to be gone, and its agent has not said otherwise since.
pub(crate) fn is_down(node: &Node) -> bool {
    let ready = condition(node, "Ready").filter(|condition| condition.status == "Unknown");
    ready.is_some_and(|condition| condition.reason.as_deref() == Some(HOST_DOWN))
}

/// Whether a node has been silent for too long while we could hear. One that never spoke counts from its creation.
fn is_silent(seen: &Seen, sighted_since: Timestamp, now: Timestamp) -> bool {
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

/// Why a lost node is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Loss {
    /// Its agent was not heard for too long.
    Silence,
    /// Its host is gone by the word of these nodes.
    HostDown(Vec<String>),
}

/// Builds a lost node's conditions: what it vouched for is unknown now.
pub(super) fn unknown_conditions(node: &Node, loss: &Loss, now: Timestamp) -> Vec<NodeCondition> {
    let (reason, message) = match loss {
        Loss::Silence => ("NodeStatusUnknown", "The node's agent stopped posting node status.".to_owned()),
        Loss::HostDown(witnesses) => {
            let witnesses = witnesses.join(" and ");
            (HOST_DOWN, format!("The host no longer answers {witnesses}, nor its agent the control plane."))
        }
    };
    let mut conditions = node.status.clone().unwrap_or_default().conditions.unwrap_or_default();
    for kind in VOUCHED {
        let unknown = NodeCondition {
            type_: kind.to_owned(),
            status: "Unknown".to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.clone()),
            last_heartbeat_time: condition(node, kind).and_then(|condition| condition.last_heartbeat_time.clone()),
            last_transition_time: Some(Time(whole_seconds(now))),
        };
        match conditions.iter_mut().find(|condition| condition.type_ == kind) {
            Some(present) if present.status == "Unknown" && *loss == Loss::Silence => {}
            Some(present) => *present = unknown,
            None => conditions.push(unknown),
        }
    }
    conditions
}

/// Builds the conditions of a pod whose node is lost, or gone with its host.
pub(super) fn not_ready_conditions(pod: &Pod, host_down: bool, now: Timestamp) -> Vec<PodCondition> {
    let mut conditions = pod.status.clone().unwrap_or_default().conditions.unwrap_or_default();
    let (reason, message) = if host_down {
        (HOST_DOWN, "The host of this pod is gone.")
    } else {
        ("NodeNotReady", "The node of this pod has not been heard for too long.")
    };
    let claims = ["Ready", "ContainersReady"];
    for kind in claims.into_iter().filter(|_| host_down) {
        // A pod that never came so far as to have them is gone all the same.
        if !conditions.iter().any(|condition| condition.type_ == kind) {
            conditions.push(PodCondition { type_: kind.to_owned(), ..PodCondition::default() });
        }
    }
    let claimed = conditions.iter_mut().filter(|condition| claims.contains(&condition.type_.as_str()));
    for condition in claimed.filter(|condition| host_down || condition.status == "True") {
        if condition.status != "False" {
            condition.last_transition_time = Some(Time(whole_seconds(now)));
        }
        condition.status = "False".to_owned();
        condition.reason = Some(reason.to_owned());
        condition.message = Some(message.to_owned());
    }
    conditions
}
