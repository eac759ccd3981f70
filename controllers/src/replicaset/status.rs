//! Counts a ReplicaSet's pods. Pure.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::objects::{pods, selector::Labels};
use crate::runtime::clock::whole_seconds;

/// The condition that says pods could not be made or removed.
pub(super) const REPLICA_FAILURE: &str = "ReplicaFailure";

/// Counts the set's own pods; also returns when the next of them becomes available by time alone.
pub(super) fn build_status(set: &ReplicaSet, mine: &[&Pod], now: Timestamp) -> (ReplicaSetStatus, Option<Duration>) {
    let min_ready = set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0);
    let min_ready = Duration::from_secs(u64::try_from(min_ready).unwrap_or(0));
    let template_labels = set
        .spec
        .as_ref()
        .and_then(|spec| spec.template.as_ref())
        .and_then(|template| template.metadata.as_ref().and_then(|metadata| metadata.labels.as_ref()));
    let active: Vec<&Pod> = mine.iter().copied().filter(|pod| pods::is_replica(pod)).collect();
    let waits: Vec<Duration> = active.iter().filter_map(|pod| pods::until_available(pod, min_ready, now)).collect();
    let ready = active.iter().filter(|pod| pods::is_ready(pod)).count();
    let fully_labeled = active.iter().filter(|pod| has_labels(pod, template_labels)).count();
    let available = waits.iter().filter(|wait| wait.is_zero()).count();
    let status = ReplicaSetStatus {
        replicas: count(active.len()),
        fully_labeled_replicas: positive(fully_labeled),
        ready_replicas: positive(ready),
        available_replicas: positive(available),
        observed_generation: set.metadata.generation,
        conditions: set.status.as_ref().and_then(|status| status.conditions.clone()),
        ..ReplicaSetStatus::default()
    };
    (status, waits.into_iter().filter(|wait| !wait.is_zero()).min())
}

/// Sets or clears the failure condition. An unchanged condition keeps its time.
pub(super) fn set_failure(status: &mut ReplicaSetStatus, failure: Option<(&str, String)>, now: Timestamp) {
    let mut conditions = status.conditions.take().unwrap_or_default();
    let position = conditions.iter().position(|condition| condition.type_ == REPLICA_FAILURE);
    match (failure, position) {
        (None, Some(position)) => {
            conditions.remove(position);
        }
        (None, None) => {}
        (Some((reason, _)), Some(position)) if conditions[position].reason.as_deref() == Some(reason) => {}
        (Some((reason, message)), position) => {
            if let Some(position) = position {
                conditions.remove(position);
            }
            conditions.push(ReplicaSetCondition {
                type_: REPLICA_FAILURE.to_owned(),
                status: "True".to_owned(),
                reason: Some(reason.to_owned()),
                message: Some(message),
                last_transition_time: Some(Time(whole_seconds(now))),
            });
        }
    }
    status.conditions = (!conditions.is_empty()).then_some(conditions);
}

fn has_labels(pod: &Pod, wanted: Option<&Labels>) -> bool {
    let labels = pod.metadata.labels.as_ref();
    wanted.into_iter().flatten().all(|(name, value)| labels.and_then(|labels| labels.get(name)) == Some(value))
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// Kubernetes leaves these counts out when they are zero.
fn positive(number: usize) -> Option<i32> {
    (number > 0).then_some(count(number))
}
