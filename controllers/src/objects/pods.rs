//! What a Pod's status says, in the terms controllers decide by.

use std::time::Duration;

use drover_api::placement::{Mistake, Rules};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition};

use super::owners;

/// Returns the condition of a type.
pub fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}

/// Whether a condition is `True`.
pub fn is_true(pod: &Pod, kind: &str) -> bool {
    condition(pod, kind).is_some_and(|condition| condition.status == "True")
}

/// Whether the pod is ready to serve.
pub fn is_ready(pod: &Pod) -> bool {
    is_true(pod, "Ready")
}

/// What the pod asks for in the words of classic Swarm.
///
/// # Errors
/// The first thing that is none of them; such a pod is not taken in any more, one from before may be there.
pub fn swarm_rules(pod: &Pod) -> Result<Rules, Mistake> {
    let annotations = pod.metadata.annotations.iter().flatten().map(|(key, value)| (key.as_str(), value.as_str()));
    let spec = pod.spec.as_ref();
    let containers =
        spec.into_iter().flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
    let environment = containers.flat_map(|container| container.env.iter().flatten());
    let environment = environment.map(|entry| (entry.name.as_str(), entry.value.as_deref().unwrap_or_default()));
    Rules::read(annotations, environment)
}

/// Why a pod is not ready, and a Node unknown, whose host is gone.
pub const HOST_DOWN: &str = "HostDown";

/// Whether the pod went with its host. It counts for nothing until its agent says of it what is true.
pub fn is_host_down(pod: &Pod) -> bool {
    let condition = condition(pod, "Ready").filter(|condition| condition.status != "True");
    condition.is_some_and(|condition| condition.reason.as_deref() == Some(HOST_DOWN))
}

/// Whether the pod counts as a replica: active, and not gone with its host.
pub fn is_replica(pod: &Pod) -> bool {
    is_active(pod) && !is_host_down(pod)
}

/// Returns since when the pod has been ready; `None` when it is not, or does not say.
pub fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let condition = condition(pod, "Ready").filter(|condition| condition.status == "True")?;
    condition.last_transition_time.as_ref().map(|time| time.0)
}

/// Returns the phase, `Pending` when there is none yet.
pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending")
}

/// Whether the pod has ended for good.
pub fn is_finished(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Whether the pod is neither ended nor being deleted.
pub fn is_active(pod: &Pod) -> bool {
    !is_finished(pod) && !owners::is_terminating(&pod.metadata)
}

/// How long until the pod has been ready for `min_ready`: zero when it is available, `None` when it is not ready.
pub fn until_available(pod: &Pod, min_ready: Duration, now: Timestamp) -> Option<Duration> {
    if !is_ready(pod) {
        return None;
    }
    if min_ready.is_zero() {
        return Some(Duration::ZERO);
    }
    let ready_for = now.duration_since(ready_since(pod)?);
    // A clock that stands before the condition's own time has seen no readiness yet.
    Some(min_ready.saturating_sub(Duration::try_from(ready_for).unwrap_or_default()))
}

/// Whether the pod has been ready for long enough.
pub fn is_available(pod: &Pod, min_ready: Duration, now: Timestamp) -> bool {
    until_available(pod, min_ready, now).is_some_and(|left| left.is_zero())
}

/// Returns the node the pod is bound to.
pub fn node_name(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|name| !name.is_empty())
}

/// Returns when the pod was created.
pub fn created_at(pod: &Pod) -> Option<Timestamp> {
    pod.metadata.creation_timestamp.as_ref().map(|time| time.0)
}

/// Returns the most restarts of any container.
pub fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    statuses.map(|container| container.restart_count).max().unwrap_or(0)
}
