//! Takes listings and events of the engine in: hints and the level beneath them.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::time::Instant;

use super::{Actor, Outcome};
use crate::{
    config::identity_of,
    engine::{ContainerPhase, ContainerSummary},
    ids::ContainerId,
    pod::{
        apply::describe_end,
        context::termination_log,
        observed::{Attempt, Before, ContainerState, End, Hook, Operation, Phase},
        plan::{RESET_AFTER, pod_containers},
    },
};

impl Actor {
    /// A container ended, says an event. While it is being stopped the event is enough; else the engine is asked how.
    pub(super) fn note_died(&mut self, id: &ContainerId, exit_code: Option<i64>, at: Option<Timestamp>) {
        let Some((name, number)) = self.find(id) else {
            self.early_ends.push(id.clone());
            return;
        };
        let ending = self.observed.termination.is_some();
        let now = self.now();
        let Some(state) = self.observed.containers.get_mut(&name) else { return };
        let current = state.current().is_some_and(|attempt| attempt.id == *id);
        match (exit_code, current && state.is_running()) {
            (_, false) => {}
            (Some(code), true) if ending => {
                let exit_code = i32::try_from(code).unwrap_or(i32::MAX);
                let reason = if exit_code == 0 { "Completed" } else { "Error" }.to_owned();
                let end = End {
                    id: Some(id.clone()),
                    exit_code,
                    reason,
                    message: None,
                    started_at: None,
                    finished_at: at.unwrap_or(now),
                };
                note_end(state, end);
                // The call that ended it may still be unanswered; it says nothing new.
                if state.busy == Some(Operation::Signal) {
                    state.busy = None;
                }
                self.touch(&name);
            }
            (Some(_) | None, true) => self.inspect(&name, id, number),
        }
    }

    /// Brings the observed attempts in line with what the engine has.
    pub(super) fn note_listing(&mut self, taken_at: Instant, containers: &[ContainerSummary]) {
        self.observed.listed = true;
        let Some(spec) = self.pod.spec.clone() else { return };
        for container in pod_containers(&spec) {
            let name = &container.spec.name;
            let stale = self.touched.get(name).is_some_and(|touched| *touched >= taken_at);
            let busy = self.observed.containers.get(name).is_some_and(|state| state.busy.is_some());
            if stale || busy {
                continue;
            }
            self.forget_vanished(name, containers);
            let mut listed: Vec<_> = containers
                .iter()
                .filter_map(|summary| Some((identity_of(&summary.labels)?, summary)))
                .filter(|(identity, _)| identity.container == *name)
                .collect();
            listed.sort_by_key(|(identity, _)| identity.attempt);
            for (identity, summary) in listed {
                self.note_listed(name, identity.attempt, &identity.hash, summary);
            }
        }
    }

    /// Forgets what a listing does not have; all there is has been listed now.
    fn forget_vanished(&mut self, name: &str, containers: &[ContainerSummary]) {
        let now = self.now();
        let Some(state) = self.observed.containers.get_mut(name) else { return };
        state.unlisted = false;
        let known = std::mem::take(&mut state.attempts);
        for attempt in known {
            if containers.iter().any(|summary| summary.id == attempt.id) {
                state.attempts.push(attempt);
                continue;
            }
            // Somebody removed it behind our back.
            state.restarts_known = state.restarts_known.max(attempt.number);
            state.last_end = Some(match attempt.phase {
                Phase::Exited(end) => end,
                Phase::Created | Phase::Unknown | Phase::Running { .. } => End {
                    id: Some(attempt.id),
                    exit_code: 137,
                    reason: "ContainerStatusUnknown".to_owned(),
                    message: Some("The container is no longer known to the engine".to_owned()),
                    started_at: None,
                    finished_at: now,
                },
            });
        }
    }

    fn note_listed(&mut self, name: &str, number: u32, hash: &str, summary: &ContainerSummary) {
        let state = self.observed.containers.entry(name.to_owned()).or_default();
        let known = state.attempts.iter().position(|attempt| attempt.id == summary.id);
        let agrees = known.and_then(|index| state.attempts.get(index)).is_some_and(|attempt| {
            matches!(
                (&attempt.phase, summary.phase),
                (Phase::Created, ContainerPhase::Created)
                    | (Phase::Running { .. }, ContainerPhase::Running)
                    | (Phase::Exited(_), ContainerPhase::Exited | ContainerPhase::Removing)
                    // A start that failed leaves the engine's container as created.
                    | (Phase::Exited(_), ContainerPhase::Created)
            )
        });
        if agrees {
            return;
        }
        if let Some(attempt) = known.and_then(|index| state.attempts.get_mut(index))
            && summary.phase == ContainerPhase::Created
        {
            attempt.phase = Phase::Created;
        }
        if known.is_none() {
            let attempt = Attempt {
                id: summary.id.clone(),
                number,
                phase: if summary.phase == ContainerPhase::Created { Phase::Created } else { Phase::Unknown },
                image_id: summary.image_id.clone(),
                hash: if drover_api::mutants::active("N04-restarts-what-it-adopts") { "" } else { hash }.to_owned(),
            };
            // What the status remembers as the last end was this very container's.
            let same = |before: &&Before| before.container_id.ends_with(summary.id.as_str());
            if let Some(before) = state.before.as_ref().filter(same) {
                state.last_end.clone_from(&before.last_end);
            }
            state.attempts.push(attempt);
            state.attempts.sort_by_key(|attempt| attempt.number);
            // The hook of a container that an earlier agent started is not run again.
            state.post_start = Hook::Done;
        }
        if summary.phase != ContainerPhase::Created {
            self.inspect(name, &summary.id, number);
        }
    }

    /// Asks the engine for the details of an attempt.
    pub(super) fn inspect(&mut self, name: &str, id: &ContainerId, number: u32) {
        let Some(state) = self.observed.containers.get_mut(name) else { return };
        state.busy = Some(Operation::Inspect);
        let context = Arc::clone(&self.context);
        let (container, id) = (name.to_owned(), id.clone());
        let file = termination_log(&context.pod_dir(&self.uid), name, number);
        let fall_back = self.pod.spec.as_ref().is_some_and(|spec| {
            let policy = pod_containers(spec).into_iter().find(|known| known.spec.name == name);
            policy.and_then(|known| known.spec.termination_message_policy.as_deref()) == Some("FallbackToLogsOnError")
        });
        self.steps.spawn(async move {
            let result = match context.engine.inspect_container(id.as_str()).await {
                Ok(details) if details.summary.phase == ContainerPhase::Exited => {
                    let now = context.clock.now();
                    let end = describe_end(&context, &details, &file, fall_back, now).await;
                    Ok((details, Some(end)))
                }
                Ok(details) => Ok((details, None)),
                Err(error) => Err(error),
            };
            Outcome::Inspect { container, id, result: Box::new(result) }
        });
    }

    /// The container and attempt number of an id.
    pub(super) fn find(&self, id: &ContainerId) -> Option<(String, u32)> {
        self.observed.containers.iter().find_map(|(name, state)| {
            let attempt = state.attempts.iter().find(|attempt| attempt.id == *id)?;
            Some((name.clone(), attempt.number))
        })
    }

    pub(super) fn touch(&mut self, name: &str) {
        self.touched.insert(name.to_owned(), Instant::now());
    }
}

/// Notes how the current attempt ended, and counts the crash unless the run was long.
pub(super) fn note_end(state: &mut ContainerState, mut end: End) {
    let Some(attempt) = state.attempts.iter_mut().find(|attempt| end.id.as_ref() == Some(&attempt.id)) else { return };
    let was_running = match &attempt.phase {
        Phase::Running { started_at } => Some(*started_at),
        Phase::Created | Phase::Unknown | Phase::Exited(_) => None,
    };
    end.started_at = end.started_at.or(was_running);
    let ran = end.started_at.map(|started_at| end.finished_at.duration_since(started_at));
    let long = ran.is_some_and(|ran| ran >= RESET_AFTER);
    // After an adoption the streak is not known: the attempt's number is the best guess.
    let before = if long { 0 } else { state.crashes.max(attempt.number.min(6)) };
    attempt.phase = Phase::Exited(end);
    state.crashes = before + 1;
    state.stop = None;
    state.probes = crate::pod::observed::Verdicts::default();
}
