//! The conditions of a pod.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PodCondition, PodSpec};

use super::{StatusInput, containers::is_ready, is_final, time};
use crate::pod::{
    observed::ContainerState,
    plan::{ContainerRole, pod_containers},
    routes::Join,
};

/// A condition before its transition time is known.
struct Verdict {
    type_: &'static str,
    status: bool,
    reason: &'static str,
    message: String,
}

pub(super) fn build(input: &StatusInput<'_>, spec: &PodSpec, phase: &str) -> Vec<PodCondition> {
    let initialized = initialized(input, spec, phase);
    let containers_ready = containers_ready(input, spec, phase);
    let ready = ready(input, spec, phase, &containers_ready);
    let scheduled = Verdict { type_: "PodScheduled", status: true, reason: "", message: String::new() };
    [initialized, ready, containers_ready, scheduled].into_iter().map(|verdict| condition(input, verdict)).collect()
}

fn condition(input: &StatusInput<'_>, verdict: Verdict) -> PodCondition {
    let status = if verdict.status { "True" } else { "False" };
    let before = previous(input, verdict.type_);
    let since = before.filter(|condition| condition.status == status);
    let since = since.and_then(|condition| condition.last_transition_time.clone());
    let some = |text: String| (!text.is_empty()).then_some(text);
    PodCondition {
        type_: verdict.type_.to_owned(),
        status: status.to_owned(),
        reason: some(verdict.reason.to_owned()),
        message: some(verdict.message),
        last_transition_time: Some(since.unwrap_or_else(|| time(input.now))),
        ..Default::default()
    }
}

fn previous<'a>(input: &'a StatusInput<'_>, type_: &str) -> Option<&'a PodCondition> {
    let conditions = input.pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == type_)
}

fn initialized(input: &StatusInput<'_>, spec: &PodSpec, phase: &str) -> Verdict {
    let type_ = "Initialized";
    if phase == "Succeeded" {
        return Verdict { type_, status: true, reason: "PodCompleted", message: String::new() };
    }
    let empty = ContainerState::default();
    let incomplete: Vec<&str> = pod_containers(spec)
        .iter()
        .filter(|container| match container.role {
            ContainerRole::Init => {
                let state = input.observed.containers.get(&container.spec.name).unwrap_or(&empty);
                !is_ready(container, state)
            }
            ContainerRole::Sidecar | ContainerRole::Main => false,
        })
        .map(|container| container.spec.name.as_str())
        .collect();
    if input.observed.initialized || incomplete.is_empty() {
        return Verdict { type_, status: true, reason: "", message: String::new() };
    }
    let message = format!("containers with incomplete status: [{}]", incomplete.join(" "));
    Verdict { type_, status: false, reason: "ContainersNotInitialized", message }
}

fn containers_ready(input: &StatusInput<'_>, spec: &PodSpec, phase: &str) -> Verdict {
    let type_ = "ContainersReady";
    if is_final(Some(phase)) {
        let reason = if phase == "Succeeded" { "PodCompleted" } else { "PodFailed" };
        return Verdict { type_, status: false, reason, message: String::new() };
    }
    let empty = ContainerState::default();
    let unready: Vec<&str> = pod_containers(spec)
        .iter()
        .filter(|container| container.role != ContainerRole::Init)
        .filter(|container| !is_ready(container, input.observed.containers.get(&container.spec.name).unwrap_or(&empty)))
        .map(|container| container.spec.name.as_str())
        .collect();
    if unready.is_empty() {
        return Verdict { type_, status: true, reason: "", message: String::new() };
    }
    let message = format!("containers with unready status: [{}]", unready.join(" "));
    Verdict { type_, status: false, reason: "ContainersNotReady", message }
}

/// Ready means: containers ready, gates passed, and every proxy knows. Once true it stays with the containers.
fn ready(input: &StatusInput<'_>, spec: &PodSpec, phase: &str, containers: &Verdict) -> Verdict {
    let type_ = "Ready";
    if is_final(Some(phase)) || !containers.status {
        return Verdict { type_, status: false, reason: containers.reason, message: containers.message.clone() };
    }
    let closed: Vec<&str> = spec
        .readiness_gates
        .iter()
        .flatten()
        .map(|gate| gate.condition_type.as_str())
        .filter(|gate| previous(input, gate).is_none_or(|condition| condition.status != "True"))
        .collect();
    if !closed.is_empty() {
        let message =
            format!("corresponding condition of pod readiness gate {:?} does not exist or is not True", closed[0]);
        return Verdict { type_, status: false, reason: "ReadinessGatesNotReady", message };
    }
    let was_ready = previous(input, type_).is_some_and(|condition| condition.status == "True");
    let waits = input.join == Join::Waiting && !was_ready && !input.join_overdue && !is_deleted(input);
    if waits {
        let message = "the service proxies have not acknowledged the pod yet".to_owned();
        return Verdict { type_, status: false, reason: "AwaitingRoutes", message };
    }
    Verdict { type_, status: true, reason: "", message: String::new() }
}

fn is_deleted(input: &StatusInput<'_>) -> bool {
    input.pod.metadata.deletion_timestamp.is_some()
}

/// When the containers became ready and wait for the proxies; `None` when they do not wait.
pub(crate) fn awaiting_routes_since(status: &k8s_openapi::api::core::v1::PodStatus) -> Option<Timestamp> {
    let conditions = status.conditions.as_ref()?;
    let find = |type_: &str| conditions.iter().find(|condition| condition.type_ == type_);
    let waits = find("Ready")?.reason.as_deref() == Some("AwaitingRoutes");
    let since = find("ContainersReady")?.last_transition_time.as_ref()?;
    waits.then_some(since.0)
}
