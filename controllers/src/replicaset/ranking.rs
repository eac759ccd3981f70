//! Which replica to remove first: the one that will be missed least.
//!
//! The order is that of Kubernetes (ReplicaSet documentation, "Scaling a ReplicaSet"): unscheduled, pending, not ready,
//! cheaper by `pod-deletion-cost`, doubled up on a node, ready for a shorter time, more restarts, younger. Ages count
//! by powers of two, so that removals spread over pods of about one age.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::objects::pods;

/// Annotation by which users say which pod they would rather keep.
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// Sorts keys so that the pod to remove first comes first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RemovalKey<'a> {
    scheduled: bool,
    phase: u8,
    ready: bool,
    cost: i32,
    crowd: Reverse<usize>,
    ready_age: u32,
    restarts: Reverse<i32>,
    age: u32,
    uid: &'a str,
}

/// Returns the place of a pod in the order of removal.
pub(super) fn removal_key<'a>(pod: &'a Pod, ready_on_node: &BTreeMap<String, usize>, now: Timestamp) -> RemovalKey<'a> {
    let node = pods::node_name(pod);
    let cost = pod.metadata.annotations.iter().flatten().find(|(name, _)| *name == DELETION_COST);
    RemovalKey {
        scheduled: node.is_some(),
        phase: match pods::phase(pod) {
            "Pending" => 0,
            "Unknown" => 1,
            _ => 2,
        },
        ready: pods::is_ready(pod),
        cost: cost.and_then(|(_, cost)| cost.parse().ok()).unwrap_or(0),
        crowd: Reverse(node.and_then(|node| ready_on_node.get(node)).copied().unwrap_or(0)),
        ready_age: magnitude(pods::ready_since(pod), now),
        restarts: Reverse(pods::restarts(pod)),
        age: magnitude(pods::created_at(pod), now),
        uid: pod.metadata.uid.as_deref().unwrap_or_default(),
    }
}

/// Returns the number of binary digits of an age in seconds; an unknown age is youngest.
fn magnitude(since: Option<Timestamp>, now: Timestamp) -> u32 {
    let seconds = since.map_or(0, |since| now.as_second().saturating_sub(since.as_second()).max(0));
    u64::BITS - seconds.unsigned_abs().leading_zeros()
}
