//! S8: data that somebody counts on is there.
//!
//! A bound claim has its volume. A volume's data goes only after its PersistentVolume was deleted, or its claim was and
//! the policy is to delete: never because a name or a stale view said so.

use crate::{Violation, World, facts};

pub(crate) fn check(world: &World) -> Vec<Violation> {
    let bound = world.claims.iter().filter(|claim| {
        let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
        phase == Some("Bound") && !facts::is_terminating(&claim.metadata)
    });
    let mut violations = Vec::new();
    for claim in bound {
        let volume = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default();
        if !world.volumes.iter().any(|found| facts::name(&found.metadata) == volume) {
            let message = format!("is Bound to PersistentVolume {volume:?}, which does not exist");
            violations.push(Violation::new("S8", facts::subject("PersistentVolumeClaim", &claim.metadata), message));
        }
    }
    violations
}

/// The data of a volume that is still wanted was on a node before and is not after; or the volume of a live, bound
/// claim is gone.
pub(crate) fn check_step(before: &World, after: &World) -> Vec<Violation> {
    let mut violations = Vec::new();
    for volume in &after.volumes {
        let name = facts::name(&volume.metadata);
        let retained =
            volume.spec.as_ref().and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref()) == Some("Retain");
        let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
        let wanted = !facts::is_terminating(&volume.metadata) && (retained || phase == Some("Bound"));
        if !wanted {
            continue;
        }
        for (node, host) in &before.hosts {
            let lost = after.hosts.get(node).is_some_and(|now| !now.volumes.contains(name));
            if host.volumes.contains(name) && lost {
                let message = format!("its data on {node} is gone while it is {}", phase.unwrap_or("retained"));
                violations.push(Violation::new("S8", facts::subject("PersistentVolume", &volume.metadata), message));
            }
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::{
        World, check_step,
        testing::{check_tables, claim, good, object},
    };

    fn with_volume(phase: &str, policy: &str) -> World {
        let mut world = good();
        let volume = json!({"metadata": {"name": "pv-1"}, "spec": {"persistentVolumeReclaimPolicy": policy}, "status": {"phase": phase}});
        world.volumes = vec![object(&volume)];
        world.hosts.entry("n1".into()).or_default().volumes.insert("pv-1".into());
        world
    }

    #[test]
    fn a_bound_claim_has_its_volume() {
        check_tables(&[
            ("bound to nothing", &|world| world.claims = vec![claim("data", "Bound", "pv-1")], &["S8"]),
            (
                "bound to a volume",
                &|world| {
                    world.volumes = with_volume("Bound", "Delete").volumes;
                    world.claims = vec![claim("data", "Bound", "pv-1")];
                },
                &[],
            ),
        ]);
    }

    #[test]
    fn data_goes_only_when_its_volume_may_go() {
        for (phase, policy, violations) in
            [("Bound", "Delete", 1), ("Released", "Retain", 1), ("Released", "Delete", 0), ("Bound", "Retain", 1)]
        {
            let before = with_volume(phase, policy);
            let mut after = before.clone();
            assert_eq!(check_step(&before, &after), []);
            after.hosts.entry("n1".into()).or_default().volumes.clear();
            assert_eq!(check_step(&before, &after).len(), violations, "{phase} {policy}");
        }
    }
}
