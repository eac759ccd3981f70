//! S9: a rollout keeps its bounds.
//!
//! However a Deployment is changed, its ReplicaSets never ask for more than `replicas + maxSurge` pods, no more pods are
//! made than asked for, and nobody takes away an available pod when `replicas - maxUnavailable` or fewer are left.

use std::collections::BTreeSet;

use k8s_openapi::{
    api::apps::v1::{Deployment, ReplicaSet},
    api::core::v1::Pod,
    apimachinery::pkg::util::intstr::IntOrString,
};

use crate::{Violation, World, facts};

/// How large the Deployment was allowed to be when a set was last sized.
const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";
/// Availability is judged only when neither a fault nor a user can be what took the pods.
const CALM_SECS: f64 = 1.0;
/// How long after the last fault a request may still be carried out that its client has given up: a server that stood
/// still, or a link, has held it back.
const LATE_SECS: f64 = 5.0;

/// The most pods and the fewest available ones that a Deployment's spec allows.
pub(crate) fn bounds(deployment: &Deployment) -> (i64, i64) {
    let spec = deployment.spec.as_ref();
    let replicas = spec.and_then(|spec| spec.replicas).map_or(1, i64::from);
    let strategy = spec.and_then(|spec| spec.strategy.as_ref());
    if strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate") {
        return (replicas, 0);
    }
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let surge = share(rolling.and_then(|rolling| rolling.max_surge.as_ref()), replicas, 99);
    let mut unavailable = share(rolling.and_then(|rolling| rolling.max_unavailable.as_ref()), replicas, 0);
    if surge == 0 && unavailable == 0 {
        unavailable = 1;
    }
    (replicas + surge, (replicas - unavailable).max(0))
}

fn share(value: Option<&IntOrString>, of: i64, round_up_by: i64) -> i64 {
    match value {
        Some(IntOrString::Int(number)) => i64::from(*number),
        Some(IntOrString::String(text)) => {
            let percent: i64 = text.trim_end_matches('%').parse().unwrap_or(0);
            (percent * of + round_up_by) / 100
        }
        None => (25 * of + round_up_by) / 100,
    }
}

pub(crate) fn check(world: &World) -> Vec<Violation> {
    let mut violations = Vec::new();
    for deployment in world.deployments.iter().filter(|deployment| !facts::is_terminating(&deployment.metadata)) {
        let sets: Vec<&ReplicaSet> = facts::sets_of(world, &deployment.metadata).collect();
        let limit = limit(deployment, &sets);
        let asked: i64 = sets.iter().map(|set| facts::wanted(set)).sum();
        let subject = facts::subject("Deployment", &deployment.metadata);
        if asked > limit {
            violations.push(Violation::new("S9", &subject, format!("its ReplicaSets ask for {asked} pods of {limit}")));
        }
        // A set that has not seen its newest size may have pods of the size before.
        let settled = sets.iter().all(|set| observed(set) == set.metadata.generation);
        let noted: i64 = sets.iter().map(|set| facts::wanted(set).max(reported(set))).sum();
        let pods = sets.iter().flat_map(|set| facts::pods_of(world, &set.metadata));
        let active = facts::count(pods.filter(|pod| facts::is_active(pod) && !was_gone(world, pod)));
        if settled && active > limit.max(noted) {
            violations.push(Violation::new("S9", &subject, format!("it has {active} pods of {limit}")));
        }
    }
    violations
}

/// The bound now, or the one that a set was sized under: a Deployment that was just made smaller still has the sets of
/// before.
fn limit(deployment: &Deployment, sets: &[&ReplicaSet]) -> i64 {
    let sized_under =
        |set: &&&ReplicaSet| -> Option<i64> { set.metadata.annotations.as_ref()?.get(MAX_REPLICAS)?.parse().ok() };
    let in_use = sets.iter().filter(|set| facts::wanted(set) > 0);
    in_use.filter_map(|set| sized_under(&set)).fold(bounds(deployment).0, i64::max)
}

fn observed(set: &ReplicaSet) -> Option<i64> {
    set.status.as_ref().and_then(|status| status.observed_generation)
}

fn generation(set: &ReplicaSet) -> i64 {
    set.metadata.generation.unwrap_or_default()
}

fn reported(set: &ReplicaSet) -> i64 {
    set.status.as_ref().map_or(0, |status| i64::from(status.replicas))
}

pub(crate) fn check_step(before: &World, after: &World) -> Vec<Violation> {
    let mut violations = too_many_made(before, after);
    if before.quiet_secs >= CALM_SECS && after.quiet_secs >= CALM_SECS {
        violations.extend(too_few_left(before, after));
    }
    violations
}

/// A pod was made for a set that had enough.
fn too_many_made(before: &World, after: &World) -> Vec<Violation> {
    let known: BTreeSet<&str> = before.pods.iter().map(|pod| facts::uid(&pod.metadata)).collect();
    let mut violations = Vec::new();
    for set in &after.replica_sets {
        let old = before.replica_sets.iter().find(|old| facts::uid(&old.metadata) == facts::uid(&set.metadata));
        let wanted = old.map_or(0, facts::wanted).max(facts::wanted(set));
        let active: Vec<_> = facts::pods_of(after, &set.metadata).filter(|pod| facts::is_active(pod)).collect();
        let new = active.iter().filter(|pod| !known.contains(facts::uid(&pod.metadata))).count();
        let adopted = active.iter().any(|pod| {
            let was = before.pods.iter().find(|was| facts::uid(&was.metadata) == facts::uid(&pod.metadata));
            was.is_some_and(|was| facts::controller_uid(&was.metadata) != facts::uid(&set.metadata))
        });
        let total = facts::count(active.iter().filter(|pod| !was_gone(after, pod)));
        // A create that was under way when the set was made smaller may still arrive; and a set that was changed twice
        // between two looks may have been larger for a moment.
        let settled = old.is_none_or(|old| observed(old) == old.metadata.generation);
        let changes = old.map_or(0, |old| generation(set) - generation(old));
        // A create that its client has given up may arrive long after the set was made smaller and had said so, and no
        // create can say for which size it was meant (0x4e2). What one of the Deployment's sets may never have is too much.
        let owner =
            after.deployments.iter().find(|one| facts::uid(&one.metadata) == facts::controller_uid(&set.metadata));
        let late = after.quiet_secs < LATE_SECS && total <= owner.map_or(0, |owner| bounds(owner).0);
        if new > 0 && !adopted && settled && changes < 2 && total > wanted && !late {
            let message = format!("{new} pods were made, now {total} of {wanted}");
            violations.push(Violation::new("S9", facts::subject("ReplicaSet", &set.metadata), message));
        }
    }
    violations
}

/// A set that was made smaller took an available pod that the Deployment could not spare.
fn too_few_left(before: &World, after: &World) -> Vec<Violation> {
    let mut violations = Vec::new();
    for deployment in &after.deployments {
        let (ready_before, shrinking) = ready(before, deployment);
        let (ready_after, _) = ready(after, deployment);
        let least = bounds(deployment).1.min(facts::count(ready_before.iter()));
        let lost = ready_before
            .iter()
            .filter(|(uid, set)| !ready_after.iter().any(|(other, _)| other == uid) && shrinking.contains(set));
        let taken = lost.filter(|(uid, _)| !is_active_in(after, uid)).count();
        let left = facts::count(ready_after.iter());
        if taken > 0 && left < least {
            let message = format!("{taken} available pods were taken away, {left} are left of at least {least}");
            violations.push(Violation::new("S9", facts::subject("Deployment", &deployment.metadata), message));
        }
    }
    violations
}

/// The ready pods of a Deployment with the uid of their set, and the sets that have more pods than they want.
fn ready<'a>(world: &'a World, deployment: &Deployment) -> (Vec<(&'a str, &'a str)>, BTreeSet<&'a str>) {
    let (mut found, mut shrinking) = (Vec::new(), BTreeSet::new());
    for set in
        world.replica_sets.iter().filter(|set| facts::controller_uid(&set.metadata) == facts::uid(&deployment.metadata))
    {
        let active: Vec<_> = facts::pods_of(world, &set.metadata).filter(|pod| facts::is_active(pod)).collect();
        if facts::count(active.iter()) > facts::wanted(set) {
            shrinking.insert(facts::uid(&set.metadata));
        }
        let ready = active.into_iter().filter(|pod| facts::is_true(pod, "Ready"));
        found.extend(ready.map(|pod| (facts::uid(&pod.metadata), facts::uid(&set.metadata))));
    }
    (found, shrinking)
}

/// Whether the pod's host is gone, or has been since the pod was made.
fn was_gone(world: &World, pod: &Pod) -> bool {
    facts::is_gone(pod) || world.once_gone.contains(facts::uid(&pod.metadata))
}

fn is_active_in(world: &World, uid: &str) -> bool {
    world.pods.iter().any(|pod| facts::uid(&pod.metadata) == uid && facts::is_active(pod))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        check_step,
        testing::{check_tables, good, pod, set},
    };

    #[test]
    fn bounds_are_those_of_kubernetes() {
        let check = |replicas: i64, surge: &serde_json::Value, unavailable: &serde_json::Value| {
            let object = json!({"spec": {"replicas": replicas, "selector": {}, "template": {}, "strategy":
                {"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}}});
            bounds(&crate::testing::object(&object))
        };
        assert_eq!(check(10, &json!("25%"), &json!("25%")), (13, 8));
        assert_eq!(check(3, &json!(1), &json!(0)), (4, 3));
        assert_eq!(check(3, &json!(0), &json!(0)), (3, 2));
        assert_eq!(check(0, &json!("100%"), &json!("100%")), (0, 0));
    }

    #[test]
    fn sets_and_pods_keep_below_the_surge() {
        check_tables(&[
            ("a second set within the surge", &|world| world.replica_sets.push(set("web-2", "rs-2", 1)), &[]),
            ("sets that ask for too much", &|world| world.replica_sets.push(set("web-2", "rs-2", 2)), &["S9"]),
            (
                "more pods than sets ask for and the surge allows",
                &|world| (3..6).for_each(|number| world.pods.push(pod(number, "n1"))),
                &["S9"],
            ),
            (
                "pods that leave do not count",
                &|world| {
                    for number in 3..6 {
                        let mut leaving = pod(number, "n1");
                        leaving.metadata.deletion_timestamp.clone_from(&leaving.metadata.creation_timestamp);
                        world.pods.push(leaving);
                    }
                },
                &[],
            ),
            (
                "pods that were gone with their host come on top when they return",
                &|world| {
                    for number in 3..6 {
                        world.pods.push(pod(number, "n1"));
                        world.once_gone.insert(format!("u{number}"));
                    }
                },
                &[],
            ),
        ]);
    }

    #[test]
    fn no_pod_is_made_for_a_set_that_has_enough() {
        let mut before = good();
        before.quiet_secs = LATE_SECS;
        let mut after = before.clone();
        after.pods.push(pod(7, "n1"));
        assert_eq!(check_step(&before, &after).len(), 1);
        after.quiet_secs = 0.0;
        assert_eq!(check_step(&before, &after), [], "a server that stood still may have held it back");
        after.pods.extend([pod(20, "n1"), pod(21, "n1"), pod(22, "n1")]);
        assert_eq!(check_step(&before, &after).len(), 1, "so many were never asked for");
        after.pods.truncate(after.pods.len() - 3);
        after.quiet_secs = LATE_SECS;
        after.pods.remove(0);
        assert_eq!(check_step(&before, &after), [], "a replacement");
        after.pods.push(pod(8, "n1"));
        assert_eq!(check_step(&before, &after).len(), 1);
        after.replica_sets[0].metadata.generation = Some(generation(&before.replica_sets[0]) + 2);
        assert_eq!(check_step(&before, &after), [], "it may have been larger for a moment");
    }

    #[test]
    fn an_available_pod_is_not_taken_below_the_bound() {
        let mut before = good();
        before.quiet_secs = 2.0;
        before.replica_sets[0].spec.get_or_insert_default().replicas = Some(1);
        let mut after = before.clone();
        after.pods.remove(0);
        let found = check_step(&before, &after);
        assert!(found.iter().any(|violation| violation.rule == "S9"), "two must stay: {found:?}");
        before.quiet_secs = 0.0;
        assert_eq!(check_step(&before, &after), [], "a fault may have taken it");
    }
}
