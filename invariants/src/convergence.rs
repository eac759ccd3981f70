//! L1: once nothing disturbs it, the cluster is what its objects say.
//!
//! Statuses are true, a Deployment in nobody's way is complete, and a pod that says it runs does. What cannot converge is
//! the business of the reasons (L6).

use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::{Node, Pod, Taint},
};

use crate::{ContainerPhase, Violation, World, facts, placement};

/// Statuses follow within a second of the last change; the rest is for slow machines and back-off after faults.
const STATUS_SECS: f64 = 10.0;
/// A Deployment whose pods are all ready has no reason left to wait; the longest honest wait is a back-off.
const COMPLETE_SECS: f64 = 40.0;
const COMPLETE: &str = "NewReplicaSetAvailable";

pub(crate) fn check(world: &World) -> Vec<Violation> {
    if world.quiet_secs < STATUS_SECS {
        return Vec::new();
    }
    let mut violations = Vec::new();
    let lives = |set: &&ReplicaSet| !facts::is_terminating(&set.metadata);
    world.replica_sets.iter().filter(lives).for_each(|set| check_set(world, set, &mut violations));
    let lives = |deployment: &&Deployment| !facts::is_terminating(&deployment.metadata);
    for deployment in world.deployments.iter().filter(lives) {
        check_deployment(world, deployment, &mut violations);
    }
    world.nodes.iter().for_each(|node| check_heard(world, node, &mut violations));
    for pod in world.pods.iter().filter(|pod| facts::is_active(pod)) {
        check_trusted(world, pod, &mut violations);
        check_running(world, pod, &mut violations);
        check_placed(world, pod, &mut violations);
    }
    violations
}

fn compare(subject: &str, pairs: &[(&str, i64, i64)], violations: &mut Vec<Violation>) {
    for (what, said, is) in pairs.iter().filter(|(_, said, is)| said != is) {
        violations.push(Violation::new("L1", subject, format!("status says {what} {said}, it is {is}")));
    }
}

fn number(count: Option<i32>) -> i64 {
    count.map_or(0, i64::from)
}

fn counts<'a>(pods: impl Iterator<Item = &'a Pod>) -> (i64, i64) {
    let active: Vec<&Pod> = pods.filter(|pod| facts::is_active(pod)).collect();
    (facts::count(active.iter()), facts::count(active.iter().filter(|pod| facts::is_true(pod, "Ready"))))
}

fn check_set(world: &World, set: &ReplicaSet, violations: &mut Vec<Violation>) {
    let (active, ready) = counts(facts::pods_of(world, &set.metadata));
    let status = set.status.clone().unwrap_or_default();
    let generations = (number64(status.observed_generation), number64(set.metadata.generation));
    let subject = facts::subject("ReplicaSet", &set.metadata);
    let pairs = [
        ("observedGeneration", generations.0, generations.1),
        ("replicas", i64::from(status.replicas), active),
        ("readyReplicas", number(status.ready_replicas), ready),
    ];
    compare(&subject, &pairs, violations);
}

fn number64(count: Option<i64>) -> i64 {
    count.unwrap_or(0)
}

fn check_deployment(world: &World, deployment: &Deployment, violations: &mut Vec<Violation>) {
    let sets: Vec<&ReplicaSet> = facts::sets_of(world, &deployment.metadata).collect();
    let (active, ready) = counts(sets.iter().flat_map(|set| facts::pods_of(world, &set.metadata)));
    let status = deployment.status.clone().unwrap_or_default();
    let subject = facts::subject("Deployment", &deployment.metadata);
    let pairs = [
        ("observedGeneration", number64(status.observed_generation), number64(deployment.metadata.generation)),
        ("replicas", number(status.replicas), active),
        ("readyReplicas", number(status.ready_replicas), ready),
    ];
    compare(&subject, &pairs, violations);
    if world.quiet_secs >= COMPLETE_SECS && is_free(world, deployment, &sets) && !is_complete(world, deployment, &sets)
    {
        let sizes: Vec<i64> = sets.iter().map(|set| facts::wanted(set)).collect();
        let message = format!("stands still at {active} pods in sets of {sizes:?} though nothing is in its way");
        violations.push(Violation::new("L1", subject, message));
    }
}

/// Whether nothing holds a Deployment up: it is not paused, needs no time for availability, and all its pods are ready.
fn is_free(world: &World, deployment: &Deployment, sets: &[&ReplicaSet]) -> bool {
    let spec = deployment.spec.as_ref();
    let paused = spec.and_then(|spec| spec.paused).unwrap_or(false);
    let patient = spec.and_then(|spec| spec.min_ready_seconds).unwrap_or(0) > 0;
    let failing = sets.iter().any(|set| has_failed(set));
    let mut pods = sets.iter().flat_map(|set| facts::pods_of(world, &set.metadata));
    !paused && !patient && !failing && pods.all(|pod| facts::is_active(pod) && facts::is_true(pod, "Ready"))
}

/// Whether a set says that it cannot make its pods.
pub(crate) fn has_failed(set: &ReplicaSet) -> bool {
    let conditions = set.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let has_reason = |reason: Option<&String>| reason.is_some_and(|reason| !reason.is_empty());
    conditions.into_iter().any(|condition| {
        condition.type_ == "ReplicaFailure" && condition.status == "True" && has_reason(condition.reason.as_ref())
    })
}

/// Whether the wanted number of pods is there and ready, all of one set, and the status says so.
pub(crate) fn is_complete(world: &World, deployment: &Deployment, sets: &[&ReplicaSet]) -> bool {
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).map_or(1, i64::from);
    let (active, ready) = counts(sets.iter().flat_map(|set| facts::pods_of(world, &set.metadata)));
    let in_use = sets.iter().filter(|set| facts::wanted(set) > 0).count();
    let conditions = deployment.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let progressing = conditions.into_iter().find(|condition| condition.type_ == "Progressing");
    active == wanted
        && ready == wanted
        && in_use <= 1
        && progressing.is_none_or(|progressing| progressing.reason.as_deref() == Some(COMPLETE))
}

/// A node that can be seen does not pass for one that nobody has heard of.
fn check_heard(world: &World, node: &Node, violations: &mut Vec<Violation>) {
    let name = facts::name(&node.metadata);
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let unknown = conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "Unknown");
    if unknown && world.hosts.contains_key(name) {
        violations.push(Violation::new("L1", format!("Node/{name}"), "status says that it is not heard, it is up"));
    }
}

/// What was said of a pod while its node was not heard does not outlast the silence.
fn check_trusted(world: &World, pod: &Pod, violations: &mut Vec<Violation>) {
    let ready = facts::condition(pod, "Ready");
    let doubted = ready.is_some_and(|ready| ready.status == "False" && ready.reason.as_deref() == Some("NodeNotReady"));
    if doubted && facts::is_on_good_node(world, pod) {
        let message = "status says that its node is not heard, the node is ready";
        violations.push(Violation::new("L1", facts::subject("Pod", &pod.metadata), message));
    }
}

/// A pod whose status says that a container runs has that container on its node.
fn check_running(world: &World, pod: &Pod, violations: &mut Vec<Violation>) {
    let host =
        facts::node_of(pod).filter(|_| facts::is_on_good_node(world, pod)).and_then(|node| world.hosts.get(node));
    let Some(host) = host else { return };
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    for status in statuses {
        let says = status.state.as_ref().is_some_and(|state| state.running.is_some());
        let runs = host.containers.iter().any(|container| {
            container.pod_uid.as_deref() == Some(facts::uid(&pod.metadata))
                && container.container == status.name
                && container.phase == ContainerPhase::Running
        });
        if says != runs {
            let message = format!("status says that container {} runs: {says}, it does: {runs}", status.name);
            violations.push(Violation::new("L1", facts::subject("Pod", &pod.metadata), message));
        }
    }
}

/// A pod that no rule ties to a place does not wait while a node has room for it.
fn check_placed(world: &World, pod: &Pod, violations: &mut Vec<Violation>) {
    let Some(spec) = pod.spec.as_ref().filter(|_| facts::node_of(pod).is_none()) else { return };
    let ports = spec.containers.iter().flat_map(|container| container.ports.iter().flatten());
    let tied = spec.node_selector.is_some()
        || spec.affinity.is_some()
        || spec.topology_spread_constraints.is_some()
        || spec.scheduling_gates.iter().flatten().next().is_some()
        || spec.scheduler_name.as_deref().is_some_and(|name| name != "default-scheduler")
        || spec.volumes.iter().flatten().any(|volume| volume.persistent_volume_claim.is_some())
        || ports.into_iter().any(|port| port.host_port.is_some());
    if tied || facts::age_secs(&pod.metadata, world.now).is_none_or(|age| age < STATUS_SECS) {
        return;
    }
    let room = world.nodes.iter().find(|node| {
        let taints: &[Taint] = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
        let cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false);
        let forbidden = cordoned || taints.iter().any(|taint| taint.effect != "PreferNoSchedule");
        facts::is_node_ready(node)
            && !forbidden
            && !facts::is_terminating(&node.metadata)
            && placement::fits(world, node, spec)
    });
    if let Some(node) = room {
        let message = format!("waits for a node while {} has room", facts::name(&node.metadata));
        violations.push(Violation::new("L1", facts::subject("Pod", &pod.metadata), message));
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        ContainerPhase,
        testing::{check_tables, pod, set, unscheduled},
    };

    #[test]
    fn statuses_are_true() {
        check_tables(&[
            (
                "an old generation",
                &|world| {
                    world.quiet_secs = 11.0;
                    world.deployments[0].metadata.generation = Some(9);
                },
                &["L1"],
            ),
            (
                "too many ready",
                &|world| {
                    world.quiet_secs = 11.0;
                    world.replica_sets[0].status.get_or_insert_default().ready_replicas = Some(3);
                },
                &["L1"],
            ),
            (
                "a container that ended unnoticed",
                &|world| {
                    world.quiet_secs = 11.0;
                    world.hosts.entry("n1".into()).or_default().containers[0].phase = ContainerPhase::Exited;
                },
                &["L1"],
            ),
            (
                "a node that is called silent",
                &|world| {
                    world.quiet_secs = 11.0;
                    let status = world.nodes[0].status.get_or_insert_default();
                    status.conditions.get_or_insert_default()[0].status = "Unknown".to_owned();
                },
                &["L1"],
            ),
            (
                "a pod that is still doubted",
                &|world| {
                    world.quiet_secs = 11.0;
                    let ready = &mut world.pods[0].status.get_or_insert_default().conditions.get_or_insert_default()[2];
                    (ready.status, ready.reason) = ("False".to_owned(), Some("NodeNotReady".to_owned()));
                },
                &["L1", "L1", "L1"],
            ),
        ]);
    }

    #[test]
    fn a_deployment_in_nobodys_way_is_complete() {
        check_tables(&[
            (
                "frozen in the middle",
                &|world| {
                    world.quiet_secs = 41.0;
                    let mut half = set("web-2", "rs-2", 1);
                    half.status.get_or_insert_default().replicas = 0;
                    half.status.get_or_insert_default().ready_replicas = None;
                    world.replica_sets.push(half);
                },
                &["L1", "L6", "L6"],
            ),
            (
                "paused there",
                &|world| {
                    world.quiet_secs = 11.0;
                    world.deployments[0].spec.get_or_insert_default().paused = Some(true);
                },
                &[],
            ),
        ]);
    }

    #[test]
    fn a_pod_does_not_wait_while_there_is_room() {
        check_tables(&[
            (
                "room on a node",
                &|world| {
                    world.quiet_secs = 11.0;
                    world.pods.push(unscheduled(9, "100m"));
                },
                &["L1"],
            ),
            (
                "no room",
                &|world| {
                    world.quiet_secs = 11.0;
                    world.pods.push(unscheduled(9, "100"));
                },
                &[],
            ),
            (
                "nothing yet",
                &|world| {
                    world.quiet_secs = 1.0;
                    world.pods.push(pod(9, ""));
                    world.pods.last_mut().expect("just pushed").metadata.owner_references = None;
                },
                &[],
            ),
        ]);
    }
}
