//! Pods: the one word that says how a pod is doing.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    age,
    column::{AGE, NAME, Printer, count, is_deleted, items, text, text_or, wide},
};
use crate::object::{self, str_at};

pub(super) const POD: Printer = Printer {
    columns: &[
        NAME,
        text("Ready", "How many of the pod's containers are ready to serve."),
        text("Status", "What the pod's containers are doing, in one word."),
        text("Restarts", "How often containers were restarted, and when the last time was."),
        AGE,
        wide("IP", "The address of the pod."),
        wide("Node", "The node that the pod is bound to."),
        wide("Nominated Node", "The node that room is being made on for the pod."),
        wide("Readiness Gates", "How many of the pod's readiness gates are open."),
    ],
    cells,
};

/// What the containers of a pod add up to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The word in the STATUS column: `Running`, `Init:0/1`, `CrashLoopBackOff`, `Terminating`.
    pub reason: String,
    /// Containers and sidecars that are ready.
    pub ready: usize,
    /// Containers and sidecars there are.
    pub total: usize,
    /// Restarts of all of them.
    pub restarts: i64,
    /// When the last restarted one had ended, in Unix time.
    pub last_restart_secs: Option<i64>,
}

#[derive(Debug, Default)]
struct Restarts {
    count: i64,
    last: Option<i64>,
}

impl Restarts {
    fn add(&mut self, container: &Value) {
        self.count = self.count.saturating_add(count(container, &["restartCount"]));
        let finished = age::seconds(str_at(container, &["lastState", "terminated", "finishedAt"]));
        self.last = self.last.max(finished);
    }
}

/// Computes the status that lists show, by the rules of `kubectl get pods`.
pub fn status(pod: &Value) -> Status {
    let sidecars = sidecars(pod);
    let mut reason = text_or(pod, &["status", "reason"], str_at(pod, &["status", "phase"])).to_owned();
    if condition(pod, "PodScheduled").is_some_and(|found| str_at(found, &["reason"]) == "SchedulingGated") {
        reason = "SchedulingGated".to_owned();
    }
    let (mut ready, mut restarts, mut sidecar_restarts) = (0, Restarts::default(), Restarts::default());
    let mut initializing = false;
    for (index, container) in items(pod, &["status", "initContainerStatuses"]).iter().enumerate() {
        restarts.add(container);
        let is_sidecar = sidecars.contains(str_at(container, &["name"]));
        if is_sidecar {
            sidecar_restarts.add(container);
        }
        if has(container, "terminated") && count(container, &["state", "terminated", "exitCode"]) == 0 {
            continue;
        }
        if is_sidecar && is_true(container, "started") {
            ready += usize::from(is_true(container, "ready"));
            continue;
        }
        reason = init_reason(container, index, items(pod, &["spec", "initContainers"]).len());
        initializing = true;
        break;
    }
    if !initializing || is_condition_true(pod, "Initialized") {
        restarts = sidecar_restarts;
        for container in items(pod, &["status", "containerStatuses"]) {
            restarts.add(container);
        }
        let running = running(pod);
        ready += running;
        reason = main_reason(pod).unwrap_or(reason);
        if reason == "Completed" && running > 0 {
            reason = if is_condition_true(pod, "Ready") { "Running" } else { "NotReady" }.to_owned();
        }
    }
    if is_deleted(pod) {
        if str_at(pod, &["status", "reason"]) == "NodeLost" {
            reason = "Unknown".to_owned();
        } else if !matches!(str_at(pod, &["status", "phase"]), "Succeeded" | "Failed") {
            reason = "Terminating".to_owned();
        }
    }
    let total = items(pod, &["spec", "containers"]).len() + sidecars.len();
    Status { reason, ready, total, restarts: restarts.count, last_restart_secs: restarts.last }
}

fn cells(pod: &Value, now_secs: i64) -> Vec<Value> {
    let status = status(pod);
    let restarts = match status.last_restart_secs {
        Some(at) if status.restarts != 0 => {
            format!("{} ({} ago)", status.restarts, age::human_duration(now_secs.saturating_sub(at)))
        }
        _ => status.restarts.to_string(),
    };
    let first_ip = items(pod, &["status", "podIPs"]).first().map_or("", |ip| str_at(ip, &["ip"]));
    let ip = if first_ip.is_empty() { text_or(pod, &["status", "podIP"], "<none>") } else { first_ip };
    vec![
        object::name(pod).into(),
        format!("{}/{}", status.ready, status.total).into(),
        status.reason.into(),
        restarts.into(),
        age::of(pod, now_secs).into(),
        ip.into(),
        text_or(pod, &["spec", "nodeName"], "<none>").into(),
        text_or(pod, &["status", "nominatedNodeName"], "<none>").into(),
        readiness_gates(pod).into(),
    ]
}

/// Returns the names of the init containers that keep running.
fn sidecars(pod: &Value) -> BTreeSet<&str> {
    let init = items(pod, &["spec", "initContainers"]).iter();
    init.filter(|container| str_at(container, &["restartPolicy"]) == "Always")
        .map(|container| str_at(container, &["name"]))
        .collect()
}

fn init_reason(container: &Value, index: usize, total: usize) -> String {
    if has(container, "terminated") {
        return format!("Init:{}", end_reason(container));
    }
    match str_at(container, &["state", "waiting", "reason"]) {
        "" | "PodInitializing" => format!("Init:{index}/{total}"),
        waiting => format!("Init:{waiting}"),
    }
}

/// Returns what the first container that is not simply running says.
fn main_reason(pod: &Value) -> Option<String> {
    items(pod, &["status", "containerStatuses"]).iter().find_map(|container| {
        let waiting = str_at(container, &["state", "waiting", "reason"]);
        if !waiting.is_empty() {
            Some(waiting.to_owned())
        } else if has(container, "terminated") {
            Some(end_reason(container))
        } else {
            None
        }
    })
}

fn end_reason(container: &Value) -> String {
    let reason = str_at(container, &["state", "terminated", "reason"]);
    if !reason.is_empty() {
        return reason.to_owned();
    }
    match count(container, &["state", "terminated", "signal"]) {
        0 => format!("ExitCode:{}", count(container, &["state", "terminated", "exitCode"])),
        signal => format!("Signal:{signal}"),
    }
}

fn running(pod: &Value) -> usize {
    let containers = items(pod, &["status", "containerStatuses"]).iter();
    containers.filter(|container| is_true(container, "ready") && has(container, "running")).count()
}

fn has(container: &Value, state: &str) -> bool {
    object::at(container, &["state", state]).is_some_and(|state| !state.is_null())
}

fn is_true(container: &Value, field: &str) -> bool {
    container.get(field).and_then(Value::as_bool).unwrap_or(false)
}

fn condition<'a>(pod: &'a Value, kind: &str) -> Option<&'a Value> {
    items(pod, &["status", "conditions"]).iter().find(|condition| str_at(condition, &["type"]) == kind)
}

fn is_condition_true(pod: &Value, kind: &str) -> bool {
    condition(pod, kind).is_some_and(|condition| str_at(condition, &["status"]) == "True")
}

fn readiness_gates(pod: &Value) -> String {
    let gates = items(pod, &["spec", "readinessGates"]);
    if gates.is_empty() {
        return "<none>".to_owned();
    }
    let open = gates.iter().filter(|gate| is_condition_true(pod, str_at(gate, &["conditionType"]))).count();
    format!("{open}/{}", gates.len())
}
