//! What an object says, in the words that rules ask in. Pure; knows no rule.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        apps::v1::ReplicaSet,
        core::v1::{Node, Pod, PodCondition, Service},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use crate::World;

/// `kind/namespace/name`, or `kind/name` for a cluster's object.
pub(crate) fn subject(kind: &str, metadata: &ObjectMeta) -> String {
    match metadata.namespace.as_deref() {
        Some(namespace) => format!("{kind}/{namespace}/{}", name(metadata)),
        None => format!("{kind}/{}", name(metadata)),
    }
}

pub(crate) fn name(metadata: &ObjectMeta) -> &str {
    metadata.name.as_deref().unwrap_or_default()
}

pub(crate) fn uid(metadata: &ObjectMeta) -> &str {
    metadata.uid.as_deref().unwrap_or_default()
}

pub(crate) fn is_terminating(metadata: &ObjectMeta) -> bool {
    metadata.deletion_timestamp.is_some()
}

/// The uid of the controlling owner, empty for none.
pub(crate) fn controller_uid(metadata: &ObjectMeta) -> &str {
    let owners = metadata.owner_references.iter().flatten();
    owners.filter(|owner| owner.controller == Some(true)).map(|owner| owner.uid.as_str()).next().unwrap_or_default()
}

/// Seconds since an object was made; `None` when it does not say.
pub(crate) fn age_secs(metadata: &ObjectMeta, now: Timestamp) -> Option<f64> {
    metadata.creation_timestamp.as_ref().map(|time| now.duration_since(time.0).as_secs_f64())
}

pub(crate) fn is_finished(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending")
}

/// Counts as a replica: neither ended nor being deleted.
pub(crate) fn is_active(pod: &Pod) -> bool {
    !is_finished(pod) && !is_terminating(&pod.metadata)
}

/// Whether the pod is shown as gone with its host: then it counts for nothing.
pub fn is_gone(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let mut ready = conditions.into_iter().flatten().filter(|condition| condition.type_ == "Ready");
    ready.any(|condition| condition.status != "True" && condition.reason.as_deref() == Some("HostDown"))
}

pub(crate) fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|node| !node.is_empty())
}

pub(crate) fn is_on_host_network(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.host_network).unwrap_or(false)
}

pub(crate) fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}

pub(crate) fn is_true(pod: &Pod, kind: &str) -> bool {
    condition(pod, kind).is_some_and(|condition| condition.status == "True")
}

/// Whether a container of the pod was started or ended in the last so many seconds.
pub(crate) fn changed_within(pod: &Pod, now: Timestamp, secs: f64) -> bool {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let states = statuses.flat_map(|status| status.state.iter().chain(&status.last_state));
    let mut moments = states.flat_map(|state| {
        let started = state.running.as_ref().and_then(|running| running.started_at.as_ref());
        let ended = state.terminated.as_ref().and_then(|terminated| terminated.finished_at.as_ref());
        started.into_iter().chain(ended)
    });
    moments.any(|moment| now.duration_since(moment.0).as_secs_f64().abs() < secs)
}

/// The pod's own addresses; none for one on its node's network.
pub(crate) fn addresses(pod: &Pod) -> Vec<&str> {
    let Some(status) = pod.status.as_ref().filter(|_| !is_on_host_network(pod)) else { return Vec::new() };
    let listed: Vec<&str> = status.pod_ips.iter().flatten().map(|address| address.ip.as_str()).collect();
    let all = if listed.is_empty() { status.pod_ip.as_deref().into_iter().collect() } else { listed };
    all.into_iter().filter(|address| !address.is_empty()).collect()
}

pub(crate) fn is_node_ready(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Whether a pod is bound to a node that exists, is ready and, when hosts are looked at at all, can be seen.
pub(crate) fn is_on_good_node(world: &World, pod: &Pod) -> bool {
    let Some(name) = node_of(pod) else { return false };
    let node = world.nodes.iter().find(|node| self::name(&node.metadata) == name);
    node.is_some_and(is_node_ready) && (world.hosts.is_empty() || world.hosts.contains_key(name))
}

pub(crate) fn selects(service: &Service, pod: &Pod) -> bool {
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    service.metadata.namespace == pod.metadata.namespace
        && selector.is_some_and(|selector| !selector.is_empty() && has_labels(&pod.metadata, selector))
}

fn has_labels(metadata: &ObjectMeta, wanted: &BTreeMap<String, String>) -> bool {
    let labels = metadata.labels.as_ref();
    wanted.iter().all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
}

/// The ReplicaSets that an object controls.
pub(crate) fn sets_of<'a>(world: &'a World, owner: &'a ObjectMeta) -> impl Iterator<Item = &'a ReplicaSet> {
    world.replica_sets.iter().filter(|set| !uid(owner).is_empty() && controller_uid(&set.metadata) == uid(owner))
}

/// The pods that an object controls.
pub(crate) fn pods_of<'a>(world: &'a World, owner: &'a ObjectMeta) -> impl Iterator<Item = &'a Pod> {
    world.pods.iter().filter(|pod| !uid(owner).is_empty() && controller_uid(&pod.metadata) == uid(owner))
}

pub(crate) fn wanted(set: &ReplicaSet) -> i64 {
    set.spec.as_ref().and_then(|spec| spec.replicas).map_or(1, i64::from)
}

pub(crate) fn count<T>(items: impl Iterator<Item = T>) -> i64 {
    items.map(|_| 1).sum()
}
