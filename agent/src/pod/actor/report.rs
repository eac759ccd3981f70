//! What the actor tells others: pod status, directory, events, probes.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodStatus};

use super::{Actor, JOIN_WAIT_SECS, Outcome, RETRY_SECS};
use crate::{
    pod::{
        observed::{Cause, ContainerState, Phase, Stage, shift},
        plan::{ContainerRole, after, pod_containers, started},
        routes::Join,
    },
    probes::{ProbeKind, ProbeTarget},
    seams::{ContainerRecord, PodRecord},
    source::{PodApiError, revision_of},
    status::{StatusInput, build_status, conditions::awaiting_routes_since, is_final, says_the_same},
};

/// Where the report of a pod is.
#[derive(Debug, Default)]
pub(super) struct ReportState {
    /// The status that the API has, by our last write.
    written: Option<PodStatus>,
    /// The object's revision with that write: newer ones may say something else.
    revision: u64,
    /// Others' word is not looked at before.
    objects_at: Option<Timestamp>,
    /// Whether a write is under way.
    writing: bool,
    /// Not before.
    retry_at: Option<Timestamp>,
    /// Whether the wait for the proxies was given up.
    join_overdue: bool,
    /// The directory entry as it was put last.
    record: Option<PodRecord>,
}

impl ReportState {
    /// As [`Observed::follow_clock`](crate::pod::observed::Observed::follow_clock).
    pub(super) fn follow_clock(&mut self, jump: SignedDuration) {
        self.objects_at.iter_mut().chain(&mut self.retry_at).for_each(|at| shift(at, jump));
    }
}

impl Actor {
    /// Writes what changed; returns when to look again.
    pub(super) fn report(&mut self, now: Timestamp) -> Option<Timestamp> {
        self.note_initialized();
        self.put_record();
        // What is being asked of the engine is not reported as lost.
        let unknown = |state: &ContainerState| state.current().is_some_and(|attempt| attempt.phase == Phase::Unknown);
        let asking = self.observed.containers.values().any(unknown);
        if !self.observed.listed || asking || self.object_is_going() {
            return None;
        }
        let look_at = self.object_to_others(now);
        // Once ready, the proxies' word is not asked for again.
        let join = if self.was_ready() { Join::NotSelected } else { self.join() };
        let mut status = self.status(join, now);
        let mut wake_at = look_at;
        if let Some(since) = awaiting_routes_since(&status) {
            let give_up_at = after(since, JOIN_WAIT_SECS);
            // A moment ahead was written by a clock that has been set back since.
            if now >= give_up_at || now < since {
                self.report.join_overdue = true;
                let message = "the service proxies did not acknowledge the pod in time; it counts as ready";
                self.warn(None, "RoutesNotAcknowledged", message);
                status = self.status(join, now);
            } else {
                wake_at = Some(look_at.map_or(give_up_at, |look_at| look_at.min(give_up_at)));
            }
        }
        if is_final(status.phase.as_deref()) && self.observed.termination.is_none() {
            self.observed.finished = true;
        }
        if let Some(at) = self.report.retry_at.filter(|at| *at > now) {
            return Some(wake_at.map_or(at, |wake_at: Timestamp| wake_at.min(at)));
        }
        if self.report.written.is_none() && self.pod.status.as_ref().is_some_and(|known| says_the_same(known, &status))
        {
            self.report.written = Some(status.clone());
        }
        if !self.report.writing && self.report.written.as_ref() != Some(&status) {
            self.write(status);
        }
        wake_at
    }

    /// Writes the status anew when somebody said otherwise after us: while the node was not heard its pods were taken
    /// out of Services. Returns when to look again.
    fn object_to_others(&mut self, now: Timestamp) -> Option<Timestamp> {
        let report = &mut self.report;
        let written = report.written.as_ref().filter(|_| !report.writing)?;
        let agreed = self.pod.status.as_ref().is_some_and(|known| says_the_same(known, written));
        let newer = revision_of(self.pod.as_ref()) > report.revision;
        if agreed || !newer || drover_api::mutants::active("C23-pods-stay-doubted") {
            return None;
        }
        if let Some(at) = report.objects_at.filter(|at| *at > now) {
            return Some(at);
        }
        report.written = None;
        report.objects_at = Some(after(now, RETRY_SECS));
        None
    }

    fn status(&self, join: Join, now: Timestamp) -> PodStatus {
        // Transition times come from what we wrote last, which the informer may not have seen yet.
        let pod = match &self.report.written {
            Some(written) => &Pod { status: Some(merged(&self.pod, written)), ..(*self.pod).clone() },
            None => self.pod.as_ref(),
        };
        let input = StatusInput {
            pod,
            observed: &self.observed,
            host_ip: self.context.node.host_ip,
            join,
            join_overdue: self.report.join_overdue,
            now,
        };
        build_status(&input)
    }

    fn was_ready(&self) -> bool {
        let status = self.report.written.as_ref().or(self.pod.status.as_ref());
        let conditions = status.and_then(|status| status.conditions.as_ref());
        conditions.is_some_and(|list| list.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
    }

    /// The object is about to be deleted, or is gone: nobody reads its status.
    fn object_is_going(&self) -> bool {
        let gone = self.observed.termination.as_ref().is_some_and(|end| end.cause == Cause::Gone);
        gone || self.observed.object != Stage::Pending || self.observed.cleanup != Stage::Pending
    }

    fn write(&mut self, status: PodStatus) {
        self.report.writing = true;
        let (context, pod) = (Arc::clone(&self.context), Arc::clone(&self.pod));
        self.steps.spawn(async move {
            let result = context.api.patch_status(&pod, &status).await;
            Outcome::Status { result, written: Box::new(status) }
        });
    }

    pub(super) fn note_status(&mut self, result: Result<u64, PodApiError>, written: PodStatus, now: Timestamp) {
        self.report.writing = false;
        match result {
            Ok(revision) => {
                self.report.written = Some(written);
                self.report.revision = revision;
                self.report.retry_at = None;
            }
            // Noticed through the informer.
            Err(PodApiError::Gone) => self.report.written = Some(written),
            Err(error) => {
                tracing::debug!(pod.uid = %self.uid, %error, "pod status not written; trying again");
                self.report.retry_at = Some(after(now, RETRY_SECS));
            }
        }
    }

    /// Once every init container is done, or a main container exists, init containers are over for good.
    fn note_initialized(&mut self) {
        let Some(spec) = self.pod.spec.as_ref().filter(|_| !self.observed.initialized) else { return };
        let empty = ContainerState::default();
        let containers = pod_containers(spec);
        let state = |name: &str| self.observed.containers.get(name).unwrap_or(&empty);
        let done = containers.iter().all(|container| match container.role {
            ContainerRole::Init => state(&container.spec.name).ended().is_some_and(|end| end.exit_code == 0),
            ContainerRole::Sidecar => started(container.spec, state(&container.spec.name)),
            ContainerRole::Main => true,
        });
        let begun = containers
            .iter()
            .any(|container| container.role == ContainerRole::Main && !state(&container.spec.name).attempts.is_empty());
        self.observed.initialized = self.observed.listed && (done || begun);
    }

    fn put_record(&mut self) {
        let meta = &self.pod.metadata;
        let on_host = self.pod.spec.as_ref().is_some_and(|spec| spec.host_network == Some(true));
        let mut record = PodRecord {
            uid: self.uid.clone(),
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            address: self.address(),
            netns: self.observed.sandbox.as_ref().filter(|_| !on_host).map(|sandbox| sandbox.netns.clone()),
            containers: std::collections::BTreeMap::new(),
        };
        for container in self.pod.spec.iter().flat_map(pod_containers) {
            let Some(state) = self.observed.containers.get(&container.spec.name) else { continue };
            let before = state.attempts.len().checked_sub(2).and_then(|index| state.attempts.get(index));
            let entry = ContainerRecord {
                current: state.current().map(|attempt| attempt.id.clone()),
                previous: before.map(|attempt| attempt.id.clone()),
                running: state.is_running(),
                tty: container.spec.tty == Some(true),
                stdin: container.spec.stdin == Some(true),
            };
            record.containers.insert(container.spec.name.clone(), entry);
        }
        if self.report.record.as_ref() != Some(&record) {
            self.context.directory.put(record.clone());
            self.report.record = Some(record);
        }
    }

    pub(super) fn reconcile_probes(&mut self) {
        // A probe keeps the target it began with: after a restart the containers may be known before the address is.
        let Some(address) = self.address() else { return };
        let mut wanted = Vec::new();
        let ending = self.observed.termination.is_some();
        for container in self.pod.spec.iter().flat_map(pod_containers) {
            let Some(state) = self.observed.containers.get(&container.spec.name) else { continue };
            let Some(attempt) = state.current().filter(|_| state.is_running() && container.role != ContainerRole::Init)
            else {
                continue;
            };
            let target = ProbeTarget {
                engine: Arc::clone(&self.context.engine),
                prober: Arc::clone(&self.context.prober),
                id: attempt.id.clone(),
                container: container.spec.clone(),
                address: Some(address),
            };
            let starting = container.spec.startup_probe.is_some() && state.probes.startup != Some(true);
            let kinds: &[ProbeKind] = match (starting, ending || state.stop.is_some()) {
                (true, false) => &[ProbeKind::Startup],
                (false, false) => &[ProbeKind::Readiness, ProbeKind::Liveness],
                (false, true) => &[ProbeKind::Readiness],
                (true, true) => &[],
            };
            let probes = kinds.iter().filter(|kind| crate::probes::probe_of(container.spec, **kind).is_some());
            wanted.extend(probes.map(|kind| (*kind, target.clone())));
        }
        self.probes.reconcile(&wanted, &self.verdicts_tx);
    }

    pub(super) fn say(&self, container: Option<&str>, reason: &str, message: &str) {
        self.context.recorder.pod(&self.pod, container, false, reason, message);
    }

    pub(super) fn warn(&self, container: Option<&str>, reason: &str, message: &str) {
        self.context.recorder.pod(&self.pod, container, true, reason, message);
    }
}

/// Our last status with the conditions of other writers from the object.
fn merged(pod: &Pod, written: &PodStatus) -> PodStatus {
    let mut status = written.clone();
    let ours = status.conditions.get_or_insert_default();
    let theirs = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    for condition in theirs {
        if !ours.iter().any(|own| own.type_ == condition.type_) {
            ours.push(condition.clone());
        }
    }
    status
}
