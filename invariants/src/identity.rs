//! S6: at most one of each.
//!
//! A container of a pod runs once in the whole cluster, whatever the agents believe: two would write the same data and
//! answer under one name. A volume that one node at a time may write is used on one node.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Container, ContainerPhase, Violation, World, facts};

pub(crate) fn check(world: &World) -> Vec<Violation> {
    let mut violations = one_container_a_name(world);
    violations.extend(one_node_a_volume(world));
    violations
}

fn running(world: &World) -> impl Iterator<Item = (&str, &Container)> {
    world.hosts.iter().flat_map(|(node, host)| {
        let running = host.containers.iter().filter(|container| container.phase == ContainerPhase::Running);
        running.map(move |container| (node.as_str(), container))
    })
}

fn one_container_a_name(world: &World) -> Vec<Violation> {
    let mut by_name: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
    for (node, container) in running(world) {
        let Some(pod) = container.pod_uid.as_deref() else { continue };
        let place = format!("attempt {} on {node}", container.attempt);
        by_name.entry((pod, &container.container)).or_default().push(place);
    }
    let twice = by_name.into_iter().filter(|(_, places)| places.len() > 1);
    twice
        .map(|((pod, container), places)| {
            let message = format!("container {container} runs {} times: {}", places.len(), places.join(", "));
            Violation::new("S6", format!("pod uid {pod}"), message)
        })
        .collect()
}

fn one_node_a_volume(world: &World) -> Vec<Violation> {
    let mut running_on: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (node, container) in running(world) {
        running_on.entry(container.pod_uid.as_deref().unwrap_or_default()).or_default().insert(node);
    }
    let mut violations = Vec::new();
    for claim in &world.claims {
        let modes = claim.spec.iter().flat_map(|spec| spec.access_modes.iter().flatten());
        if !modes.into_iter().all(|mode| mode.starts_with("ReadWriteOnce")) {
            continue;
        }
        let users = world.pods.iter().filter(|pod| {
            let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
            let mut claims = volumes.into_iter().filter_map(|volume| volume.persistent_volume_claim.as_ref());
            pod.metadata.namespace == claim.metadata.namespace
                && claims.any(|source| source.claim_name == facts::name(&claim.metadata))
        });
        let nodes: BTreeSet<&str> =
            users.filter_map(|pod| running_on.get(facts::uid(&pod.metadata))).flatten().copied().collect();
        if nodes.len() > 1 {
            let message = format!("is written by pods that run on {nodes:?}");
            violations.push(Violation::new("S6", facts::subject("PersistentVolumeClaim", &claim.metadata), message));
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::{
        ContainerPhase,
        testing::{check_tables, claim, container, good, object},
    };

    #[test]
    fn two_running_containers_of_one_name_are_one_too_many() {
        check_tables(&[
            (
                "the same attempt on two nodes",
                &|world| world.hosts.entry("n2".into()).or_default().containers.push(container("u1", "c", 0)),
                &["S6"],
            ),
            (
                "two attempts on one node",
                &|world| world.hosts.entry("n1".into()).or_default().containers.push(container("u1", "c", 1)),
                &["S6"],
            ),
            (
                "an ended attempt is history",
                &|world| {
                    let mut old = container("u1", "c", 0);
                    old.phase = ContainerPhase::Exited;
                    world.hosts.entry("n1".into()).or_default().containers.push(old);
                },
                &[],
            ),
            (
                "another container of the pod",
                &|world| world.hosts.entry("n1".into()).or_default().containers.push(container("u1", "d", 0)),
                &[],
            ),
        ]);
    }

    #[test]
    fn a_volume_of_one_writer_is_used_on_one_node() {
        let mut world = good();
        world.claims = vec![claim("data", "Bound", "pv-1")];
        world.volumes = vec![object(&json!({"metadata": {"name": "pv-1"}, "spec": {}, "status": {"phase": "Bound"}}))];
        for pod in &mut world.pods {
            let volume = json!({"name": "v", "persistentVolumeClaim": {"claimName": "data"}});
            pod.spec.get_or_insert_default().volumes = Some(vec![object(&volume)]);
        }
        let found: Vec<_> = crate::check_invariants(&world).iter().map(|violation| violation.rule).collect();
        assert_eq!(found, ["S6"], "u1 runs on n1 and u2 on n2");
        world.claims[0].spec.get_or_insert_default().access_modes = Some(vec!["ReadWriteMany".to_owned()]);
        assert_eq!(crate::check_invariants(&world), []);
    }
}
