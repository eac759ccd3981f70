//! Takes the outcomes of steps in.

use jiff::Timestamp;

use super::{Actor, Outcome, RETRY_SECS, listing::note_end};
use crate::{
    engine::{ContainerPhase, EngineError, ErrorKind},
    ids::ContainerId,
    pod::{
        apply::{StartFailure, Started},
        observed::{Attempt, Before, ContainerState, End, Hook, Phase, Setback, Stage},
        plan::{after, mount_delay, setback_delay},
    },
    probes::{ProbeKind, ProbeVerdict},
    source::PodApiError,
};

impl Actor {
    pub(super) fn absorb(&mut self, outcome: Outcome) {
        let now = self.now();
        match outcome {
            Outcome::Network(Ok(sandbox)) => {
                self.observed.sandbox = Some(sandbox);
                self.observed.network = Stage::Ready;
            }
            Outcome::Network(Err(error)) => {
                self.warn(None, "FailedCreatePodSandBox", &error.message);
                self.observed.network = failed(&self.observed.network, "FailedCreatePodSandBox", error.message, now);
            }
            Outcome::Volumes(Ok(volumes)) => {
                self.volumes = volumes;
                self.observed.volumes = Stage::Ready;
            }
            Outcome::Volumes(Err(error)) => {
                self.warn(None, &error.reason, &error.message);
                let retry = |count| mount_delay(count).as_secs();
                self.observed.volumes = failed_until(&self.observed.volumes, &error.reason, error.message, now, retry);
            }
            Outcome::Pull { container, attempt, result } => self.note_pull(&container, attempt, result, now),
            Outcome::Start { container, attempt, result } => self.note_start(&container, attempt, *result, now),
            Outcome::Hook { container, attempt, post_start, result } => {
                self.note_hook(&container, attempt, post_start, result);
            }
            Outcome::Signal { container, id, kill, result } => self.note_signal(&container, &id, kill, result, now),
            Outcome::Remove { container, attempt, result } => self.note_removed(&container, attempt, result, now),
            Outcome::Inspect { container, id, result } => self.note_inspected(&container, &id, *result, now),
            Outcome::Connections(result) => self.note_connections(result, now),
            Outcome::CleanUp(Ok(())) => self.observed.cleanup = Stage::Ready,
            Outcome::CleanUp(Err(message)) => {
                self.warn(None, "FailedKillPod", &message);
                self.observed.cleanup = failed(&self.observed.cleanup, "FailedKillPod", message, now);
            }
            Outcome::DeleteObject(Ok(()) | Err(PodApiError::Gone)) => self.observed.object = Stage::Ready,
            Outcome::DeleteObject(Err(error)) => {
                // The rest of the pod is gone: nothing is spared by waiting longer for the API than a status does.
                let retry = |_| RETRY_SECS;
                self.observed.object =
                    failed_until(&self.observed.object, "FailedDelete", error.to_string(), now, retry);
            }
            Outcome::Status { result, written } => self.note_status(result, *written, now),
            Outcome::Refreshed => {}
            Outcome::VolumesRefreshed(result) => {
                self.refreshing = false;
                if let Err(error) = result {
                    self.warn(None, &error.reason, &error.message);
                }
            }
        }
    }

    /// A step ended without an outcome: it was aborted, or it panicked.
    pub(super) fn step_lost(&mut self, error: &tokio::task::JoinError) {
        if error.is_panic() {
            tracing::error!(pod.uid = %self.uid, %error, "a step of the pod's life panicked");
        }
        // Which step it was is not known: containers that wait for an answer are looked at again by a listing.
        for state in self.observed.containers.values_mut() {
            state.busy = None;
        }
        for stage in [&mut self.observed.network, &mut self.observed.volumes, &mut self.observed.cleanup] {
            if matches!(stage, Stage::Busy(_)) {
                *stage = Stage::Pending;
            }
        }
        self.pulls.clear();
    }

    fn note_pull(
        &mut self,
        name: &str,
        attempt: u32,
        result: Result<(), crate::pod::apply::PullFailure>,
        now: Timestamp,
    ) {
        self.pulls.remove(name);
        self.touch(name);
        let image = self.image_of(name);
        let Some(state) = self.observed.containers.get_mut(name) else { return };
        state.busy = None;
        match result {
            Ok(()) => {
                state.setback = None;
                state.pulled_for = Some(attempt);
                self.say(Some(name), "Pulled", &format!("Successfully pulled image {image:?}"));
            }
            Err(failure) => {
                set_back(state, failure.reason, failure.message.clone(), false, now);
                self.warn(Some(name), "Failed", &failure.message);
                self.warn(Some(name), "Failed", "Error: ErrImagePull");
            }
        }
    }

    fn note_start(&mut self, name: &str, number: u32, result: Result<Started, StartFailure>, now: Timestamp) {
        self.touch(name);
        let Some(state) = self.observed.containers.get_mut(name) else { return };
        state.busy = None;
        match result {
            Ok(started) => {
                let Started { id, image_id, hash, at } = started;
                enter_attempt(
                    state,
                    Attempt { id: id.clone(), number, phase: Phase::Running { started_at: at }, image_id, hash },
                );
                self.say(Some(name), "Started", &format!("Started container {name}"));
                if self.early_ends.contains(&id) {
                    self.early_ends.clear();
                    self.inspect(name, &id, number);
                }
            }
            Err(StartFailure::Config { reason, message }) => {
                set_back(state, reason, message.clone(), true, now);
                self.warn(Some(name), "Failed", &format!("Error: {message}"));
            }
            Err(StartFailure::Create(error)) if error.kind == ErrorKind::NoSuchImage => {
                // The cache was wrong; it is listed anew and the pull policy decides.
                state.pulled_for = None;
                set_back(state, "CreateContainerError", error.message, true, now);
                self.refresh_images();
            }
            Err(StartFailure::Create(error)) => {
                state.unlisted |= error.is_engine_down();
                set_back(state, "CreateContainerError", error.message.clone(), true, now);
                self.warn(Some(name), "Failed", &format!("Error: {error}"));
            }
            Err(StartFailure::Start { id, image_id, error }) if error.is_engine_down() => {
                // Whether it runs is not known; the engine is asked now, and by every listing.
                let asked = id.clone();
                let hash = self.hash_of(name);
                if let Some(state) = self.observed.containers.get_mut(name) {
                    enter_attempt(state, Attempt { id, number, phase: Phase::Unknown, image_id, hash });
                    set_back(state, "RunContainerError", error.message, true, now);
                }
                self.touched.remove(name);
                self.inspect(name, &asked, number);
            }
            Err(StartFailure::Start { id, image_id, error }) => {
                let hash = self.hash_of(name);
                let message = error.message.clone();
                if let Some(state) = self.observed.containers.get_mut(name) {
                    enter_attempt(state, Attempt { id: id.clone(), number, phase: Phase::Created, image_id, hash });
                    note_end(state, cannot_run(id, message.clone(), now));
                }
                self.warn(Some(name), "Failed", &format!("Error: failed to start container {name:?}: {message}"));
            }
        }
    }

    fn note_hook(&mut self, name: &str, attempt: u32, post_start: bool, result: Result<(), String>) {
        let Some(state) = self.observed.containers.get_mut(name) else { return };
        if state.current().is_none_or(|current| current.number != attempt) {
            return;
        }
        let failure = result.err();
        let hook = failure.clone().map_or(Hook::Done, Hook::Failed);
        let reason = if post_start { "FailedPostStartHook" } else { "FailedPreStopHook" };
        if post_start {
            state.post_start = hook;
        } else {
            state.pre_stop = hook;
        }
        if let Some(message) = failure {
            self.warn(Some(name), reason, &message);
        }
    }

    fn note_signal(
        &mut self,
        name: &str,
        id: &ContainerId,
        kill: bool,
        result: Result<(), EngineError>,
        now: Timestamp,
    ) {
        let Some(state) = self.observed.containers.get_mut(name) else { return };
        if state.busy == Some(crate::pod::observed::Operation::Signal) {
            state.busy = None;
        }
        if state.ended().is_some() {
            return;
        }
        let number = state.restart_count();
        if let Some(stop) = &mut state.stop {
            stop.signalled_at = Some(now);
            if kill {
                stop.killed_at = Some(now);
            }
        }
        match result {
            Ok(()) => {}
            Err(error) if matches!(error.kind, ErrorKind::NotRunning | ErrorKind::NotFound) => {
                self.inspect(name, id, number);
            }
            Err(error) => {
                if let Some(stop) = state.stop.as_mut().filter(|_| !kill) {
                    stop.signalled_at = None;
                    // SIGKILL comes at the end of the grace period in any case; until then the signal is tried again.
                    set_back(state, "FailedKillPod", error.message.clone(), true, now);
                }
                self.warn(Some(name), "FailedKillPod", &error.to_string());
            }
        }
    }

    fn note_removed(&mut self, name: &str, attempt: u32, result: Result<(), EngineError>, now: Timestamp) {
        self.touch(name);
        let Some(state) = self.observed.containers.get_mut(name) else { return };
        state.busy = None;
        match result {
            Ok(()) => {
                let index = state.attempts.iter().position(|known| known.number == attempt);
                if let Some(gone) = index.map(|index| state.attempts.remove(index)) {
                    state.restarts_known = state.restarts_known.max(gone.number);
                    if let Phase::Exited(end) = gone.phase {
                        state.last_end = Some(end);
                    } else {
                        state.last_end = Some(killed(gone.id, now));
                    }
                }
                state.setback = None;
            }
            Err(error) => {
                set_back(state, "FailedKillPod", error.message.clone(), true, now);
                self.warn(Some(name), "FailedKillPod", &error.to_string());
            }
        }
    }

    fn note_inspected(
        &mut self,
        name: &str,
        id: &ContainerId,
        result: Result<(crate::engine::ContainerDetails, Option<End>), EngineError>,
        now: Timestamp,
    ) {
        self.touch(name);
        let Some(state) = self.observed.containers.get_mut(name) else { return };
        state.busy = None;
        match result {
            Ok((_, Some(end))) => note_end(state, end),
            Ok((details, None)) => {
                let attempt = state.attempts.iter_mut().find(|attempt| attempt.id == *id);
                match (attempt, details.summary.phase) {
                    (Some(attempt), ContainerPhase::Running) => {
                        attempt.phase = Phase::Running { started_at: details.started_at.unwrap_or(now) };
                        state.setback = None;
                        // Probes go on from the last word on this very container: taking a pod over changes nothing.
                        let same = |before: &Before| before.container_id.ends_with(id.as_str());
                        if let Some(before) = state.before.take_if(|before| same(before)) {
                            state.probes.startup = before.started.then_some(true);
                            state.probes.readiness = Some(before.ready);
                        }
                    }
                    (Some(attempt), ContainerPhase::Created) => attempt.phase = Phase::Created,
                    (
                        _,
                        ContainerPhase::Created
                        | ContainerPhase::Exited
                        | ContainerPhase::Removing
                        | ContainerPhase::Running,
                    ) => {}
                }
            }
            Err(error) if error.kind == ErrorKind::NotFound => {
                // The next listing takes it out.
                self.touched.remove(name);
            }
            // The next listing asks again.
            Err(_) => self.touched.remove(name).map_or((), drop),
        }
    }

    fn note_connections(&mut self, result: std::io::Result<u32>, now: Timestamp) {
        let Some(end) = &mut self.observed.termination else { return };
        end.counting = false;
        end.counted_at = Some(now);
        match result {
            Ok(count) => end.connections = Some(count),
            // Without a name space to look into there is nothing to wait for.
            Err(error) => {
                tracing::debug!(pod.uid = %self.uid, %error, "connections cannot be counted");
                end.connections = Some(0);
            }
        }
    }

    pub(super) fn note_verdict(&mut self, verdict: ProbeVerdict) {
        let ProbeVerdict { container, id, kind, passed, failure } = verdict;
        let Some(state) = self.observed.containers.get_mut(&container) else { return };
        if state.current().is_none_or(|current| current.id != id) || !state.is_running() {
            return;
        }
        match (kind, passed) {
            (_, None) => {}
            // Once passed, a startup probe is over.
            (ProbeKind::Startup, Some(_)) if state.probes.startup == Some(true) => {}
            (ProbeKind::Startup, passed) => state.probes.startup = passed,
            (ProbeKind::Readiness, passed) => state.probes.readiness = passed,
            (ProbeKind::Liveness, passed) => state.probes.liveness = passed,
        }
        if let Some(message) = failure {
            self.warn(Some(&container), "Unhealthy", &message);
        }
    }
}

fn enter_attempt(state: &mut ContainerState, attempt: Attempt) {
    match state.attempts.iter_mut().find(|known| known.id == attempt.id) {
        Some(known) => {
            known.phase = attempt.phase;
            state.setback = None;
            state.post_start = Hook::Pending;
        }
        None => state.begin_attempt(attempt),
    }
}

fn set_back(state: &mut ContainerState, reason: &str, message: String, quick: bool, now: Timestamp) {
    let count =
        state.setback.as_ref().filter(|setback| setback.reason == reason).map_or(1, |setback| setback.count + 1);
    let retry_at = after(now, setback_delay(count, quick).as_secs());
    state.setback = Some(Setback { reason: reason.to_owned(), message, retry_at, count });
}

fn failed(stage: &Stage, reason: &str, message: String, now: Timestamp) -> Stage {
    failed_until(stage, reason, message, now, |count| setback_delay(count, true).as_secs())
}

/// A stage that has failed once more; `retry_secs` says how long to wait after so many failures in a row.
fn failed_until(
    stage: &Stage,
    reason: &str,
    message: String,
    now: Timestamp,
    retry_secs: impl FnOnce(u32) -> i64,
) -> Stage {
    let count = stage.setback().map_or(0, |setback| setback.count) + 1;
    let retry_at = after(now, retry_secs(count));
    Stage::Failed(Setback { reason: reason.to_owned(), message, retry_at, count })
}

fn cannot_run(id: ContainerId, message: String, now: Timestamp) -> End {
    let (reason, message) = ("ContainerCannotRun".to_owned(), Some(message));
    End { id: Some(id), exit_code: 128, reason, message, started_at: None, finished_at: now }
}

fn killed(id: ContainerId, now: Timestamp) -> End {
    End { id: Some(id), exit_code: 137, reason: "Error".to_owned(), message: None, started_at: None, finished_at: now }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retry_under_way_still_says_why_the_last_one_failed_and_the_next_failure_waits_longer() {
        let now = Timestamp::UNIX_EPOCH;
        let mut stage = failed(&Stage::Pending, "FailedMount", "configmap \"c\" not found".to_owned(), now);
        let mut waits = Vec::new();
        for _ in 0..6 {
            stage.begin();
            assert_eq!(stage.setback().map(|setback| setback.message.as_str()), Some("configmap \"c\" not found"));
            stage = failed(&stage, "FailedMount", "configmap \"c\" not found".to_owned(), now);
            waits.extend(stage.setback().map(|setback| setback.retry_at.as_second()));
        }
        assert_eq!(waits, [4, 8, 80, 160, 300, 300]);
    }
}
