//! The status of one container.

use k8s_openapi::api::core::v1::{
    ContainerState as ApiState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, PodSpec,
};

use super::{StatusInput, time};
use crate::pod::{
    observed::{ContainerState, End, Operation, Phase},
    plan::{ContainerRole, PodContainer, PullPolicy, after, crash_delay, pull_policy, started},
};

pub(super) fn container_status(
    input: &StatusInput<'_>,
    spec: &PodSpec,
    container: &PodContainer<'_>,
) -> ContainerStatus {
    let empty = ContainerState::default();
    let state = input.observed.containers.get(&container.spec.name).unwrap_or(&empty);
    let (now, last) = current_and_last(input, spec, container, state);
    let started = started(container.spec, state);
    ContainerStatus {
        name: container.spec.name.clone(),
        state: Some(now),
        last_state: last,
        ready: is_ready(container, state),
        restart_count: i32::try_from(state.restart_count()).unwrap_or(i32::MAX),
        image: container.spec.image.clone().unwrap_or_default(),
        image_id: state.current().map(|attempt| attempt.image_id.clone()).unwrap_or_default(),
        container_id: state.current().map(|attempt| container_id(attempt.id.as_str())),
        started: Some(started),
        ..Default::default()
    }
}

/// Whether a container counts as ready. A completed init container does, as in Kubernetes.
pub(super) fn is_ready(container: &PodContainer<'_>, state: &ContainerState) -> bool {
    if container.role == ContainerRole::Init {
        return state.ended().is_some_and(|end| end.exit_code == 0);
    }
    let probe_passed = container.spec.readiness_probe.is_none() || state.probes.readiness == Some(true);
    started(container.spec, state) && probe_passed
}

fn current_and_last(
    input: &StatusInput<'_>,
    spec: &PodSpec,
    container: &PodContainer<'_>,
    state: &ContainerState,
) -> (ApiState, Option<ApiState>) {
    let before = previous_end(state).map(terminated);
    match state.current().map(|attempt| &attempt.phase) {
        Some(Phase::Running { started_at }) => {
            let running = ContainerStateRunning { started_at: Some(time(*started_at)) };
            (ApiState { running: Some(running), ..Default::default() }, before)
        }
        Some(Phase::Exited(end)) => match waiting_to_restart(input, spec, container, state, end) {
            Some(waiting) => (waiting, Some(terminated(end))),
            None => (terminated(end), before),
        },
        Some(Phase::Created | Phase::Unknown) | None => match &state.last_end {
            // Done before the agent or the engine lost its container: stays done.
            Some(end)
                if state.attempts.is_empty()
                    && state.setback.is_none()
                    && (over(input) || stays_ended(spec, container, end)) =>
            {
                (terminated(end), None)
            }
            Some(_) | None => (not_started(input, container, state), before),
        },
    }
}

/// Whether nothing of the pod starts again.
fn over(input: &StatusInput<'_>) -> bool {
    input.observed.termination.is_some() || input.observed.finished
}

fn previous_end(state: &ContainerState) -> Option<&End> {
    let before = state.attempts.len().checked_sub(2).and_then(|index| state.attempts.get(index));
    match before.map(|attempt| &attempt.phase) {
        Some(Phase::Exited(end)) => Some(end),
        Some(Phase::Created | Phase::Unknown | Phase::Running { .. }) | None => state.last_end.as_ref(),
    }
}

fn stays_ended(spec: &PodSpec, container: &PodContainer<'_>, end: &End) -> bool {
    let policy = spec.restart_policy.as_deref().unwrap_or("Always");
    match container.role {
        ContainerRole::Sidecar => false,
        ContainerRole::Init => end.exit_code == 0 || policy == "Never",
        ContainerRole::Main => policy == "Never" || (policy == "OnFailure" && end.exit_code == 0),
    }
}

fn waiting_to_restart(
    input: &StatusInput<'_>,
    spec: &PodSpec,
    container: &PodContainer<'_>,
    state: &ContainerState,
    end: &End,
) -> Option<ApiState> {
    if stays_ended(spec, container, end) || over(input) {
        return None;
    }
    if let Some(setback) = &state.setback {
        return Some(waiting(&setback.reason, &setback.message));
    }
    let delay = crash_delay(state.crashes);
    if delay.is_zero() || input.now >= after(end.finished_at, delay.as_secs()) {
        return None;
    }
    let meta = &input.pod.metadata;
    let message = format!(
        "back-off {}s restarting failed container={} pod={}_{}({})",
        delay.as_secs(),
        container.spec.name,
        meta.name.as_deref().unwrap_or_default(),
        meta.namespace.as_deref().unwrap_or_default(),
        meta.uid.as_deref().unwrap_or_default(),
    );
    Some(waiting("CrashLoopBackOff", &message))
}

fn not_started(input: &StatusInput<'_>, container: &PodContainer<'_>, state: &ContainerState) -> ApiState {
    if let Some(setback) = &state.setback {
        let backing_off = state.busy != Some(Operation::Pull) && setback.count > 1;
        let reason = if setback.reason == "ErrImagePull" && backing_off { "ImagePullBackOff" } else { &setback.reason };
        let message = if reason == "ImagePullBackOff" {
            format!(
                "Back-off pulling image {:?}: {}",
                container.spec.image.as_deref().unwrap_or_default(),
                setback.message
            )
        } else {
            setback.message.clone()
        };
        return waiting(reason, &message);
    }
    if pull_policy(container.spec) == PullPolicy::Never && state.image_present == Some(false) {
        let image = container.spec.image.as_deref().unwrap_or_default();
        let message = format!("Container image {image:?} is not present with pull policy of Never");
        return waiting("ErrImageNeverPull", &message);
    }
    if let Some(setback) = input.observed.volumes.setback() {
        return waiting("ContainerCreating", &setback.message);
    }
    if let Some(setback) = input.observed.network.setback() {
        return waiting("ContainerCreating", &setback.message);
    }
    if !input.observed.engine_up {
        return waiting("ContainerCreating", "the container engine does not answer");
    }
    let inits =
        input.pod.spec.as_ref().is_some_and(|spec| spec.init_containers.as_ref().is_some_and(|l| !l.is_empty()));
    let initializing = inits && !input.observed.initialized && container.role == ContainerRole::Main;
    waiting(if initializing { "PodInitializing" } else { "ContainerCreating" }, "")
}

fn waiting(reason: &str, message: &str) -> ApiState {
    let message = (!message.is_empty()).then(|| message.to_owned());
    let reason = if drover_api::mutants::active("L06-no-reason") { "ContainerCreating" } else { reason };
    ApiState { waiting: Some(ContainerStateWaiting { reason: Some(reason.to_owned()), message }), ..Default::default() }
}

fn terminated(end: &End) -> ApiState {
    ApiState {
        terminated: Some(ContainerStateTerminated {
            container_id: end.id.as_ref().map(|id| container_id(id.as_str())),
            exit_code: end.exit_code,
            reason: Some(end.reason.clone()),
            message: end.message.clone(),
            started_at: end.started_at.map(time),
            finished_at: Some(time(end.finished_at)),
            signal: None,
        }),
        ..Default::default()
    }
}

fn container_id(id: &str) -> String {
    format!("docker://{id}")
}
