//! Planning the end of a container and of a pod.
//!
//! The order that drops no request: every proxy has taken the pod out and said so, then the preStop hook, then the
//! established connections end, then the stop signal, then SIGKILL at the end of the grace period.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, PodSpec, Probe};

use super::{
    Plan, after,
    containers::{ContainerRole, PodContainer, pod_containers},
    deletes_object, may_begin,
};
use crate::pod::{
    action::Action,
    observed::{Cause, ContainerState, Hook, Observed, Phase, Routes, Stage, Stop, Termination},
};

/// How long the agent waits for the proxies to take a pod out; a broken proxy must not keep a pod for ever.
pub const ROUTES_WAIT_SECS: i64 = 5;
/// What of the grace period is kept for the application after its connections had their time.
pub const DRAIN_RESERVE_SECS: i64 = 2;
/// Between two counts of connections.
const COUNT_EVERY_MILLIS: i64 = 50;
/// A process that outlives SIGKILL this long is stuck in the kernel: try again, and by removal.
const KILL_AGAIN_SECS: i64 = 10;

/// Whether the stop signal may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StopGate {
    /// Not yet: proxies may still route to the pod.
    Routes,
    /// The hook may run, the signal waits for connections to end.
    Connections,
    /// Yes.
    Open,
}

pub(super) fn plan_end(spec: &PodSpec, observed: &Observed, end: &Termination, now: Timestamp, plan: &mut Plan) {
    let containers = pod_containers(spec);
    let state_of = |container: &PodContainer<'_>| observed.containers.get(&container.spec.name);
    let unsettled = |state: &ContainerState| {
        state.busy.is_some() || state.current().is_some_and(|attempt| attempt.phase == Phase::Unknown)
    };
    let busy = observed.containers.values().any(unsettled);
    let running: Vec<_> = containers.iter().filter(|c| state_of(c).is_some_and(ContainerState::is_running)).collect();
    if running.is_empty() {
        // Cleaned up before it is made, a name space or a volume would be made after the pod is forgotten.
        let making = [&observed.network, &observed.volumes].into_iter().any(|stage| matches!(stage, Stage::Busy(_)));
        if !busy && (!making || drover_api::mutants::active("N07-cleans-up-before-it-is-made")) {
            plan_removal(observed, end, now, plan);
        }
        return;
    }
    if may_begin(&observed.network, now, plan) {
        // After a restart of the agent: connections are counted in the pod's name space.
        plan.push(Action::EnsureNetwork);
    }
    let network_known = !matches!(observed.network, Stage::Pending | Stage::Busy(_));
    let gate = stop_gate(end, network_known, now, plan);
    for container in stop_next(&running) {
        let Some(state) = state_of(container) else { continue };
        let stop = state.stop.clone().unwrap_or(Stop {
            since: end.since,
            grace_secs: end.grace_secs,
            signalled_at: None,
            killed_at: None,
        });
        // A deletion cuts a longer stop short, never the other way round.
        let stop = Stop { grace_secs: stop.grace_secs.min(end.grace_secs.max(0)), ..stop };
        plan_stop(container.spec, state, &stop, gate, now, plan);
    }
}

/// Containers end together; sidecars after them, the last one first.
fn stop_next<'a, 'b>(running: &'b [&'a PodContainer<'a>]) -> Vec<&'b PodContainer<'a>> {
    let first: Vec<_> = running.iter().copied().filter(|c| c.role != ContainerRole::Sidecar).collect();
    if first.is_empty() { running.last().copied().into_iter().collect() } else { first }
}

fn stop_gate(end: &Termination, network_known: bool, now: Timestamp, plan: &mut Plan) -> StopGate {
    if end.grace_secs <= 0 || drover_api::mutants::active("E03-signals-at-once") {
        return StopGate::Open;
    }
    match end.routes {
        Routes::None => return StopGate::Open,
        Routes::Waiting => {
            let give_up_at = after(end.since, ROUTES_WAIT_SECS.min(end.grace_secs));
            if now < give_up_at {
                plan.wake_at(give_up_at);
                return StopGate::Routes;
            }
        }
        Routes::Withdrawn => {}
    }
    let give_up_at = after(end.since, end.grace_secs - DRAIN_RESERVE_SECS);
    if end.connections == Some(0) || now >= give_up_at {
        return StopGate::Open;
    }
    plan.wake_at(give_up_at);
    let next = end.counted_at.map_or(now, |at| millis_after(at, COUNT_EVERY_MILLIS));
    if end.counting || !network_known {
        // The outcome of the count, or of the network, wakes the pod.
    } else if now >= next {
        plan.push(Action::CountConnections);
    } else {
        plan.wake_at(next);
    }
    StopGate::Connections
}

fn millis_after(at: Timestamp, millis: i64) -> Timestamp {
    at.checked_add(jiff::SignedDuration::from_millis(millis)).unwrap_or(Timestamp::MAX)
}

/// The next step of stopping one running container.
pub(super) fn plan_stop(
    spec: &Container,
    state: &ContainerState,
    stop: &Stop,
    gate: StopGate,
    now: Timestamp,
    plan: &mut Plan,
) {
    if state.busy.is_some() {
        return;
    }
    let container = spec.name.clone();
    let kill_at = after(stop.since, stop.grace_secs);
    if let Some(setback) = state.setback.as_ref().filter(|setback| now < setback.retry_at) {
        plan.wake_at(if now < kill_at { setback.retry_at.min(kill_at) } else { setback.retry_at });
        return;
    }
    if now >= kill_at && !drover_api::mutants::active("N10-never-kills") {
        match stop.killed_at.map(|at| after(at, KILL_AGAIN_SECS)) {
            // Removal by force kills in the same call; nobody waits for such a container to end by itself.
            None if stop.grace_secs <= 0 => plan_remove_current(spec, state, plan),
            None => plan.push(Action::Kill { container }),
            Some(again_at) if now >= again_at => plan_remove_current(spec, state, plan),
            Some(again_at) => plan.wake_at(again_at),
        }
        return;
    }
    plan.wake_at(kill_at);
    let has_hook = spec.lifecycle.as_ref().is_some_and(|lifecycle| lifecycle.pre_stop.is_some());
    match (gate, &state.pre_stop) {
        (StopGate::Routes, _) => {}
        (StopGate::Connections | StopGate::Open, Hook::Pending) if has_hook => {
            plan.push(Action::PreStop { container });
        }
        (StopGate::Connections | StopGate::Open, Hook::Running) | (StopGate::Connections, _) => {}
        (StopGate::Open, Hook::Pending | Hook::Done | Hook::Failed(_)) => {
            if stop.signalled_at.is_none() {
                plan.push(Action::Terminate { container });
            }
        }
    }
}

fn plan_remove_current(spec: &Container, state: &ContainerState, plan: &mut Plan) {
    if let Some(attempt) = state.current() {
        plan.push(Action::Remove { container: spec.name.clone(), attempt: attempt.number });
    }
}

/// The grace period of a container whose probe failed.
pub(super) fn probe_grace(probe: Option<&Probe>, of_pod: i64) -> i64 {
    probe.and_then(|probe| probe.termination_grace_period_seconds).unwrap_or(of_pod)
}

/// Nothing runs any more: remove containers, then name space and volumes, then the object.
fn plan_removal(observed: &Observed, end: &Termination, now: Timestamp, plan: &mut Plan) {
    if end.cause == Cause::Deadline {
        return;
    }
    let mut left = false;
    for (name, state) in &observed.containers {
        if let Some(attempt) = state.attempts.first() {
            left = true;
            match &state.setback {
                Some(setback) if now < setback.retry_at => plan.wake_at(setback.retry_at),
                Some(_) | None => {
                    plan.push(Action::Remove { container: name.clone(), attempt: attempt.number });
                }
            }
        }
    }
    // Cleaned up, the pod is forgotten, and a container that shows up later would be taken for a foreign one.
    if left || observed.containers.values().any(|state| state.unlisted) {
        return;
    }
    if observed.cleanup != Stage::Ready && !drover_api::mutants::active("N07-leaves-its-network") {
        if may_begin(&observed.cleanup, now, plan) {
            plan.push(Action::CleanUp);
        }
        return;
    }
    if !deletes_object(end.cause) || observed.object == Stage::Ready {
        plan.done = true;
    } else if may_begin(&observed.object, now, plan) {
        plan.push(Action::DeleteObject);
    }
}
