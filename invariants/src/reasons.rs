//! L6: what has not converged says why, in words a machine can read.
//!
//! The top complaint about every orchestrator is "stuck, and no reason". Five seconds after the last fault every object
//! that is not what it should be carries a reason on itself, on what it waits for, or in a warning.

use k8s_openapi::{
    api::core::v1::{ContainerStatus, Pod},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use crate::{Violation, World, convergence, facts};

/// The time that Drover promises.
const REASON_SECS: f64 = 5.0;
/// Reasons that say nothing but that it has not happened yet.
const EMPTY_REASONS: [&str; 3] = ["", "ContainerCreating", "PodInitializing"];

pub(crate) fn check(world: &World) -> Vec<Violation> {
    if world.quiet_secs < REASON_SECS {
        return Vec::new();
    }
    let mut violations = Vec::new();
    let mut say = |kind: &str, metadata: &ObjectMeta, state: &str| {
        if facts::age_secs(metadata, world.now).is_none_or(|age| age >= REASON_SECS) {
            let message = format!("{state} and gives no reason");
            violations.push(Violation::new("L6", facts::subject(kind, metadata), message));
        }
    };
    for pod in world.pods.iter().filter(|pod| facts::is_active(pod) && !facts::is_true(pod, "Ready")) {
        if let Some(state) = unexplained(world, pod) {
            say("Pod", &pod.metadata, state);
        }
    }
    for node in world.nodes.iter().filter(|node| !facts::is_node_ready(node)) {
        let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let mut ready = conditions.into_iter().filter(|condition| condition.type_ == "Ready");
        if !ready.any(|condition| says(condition.reason.as_ref())) {
            say("Node", &node.metadata, "is not ready");
        }
    }
    for claim in &world.claims {
        let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending");
        if phase != "Bound" && !facts::is_terminating(&claim.metadata) && !has_event(world, &claim.metadata) {
            say("PersistentVolumeClaim", &claim.metadata, "is not bound");
        }
    }
    check_workloads(world, &mut say);
    violations
}

fn says(reason: Option<&String>) -> bool {
    reason.is_some_and(|reason| !reason.is_empty())
}

/// What state a pod is in without saying why; `None` when it does.
fn unexplained(world: &World, pod: &Pod) -> Option<&'static str> {
    let condition = |kind: &str| facts::condition(pod, kind).filter(|condition| condition.status != "True");
    if facts::node_of(pod).is_none() {
        let scheduled = condition("PodScheduled").is_some_and(|condition| says(condition.reason.as_ref()));
        return (!scheduled).then_some("has no node");
    }
    if !facts::is_on_good_node(world, pod) || has_warning(world, &pod.metadata) {
        return None;
    }
    let fresh = facts::condition(pod, "PodScheduled").and_then(|condition| condition.last_transition_time.as_ref());
    if fresh.is_some_and(|time| world.now.duration_since(time.0).as_secs_f64() < REASON_SECS) {
        return None;
    }
    let statuses = pod.status.iter().flat_map(|status| {
        status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten())
    });
    let statuses: Vec<&ContainerStatus> = statuses.collect();
    if statuses.iter().any(|status| is_explained(status)) {
        return None;
    }
    let running = !statuses.is_empty()
        && statuses.iter().all(|status| status.state.as_ref().is_some_and(|state| state.running.is_some()));
    // Containers that run and are not ready: the probes or the proxies are what it waits for, and Ready says which.
    let told = ["Ready", "ContainersReady"].into_iter().filter_map(condition).any(|found| says(found.reason.as_ref()));
    if running && told {
        return None;
    }
    Some(if running { "is not ready" } else { "does not start" })
}

fn is_explained(status: &ContainerStatus) -> bool {
    let Some(state) = status.state.as_ref() else { return false };
    let waiting = state.waiting.as_ref().and_then(|waiting| waiting.reason.as_deref());
    let waits = waiting.is_some_and(|reason| !EMPTY_REASONS.contains(&reason));
    let ended = state.terminated.as_ref().is_some_and(|ended| says(ended.reason.as_ref()));
    waits || ended
}

/// Whether a warning about this very object was recorded.
pub(crate) fn has_warning(world: &World, metadata: &ObjectMeta) -> bool {
    events(world, metadata).any(|event| event.type_.as_deref() == Some("Warning") && says(event.reason.as_ref()))
        || events(world, metadata).any(|event| event.reason.as_deref() == Some("Pulling"))
}

fn has_event(world: &World, metadata: &ObjectMeta) -> bool {
    events(world, metadata).any(|event| says(event.reason.as_ref()))
}

fn events<'a>(
    world: &'a World,
    metadata: &'a ObjectMeta,
) -> impl Iterator<Item = &'a k8s_openapi::api::core::v1::Event> {
    world.events.iter().filter(|event| {
        event.involved_object.uid == metadata.uid
            && event.involved_object.name == metadata.name
            && event.involved_object.namespace == metadata.namespace
    })
}

fn check_workloads(world: &World, say: &mut impl FnMut(&str, &ObjectMeta, &str)) {
    for set in world.replica_sets.iter().filter(|set| !facts::is_terminating(&set.metadata)) {
        let active = facts::count(facts::pods_of(world, &set.metadata).filter(|pod| facts::is_active(pod)));
        if active != facts::wanted(set) && !convergence::has_failed(set) {
            say("ReplicaSet", &set.metadata, "has not its number of pods");
        }
    }
    for deployment in world.deployments.iter().filter(|deployment| !facts::is_terminating(&deployment.metadata)) {
        let sets: Vec<_> = facts::sets_of(world, &deployment.metadata).collect();
        let conditions = deployment.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let mut conditions = conditions.into_iter();
        let explained = conditions.any(|condition| match condition.type_.as_str() {
            "Progressing" => condition
                .reason
                .as_deref()
                .is_some_and(|reason| !reason.is_empty() && reason != "NewReplicaSetAvailable"),
            "Available" => condition.status == "False" && says(condition.reason.as_ref()),
            "ReplicaFailure" => condition.status == "True" && says(condition.reason.as_ref()),
            _ => false,
        });
        // Pods that are short of ready explain themselves; a shortage of pods is the sets'.
        let in_use = sets.iter().filter(|set| facts::wanted(set) > 0).count();
        let asked: i64 = sets.iter().map(|set| facts::wanted(set)).sum();
        let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).map_or(1, i64::from);
        if !explained && (in_use > 1 || asked != wanted) {
            say("Deployment", &deployment.metadata, "is in the middle of a change");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::{
        World,
        testing::{check_tables, claim, object, unscheduled},
    };

    fn pending(world: &mut World, status: &serde_json::Value) {
        world.quiet_secs = 6.0;
        let pod = &mut world.pods[0];
        pod.status = Some(object(status));
        pod.metadata.labels = None;
        world.services.clear();
        world.slices.clear();
        world.hosts.values_mut().for_each(|host| host.routes.clear());
    }

    #[test]
    fn what_is_stuck_says_why() {
        let waiting = |reason: &str| {
            json!({"phase": "Pending", "containerStatuses": [{"name": "c", "image": "i", "imageID": "",
            "ready": false, "restartCount": 0, "state": {"waiting": {"reason": reason}}}]})
        };
        let (silent, told) = (waiting("ContainerCreating"), waiting("ImagePullBackOff"));
        check_tables(&[
            (
                "no node, no reason",
                &|world| {
                    world.quiet_secs = 6.0;
                    let mut pod = unscheduled(9, "100");
                    pod.status = None;
                    world.pods.push(pod);
                },
                &["L6"],
            ),
            (
                "no node, a reason",
                &|world| {
                    world.quiet_secs = 6.0;
                    world.pods.push(unscheduled(9, "100"));
                },
                &[],
            ),
            ("a pod that does not start", &|world| pending(world, &silent), &["L6"]),
            ("a pod that says why", &|world| pending(world, &told), &[]),
            (
                "a warning tells",
                &|world| {
                    pending(world, &silent);
                    world.events = vec![object(
                        &json!({"metadata": {"name": "e", "namespace": "d"}, "type": "Warning", "reason": "FailedMount",
                    "involvedObject": {"namespace": "d", "name": "web-1", "uid": "u1"}}),
                    )];
                },
                &[],
            ),
            (
                "a silent claim",
                &|world| {
                    world.quiet_secs = 6.0;
                    world.claims = vec![claim("data", "Pending", "")];
                },
                &["L6"],
            ),
            (
                "a set without its pods",
                &|world| {
                    world.quiet_secs = 6.0;
                    world.replica_sets[0].spec.get_or_insert_default().replicas = Some(3);
                },
                &["L6", "L6"],
            ),
            (
                "a silent node",
                &|world| {
                    world.quiet_secs = 6.0;
                    world.nodes.push(object(&json!({"metadata": {"name": "n3"}})));
                },
                &["L6"],
            ),
        ]);
    }
}
