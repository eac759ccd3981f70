//! Pod status from observations: pure. The agent is its only writer once a pod is bound.

pub(crate) mod conditions;
mod containers;

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{HostIP, Pod, PodCondition, PodIP, PodSpec, PodStatus},
    apimachinery::pkg::apis::meta::v1::Time,
};

use crate::{
    config::qos_class,
    pod::{
        observed::{Cause, ContainerState, Observed},
        plan::{ContainerRole, PodContainer, pod_containers},
        routes::Join,
    },
};

/// What a status is built from.
#[derive(Debug)]
pub struct StatusInput<'a> {
    /// The pod; its present status gives transition times and the conditions of others.
    pub pod: &'a Pod,
    /// What is observed.
    pub observed: &'a Observed,
    /// The node's address.
    pub host_ip: Option<IpAddr>,
    /// Whether the proxies know the pod.
    pub join: Join,
    /// Whether the wait for the proxies was given up.
    pub join_overdue: bool,
    /// Now.
    pub now: Timestamp,
}

/// Builds the status of a pod.
pub fn build_status(input: &StatusInput<'_>) -> PodStatus {
    let empty = PodSpec::default();
    let spec = input.pod.spec.as_ref().unwrap_or(&empty);
    let phase = phase(spec, input.observed);
    let all = pod_containers(spec);
    let statuses = |wanted: fn(ContainerRole) -> bool| {
        let chosen = all.iter().filter(|container| wanted(container.role));
        let list: Vec<_> = chosen.map(|container| containers::container_status(input, spec, container)).collect();
        (!list.is_empty()).then_some(list)
    };
    let sandbox_ip = input.observed.sandbox.as_ref().map(|sandbox| IpAddr::V4(sandbox.address));
    // A pod that is taken over keeps its address while the network is asked for it.
    let known_ip = input.pod.status.as_ref().and_then(|status| status.pod_ip.as_ref()?.parse().ok());
    let sandbox_ip = sandbox_ip.or(known_ip);
    let pod_ip = if spec.host_network == Some(true) { input.host_ip } else { sandbox_ip };
    let failed_at_deadline = phase == "Failed" && ended_by_deadline(input.observed);
    PodStatus {
        phase: Some(phase.to_owned()),
        reason: failed_at_deadline.then(|| "DeadlineExceeded".to_owned()),
        message: failed_at_deadline.then(|| "Pod was active on the node longer than the specified deadline".to_owned()),
        conditions: Some(conditions::build(input, spec, phase)),
        host_ip: input.host_ip.map(|ip| ip.to_string()),
        host_ips: input.host_ip.map(|ip| vec![HostIP { ip: ip.to_string() }]),
        pod_ip: pod_ip.map(|ip| ip.to_string()),
        pod_ips: pod_ip.map(|ip| vec![PodIP { ip: ip.to_string() }]),
        start_time: input.observed.started_at.map(time),
        qos_class: Some(qos_class(spec).to_owned()),
        init_container_statuses: statuses(|role| role != ContainerRole::Main),
        container_statuses: statuses(|role| role == ContainerRole::Main),
        ..Default::default()
    }
}

/// Whether the API's status already says what ours would: other writers' conditions and fields aside.
pub fn says_the_same(known: &PodStatus, ours: &PodStatus) -> bool {
    let conditions = ours.conditions.iter().flatten();
    let has = |wanted: &PodCondition| known.conditions.iter().flatten().any(|condition| condition == wanted);
    let stripped = PodStatus {
        conditions: ours.conditions.clone(),
        resize: None,
        nominated_node_name: None,
        observed_generation: ours.observed_generation,
        ..known.clone()
    };
    conditions.into_iter().all(has) && stripped == *ours
}

/// Whether a phase is final.
pub fn is_final(phase: Option<&str>) -> bool {
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn ended_by_deadline(observed: &Observed) -> bool {
    observed.termination.as_ref().is_some_and(|end| end.cause == Cause::Deadline)
}

fn phase(spec: &PodSpec, observed: &Observed) -> &'static str {
    let empty = ContainerState::default();
    let containers = pod_containers(spec);
    let state = |container: &PodContainer<'_>| observed.containers.get(&container.spec.name).unwrap_or(&empty);
    let any_running = containers.iter().any(|container| state(container).is_running());
    if ended_by_deadline(observed) && !any_running {
        return "Failed";
    }
    let never = spec.restart_policy.as_deref() == Some("Never");
    let failed_init = |container: &&PodContainer<'_>| {
        container.role == ContainerRole::Init && state(container).ended().is_some_and(|end| end.exit_code != 0)
    };
    if never && !observed.initialized && containers.iter().any(|container| failed_init(&container)) {
        return "Failed";
    }
    let main: Vec<_> = containers.iter().filter(|container| container.role == ContainerRole::Main).collect();
    let ends: Vec<i32> = main.iter().filter_map(|container| end_of(state(container))).collect();
    let all_ended = ends.len() == main.len() && !main.is_empty();
    let all_zero = ends.iter().all(|code| *code == 0);
    let stays_ended = match spec.restart_policy.as_deref() {
        Some("Never") => true,
        Some("OnFailure") => all_zero,
        Some(_) | None => false,
    };
    if all_ended && (stays_ended || observed.termination.is_some()) {
        return if all_zero { "Succeeded" } else { "Failed" };
    }
    let begun = main
        .iter()
        .map(|container| state(container))
        .all(|state| state.is_running() || state.ended().is_some() || state.last_end.is_some());
    if begun { "Running" } else { "Pending" }
}

fn end_of(state: &ContainerState) -> Option<i32> {
    match state.current() {
        Some(_) => state.ended().map(|end| end.exit_code),
        None => state.last_end.as_ref().map(|end| end.exit_code),
    }
}

pub(crate) fn time(at: Timestamp) -> Time {
    Time::from(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

#[cfg(test)]
mod tests;
