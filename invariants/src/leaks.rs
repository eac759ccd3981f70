//! L3: what is no longer wanted is gone.
//!
//! No container or network sandbox of a pod that does not exist or is bound elsewhere, and no pod or ReplicaSet whose
//! owner was deleted.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::{Violation, World, facts};

/// A node that comes back lists, compares and stops in this time, with grace periods of tests; a collector confirms.
const GONE_SECS: f64 = 45.0;

pub(crate) fn check(world: &World) -> Vec<Violation> {
    if world.quiet_secs < GONE_SECS {
        return Vec::new();
    }
    let mut violations = on_hosts(world);
    violations.extend(without_owner(world));
    violations
}

fn on_hosts(world: &World) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (node, host) in &world.hosts {
        let ready = world.nodes.iter().any(|found| facts::name(&found.metadata) == node && facts::is_node_ready(found));
        if !ready {
            continue;
        }
        let bound: BTreeSet<&str> = world
            .pods
            .iter()
            .filter(|pod| facts::node_of(pod) == Some(node))
            .map(|pod| facts::uid(&pod.metadata))
            .collect();
        let strays = host
            .containers
            .iter()
            .filter(|container| container.pod_uid.as_deref().is_some_and(|uid| !bound.contains(uid)));
        for container in strays {
            let message = format!("container {} is {:?} for no pod of this node", container.name, container.phase);
            violations.push(Violation::new("L3", format!("Node/{node}"), message));
        }
        for (uid, address) in host.sandboxes.iter().filter(|(uid, _)| !bound.contains(uid.as_str())) {
            let message = format!("has a sandbox with {address} for pod uid {uid}, which is no pod of this node");
            violations.push(Violation::new("L3", format!("Node/{node}"), message));
        }
    }
    violations
}

fn without_owner(world: &World) -> Vec<Violation> {
    let sets: BTreeSet<&str> = world.replica_sets.iter().map(|set| facts::uid(&set.metadata)).collect();
    let deployments: BTreeSet<&str> = world.deployments.iter().map(|one| facts::uid(&one.metadata)).collect();
    let stray = |metadata: &ObjectMeta, kind: &str, known: &BTreeSet<&str>| {
        let mut owners = metadata.owner_references.iter().flatten();
        let owner = owners.find(|owner| owner.controller == Some(true) && owner.kind == kind);
        owner.is_some_and(|owner| !known.contains(owner.uid.as_str())) && !facts::is_terminating(metadata)
    };
    let pods = world.pods.iter().filter(|pod| stray(&pod.metadata, "ReplicaSet", &sets));
    let pods = pods.map(|pod| facts::subject("Pod", &pod.metadata));
    let left = world.replica_sets.iter().filter(|set| stray(&set.metadata, "Deployment", &deployments));
    let left = left.map(|set| facts::subject("ReplicaSet", &set.metadata));
    pods.chain(left).map(|subject| Violation::new("L3", subject, "its owner is gone and it is not")).collect()
}

#[cfg(test)]
mod tests {
    use crate::testing::{check_tables, container};

    #[test]
    fn what_nobody_wants_is_gone() {
        check_tables(&[
            (
                "a container of no pod",
                &|world| {
                    world.quiet_secs = 46.0;
                    world.hosts.entry("n1".into()).or_default().containers.push(container("u77", "c", 0));
                },
                &["L3"],
            ),
            (
                "a sandbox of no pod",
                &|world| {
                    world.quiet_secs = 46.0;
                    world.hosts.entry("n1".into()).or_default().sandboxes.insert("u77".into(), "10.1.1.77".into());
                },
                &["L3"],
            ),
            (
                "not yet",
                &|world| {
                    world.quiet_secs = 5.0;
                    world.hosts.entry("n1".into()).or_default().sandboxes.insert("u77".into(), "10.1.1.77".into());
                },
                &[],
            ),
            (
                "a set of no Deployment",
                &|world| {
                    world.quiet_secs = 46.0;
                    world.deployments.clear();
                },
                &["L3"],
            ),
        ]);
    }
}
