//! Planning a pod that is to run.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, PodSpec};

use super::{
    Plan, after,
    backoff::crash_delay,
    containers::{ContainerRole, PodContainer, pod_containers, spec_hash},
    may_begin,
    stop::{StopGate, plan_stop, probe_grace},
};
use crate::pod::{
    action::Action,
    observed::{Attempt, ContainerState, Hook, Observed, Phase, Stage},
};

/// A container that is restarted while its pod goes on gets at least this long, whatever its grace says (kubelet's
/// minimumGracePeriodInSeconds): it ends by a signal and is seen to end, so that its back-off counts.
const RESTART_GRACE_MIN_SECS: i64 = 2;

pub(super) fn plan_run(spec: &PodSpec, observed: &Observed, now: Timestamp, plan: &mut Plan) {
    if may_begin(&observed.network, now, plan) {
        plan.push(Action::EnsureNetwork);
    }
    if may_begin(&observed.volumes, now, plan) {
        plan.push(Action::PrepareVolumes);
    }
    let ready = observed.network == Stage::Ready && observed.volumes == Stage::Ready;
    let mut blocked = !ready;
    for container in pod_containers(spec) {
        let Some(state) = observed.containers.get(&container.spec.name) else { continue };
        let policy = restart_policy(spec, container.role);
        plan_stop_wanted(spec, &container, state, now, plan);
        match container.role {
            ContainerRole::Init if observed.initialized => {}
            ContainerRole::Init => {
                if !blocked {
                    plan_container(&container, state, policy, now, plan);
                }
                blocked |= !completed(state);
            }
            ContainerRole::Sidecar => {
                // Once the pod is initialised its sidecars are restarted independently of each other.
                if ready && (!blocked || observed.initialized) {
                    plan_container(&container, state, policy, now, plan);
                }
                blocked |= !observed.initialized && !started(container.spec, state);
            }
            ContainerRole::Main => {
                if !blocked || (ready && observed.initialized) {
                    plan_container(&container, state, policy, now, plan);
                }
            }
        }
        plan_old_attempts(&container, state, plan);
    }
}

/// How a container is restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

fn restart_policy(spec: &PodSpec, role: ContainerRole) -> RestartPolicy {
    let of_pod = spec.restart_policy.as_deref().unwrap_or("Always");
    match (role, of_pod) {
        (ContainerRole::Sidecar, _) => RestartPolicy::Always,
        (ContainerRole::Init | ContainerRole::Main, "Never") => RestartPolicy::Never,
        (ContainerRole::Main, "Always") => RestartPolicy::Always,
        (ContainerRole::Init | ContainerRole::Main, _) => RestartPolicy::OnFailure,
    }
}

fn completed(state: &ContainerState) -> bool {
    state
        .ended()
        .or_else(|| state.last_end.as_ref().filter(|_| state.attempts.is_empty()))
        .is_some_and(|end| end.exit_code == 0)
}

/// Whether a container counts as started: it runs, its startup probe passed and its postStart hook is done.
pub(crate) fn started(spec: &Container, state: &ContainerState) -> bool {
    let hook_done = !has_post_start(spec) || state.post_start == Hook::Done;
    let probe_passed = spec.startup_probe.is_none() || state.probes.startup == Some(true);
    state.is_running() && hook_done && probe_passed
}

fn has_post_start(spec: &Container) -> bool {
    spec.lifecycle.as_ref().is_some_and(|lifecycle| lifecycle.post_start.is_some())
}

fn plan_container(
    container: &PodContainer<'_>,
    state: &ContainerState,
    policy: RestartPolicy,
    now: Timestamp,
    plan: &mut Plan,
) {
    if state.busy.is_some() {
        return;
    }
    match state.current() {
        None => plan_start(container.spec, state, state.next_number(), now, plan),
        // The next listing says what became of it.
        Some(Attempt { phase: Phase::Unknown, .. }) => {}
        Some(Attempt { phase: Phase::Created, number, .. }) => plan_start(container.spec, state, *number, now, plan),
        Some(Attempt { phase: Phase::Running { .. }, .. }) => {
            if state.post_start == Hook::Pending && has_post_start(container.spec) {
                plan.push(Action::PostStart { container: container.spec.name.clone() });
            }
        }
        Some(Attempt { phase: Phase::Exited(end), .. }) => {
            let restart = match policy {
                RestartPolicy::Always => true,
                RestartPolicy::OnFailure => end.exit_code != 0,
                RestartPolicy::Never => false,
            };
            if !restart {
                return;
            }
            let at = after(end.finished_at, crash_delay(state.crashes).as_secs());
            // An end ahead of now is told by a clock that has been set back since: it says nothing of how long ago it was.
            if now < at && now >= end.finished_at {
                plan.wake_at(at);
            } else {
                plan_start(container.spec, state, state.next_number(), now, plan);
            }
        }
    }
}

fn plan_start(spec: &Container, state: &ContainerState, attempt: u32, now: Timestamp, plan: &mut Plan) {
    if let Some(setback) = &state.setback
        && now < setback.retry_at
    {
        plan.wake_at(setback.retry_at);
        return;
    }
    let container = spec.name.clone();
    match (pull_policy(spec), state.image_present) {
        // The engine has not listed its images yet; the listing wakes the pod.
        (PullPolicy::IfNotPresent | PullPolicy::Never, None) => {}
        (PullPolicy::Always, _) if state.pulled_for != Some(attempt) => plan.push(Action::Pull { container, attempt }),
        (PullPolicy::IfNotPresent, Some(false)) => plan.push(Action::Pull { container, attempt }),
        // The status says ErrImageNeverPull; an image that appears wakes the pod.
        (PullPolicy::Never, Some(false)) => {}
        (PullPolicy::Always | PullPolicy::IfNotPresent | PullPolicy::Never, _) => {
            plan.push(Action::Start { container, attempt });
        }
    }
}

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PullPolicy {
    Always,
    IfNotPresent,
    Never,
}

pub(crate) fn pull_policy(spec: &Container) -> PullPolicy {
    let image = spec.image.as_deref().unwrap_or_default();
    let name = image.rsplit('/').next().unwrap_or_default();
    let floating = !name.contains('@') && (!name.contains(':') || name.ends_with(":latest"));
    match spec.image_pull_policy.as_deref() {
        Some("Always") => PullPolicy::Always,
        Some("Never") => PullPolicy::Never,
        Some("IfNotPresent") => PullPolicy::IfNotPresent,
        Some(_) | None if floating => PullPolicy::Always,
        Some(_) | None => PullPolicy::IfNotPresent,
    }
}

/// Decides whether a running container must stop though its pod goes on, and carries the stop out.
fn plan_stop_wanted(
    spec: &PodSpec,
    container: &PodContainer<'_>,
    state: &ContainerState,
    now: Timestamp,
    plan: &mut Plan,
) {
    if !state.is_running() {
        return;
    }
    if let Some(stop) = &state.stop {
        plan_stop(container.spec, state, stop, StopGate::Open, now, plan);
        return;
    }
    let name = &container.spec.name;
    let outdated = state.current().is_some_and(|attempt| attempt.hash != spec_hash(container.spec));
    let grace = spec.termination_grace_period_seconds.unwrap_or(30);
    let wanted = if let Hook::Failed(message) = &state.post_start {
        Some((grace, format!("FailedPostStartHook: {message}")))
    } else if state.probes.startup == Some(false) {
        let grace = probe_grace(container.spec.startup_probe.as_ref(), grace);
        Some((grace, format!("Container {name} failed startup probe, will be restarted")))
    } else if state.probes.liveness == Some(false) {
        let grace = probe_grace(container.spec.liveness_probe.as_ref(), grace);
        Some((grace, format!("Container {name} failed liveness probe, will be restarted")))
    } else if outdated {
        Some((grace, format!("Container {name} definition changed, will be restarted")))
    } else {
        None
    };
    if let Some((grace_secs, message)) = wanted {
        let grace_secs = grace_secs.max(RESTART_GRACE_MIN_SECS);
        plan.push(Action::BeginStop { container: name.clone(), grace_secs, message });
    }
}

/// Keeps the attempt before the current one, for `logs --previous`, and removes older ones.
fn plan_old_attempts(container: &PodContainer<'_>, state: &ContainerState, plan: &mut Plan) {
    if state.busy.is_some() || state.setback.is_some() || state.attempts.len() <= 2 {
        return;
    }
    let name = &container.spec.name;
    let has_step = plan.actions.iter().any(|action| action.container() == Some(name));
    if let Some(oldest) = state.attempts.first().filter(|_| !has_step) {
        plan.push(Action::Remove { container: name.clone(), attempt: oldest.number });
    }
}
