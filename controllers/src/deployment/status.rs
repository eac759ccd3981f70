//! What a Deployment reports: counts, and the conditions Available and Progressing. Pure.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DeploymentCondition, DeploymentStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::members::sum;
use super::plan::Work;
use crate::objects::owners;
use crate::runtime::clock::whole_seconds;

const AVAILABLE: &str = "Available";
pub(super) const PROGRESSING: &str = "Progressing";
const REPLICA_FAILURE: &str = "ReplicaFailure";
const COMPLETE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const PAUSED: &str = "DeploymentPaused";

/// Counts pods and sets the Available condition; says nothing new about progress.
pub(super) fn counts(work: &Work<'_>) -> DeploymentStatus {
    let members = &work.members;
    let wanted = sum(members, |member| member.replicas);
    let available = sum(members, |member| member.available);
    let mut conditions = work.conditions.clone();
    let enough = available >= work.limits.available_min();
    let (status, reason, message) = if enough {
        ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    } else {
        ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    };
    set(&mut conditions, condition(AVAILABLE, status, reason, message.to_owned(), work.now));
    DeploymentStatus {
        observed_generation: work.deployment.metadata.generation,
        replicas: positive(sum(members, |member| member.actual)),
        updated_replicas: positive(work.new.map_or(0, |new| members[new].actual)),
        ready_replicas: positive(sum(members, |member| member.ready)),
        available_replicas: positive(available),
        unavailable_replicas: positive(wanted.saturating_sub(available)),
        collision_count: work.collisions,
        conditions: Some(conditions),
        ..DeploymentStatus::default()
    }
}

/// Counts pods and judges how the rollout is doing.
pub(super) fn progress(work: &mut Work<'_>) -> DeploymentStatus {
    let status = counts(work);
    let current = find(&work.conditions, PROGRESSING).cloned();
    let done_before = status.replicas == status.updated_replicas
        && current.as_ref().is_some_and(|current| current.reason.as_deref() == Some(COMPLETE));
    let mut conditions = status.conditions.clone().unwrap_or_default();
    let name = match work.new {
        Some(new) => format!("ReplicaSet {:?}", work.members[new].name),
        None => format!("Deployment {:?}", owners::name(&work.deployment.metadata)),
    };
    if deadline_secs(work).is_none() {
        conditions.retain(|condition| condition.type_ != PROGRESSING);
    } else if !done_before {
        if is_complete(work, &status) {
            let message = format!("{name} has successfully progressed.");
            set(&mut conditions, condition(PROGRESSING, "True", COMPLETE, message, work.now));
        } else if has_moved(work, &status) {
            let mut moved =
                condition(PROGRESSING, "True", "ReplicaSetUpdated", format!("{name} is progressing."), work.now);
            if let Some(current) = current.filter(|current| current.status == "True") {
                moved.last_transition_time = current.last_transition_time;
            }
            conditions.retain(|condition| condition.type_ != PROGRESSING);
            conditions.push(moved);
        } else if has_timed_out(work, &conditions) {
            let message = format!("{name} has timed out progressing.");
            set(&mut conditions, condition(PROGRESSING, "False", TIMED_OUT, message, work.now));
        }
    }
    copy_failures(work, &mut conditions);
    DeploymentStatus { conditions: Some(conditions), ..status }
}

/// Whether every pod there is is wanted, of the current template and available.
pub(super) fn is_complete(work: &Work<'_>, status: &DeploymentStatus) -> bool {
    let wanted = work.limits.replicas;
    let counts = [status.updated_replicas, status.replicas, status.available_replicas];
    counts.iter().all(|count| count.unwrap_or(0) == wanted)
        && status.observed_generation >= work.deployment.metadata.generation
}

/// Notes when a Deployment is paused or resumed, so that the deadline does not run meanwhile.
pub(super) fn note_pause(work: &mut Work<'_>) {
    let current = find(&work.conditions, PROGRESSING).and_then(|condition| condition.reason.as_deref());
    if deadline_secs(work).is_none() || current == Some(TIMED_OUT) {
        return;
    }
    let paused = work.deployment.spec.as_ref().and_then(|spec| spec.paused).unwrap_or(false);
    let (reason, message) = match (paused, current == Some(PAUSED)) {
        (true, false) => (PAUSED, "Deployment is paused"),
        (false, true) => ("DeploymentResumed", "Deployment is resumed"),
        (true, true) | (false, false) => return,
    };
    set(&mut work.conditions, condition(PROGRESSING, "Unknown", reason, message.to_owned(), work.now));
}

/// Notes that the current set exists, when nothing is known of progress yet.
pub(super) fn note_found(work: &mut Work<'_>, name: &str) {
    if deadline_secs(work).is_some() && find(&work.conditions, PROGRESSING).is_none() {
        let message = format!("Found new replica set {name:?}");
        set(&mut work.conditions, condition(PROGRESSING, "True", "FoundNewReplicaSet", message, work.now));
    }
}

/// Notes that the current set is being created.
pub(super) fn note_created(work: &mut Work<'_>, name: &str) {
    if deadline_secs(work).is_some() {
        let message = format!("Created new replica set {name:?}");
        set(&mut work.conditions, condition(PROGRESSING, "True", "NewReplicaSetCreated", message, work.now));
    }
}

/// Notes that the current set could not be created.
pub(super) fn note_create_failure(status: &mut DeploymentStatus, message: String, now: Timestamp) {
    let conditions = status.conditions.get_or_insert_default();
    set(conditions, condition(PROGRESSING, "False", "ReplicaSetCreateError", message, now));
}

/// Returns when the deadline must be looked at again; `None` when it is over, off, or not running.
pub(super) fn deadline(work: &Work<'_>, status: &DeploymentStatus) -> Option<Duration> {
    let limit = deadline_secs(work)?;
    let current = find(status.conditions.as_deref().unwrap_or_default(), PROGRESSING)?;
    let waiting = !matches!(current.reason.as_deref(), Some(TIMED_OUT | COMPLETE | PAUSED));
    if !waiting || is_complete(work, status) {
        return None;
    }
    let since = current.last_update_time.as_ref()?.0;
    let left = since.as_second().saturating_add(limit).saturating_sub(work.now.as_second());
    Some(Duration::from_secs(u64::try_from(left).unwrap_or(0) + 1))
}

fn deadline_secs(work: &Work<'_>) -> Option<i64> {
    let seconds = work.deployment.spec.as_ref().and_then(|spec| spec.progress_deadline_seconds)?;
    (seconds != i32::MAX).then_some(i64::from(seconds))
}

fn has_moved(work: &Work<'_>, status: &DeploymentStatus) -> bool {
    let before = work.deployment.status.clone().unwrap_or_default();
    let number = |count: Option<i32>| count.unwrap_or(0);
    let old_pods = |status: &DeploymentStatus| number(status.replicas) - number(status.updated_replicas);
    number(status.updated_replicas) > number(before.updated_replicas)
        || old_pods(status) < old_pods(&before)
        || number(status.ready_replicas) > number(before.ready_replicas)
        || number(status.available_replicas) > number(before.available_replicas)
}

fn has_timed_out(work: &Work<'_>, conditions: &[DeploymentCondition]) -> bool {
    let Some(current) = find(conditions, PROGRESSING) else { return false };
    match current.reason.as_deref() {
        Some(COMPLETE) => false,
        Some(TIMED_OUT) => true,
        _ => {
            let since = current.last_update_time.as_ref().map(|time| time.0.as_second());
            let limit = deadline_secs(work);
            since.zip(limit).is_some_and(|(since, limit)| since.saturating_add(limit) < work.now.as_second())
        }
    }
}

/// Passes on why a ReplicaSet cannot make pods, the current one's reason first.
fn copy_failures(work: &Work<'_>, conditions: &mut Vec<DeploymentCondition>) {
    conditions.retain(|condition| condition.type_ != REPLICA_FAILURE);
    let current_first = work.new.into_iter().chain((0..work.members.len()).filter(|index| Some(*index) != work.new));
    let failure = current_first
        .filter_map(|index| work.members[index].origin?.status.as_ref()?.conditions.as_ref())
        .flatten()
        .find(|condition| condition.type_ == REPLICA_FAILURE);
    if let Some(failure) = failure {
        conditions.push(DeploymentCondition {
            type_: REPLICA_FAILURE.to_owned(),
            status: failure.status.clone(),
            reason: failure.reason.clone(),
            message: failure.message.clone(),
            last_transition_time: failure.last_transition_time.clone(),
            last_update_time: failure.last_transition_time.clone(),
        });
    }
}

fn find<'a>(conditions: &'a [DeploymentCondition], kind: &str) -> Option<&'a DeploymentCondition> {
    conditions.iter().find(|condition| condition.type_ == kind)
}

fn condition(kind: &str, status: &str, reason: &str, message: String, now: Timestamp) -> DeploymentCondition {
    let now = Some(Time(whole_seconds(now)));
    DeploymentCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_update_time: now.clone(),
        last_transition_time: now,
    }
}

/// Replaces a condition. One that says the same stays as it is; one with the same status keeps its transition time.
fn set(conditions: &mut Vec<DeploymentCondition>, mut new: DeploymentCondition) {
    if let Some(current) = find(conditions, &new.type_) {
        if current.status == new.status && current.reason == new.reason {
            return;
        }
        if current.status == new.status {
            new.last_transition_time = current.last_transition_time.clone();
        }
    }
    conditions.retain(|condition| condition.type_ != new.type_);
    conditions.push(new);
}

/// Kubernetes leaves these counts out when they are zero.
fn positive(number: i32) -> Option<i32> {
    (number > 0).then_some(number)
}
