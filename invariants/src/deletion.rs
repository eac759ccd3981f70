//! L5: what is being deleted goes, or says who holds it.

use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta};

use crate::{Violation, World, facts, reasons};

/// A deletion with nobody in its way is over in this time after the last fault.
const DELETION_SECS: f64 = 10.0;
/// What an agent needs after a pod's grace period to remove it and tell.
const POD_MARGIN_SECS: f64 = 30.0;

pub(crate) fn check(world: &World) -> Vec<Violation> {
    if world.quiet_secs < DELETION_SECS {
        return Vec::new();
    }
    let mut violations = Vec::new();
    let mut check = |kind: &str, metadata: &ObjectMeta, margin_secs: f64, excused: bool| {
        let Some(since) = metadata.deletion_timestamp.as_ref() else { return };
        // A pod's time of deletion is when its grace ends.
        let late = world.now.duration_since(since.0).as_secs_f64();
        let held = metadata.finalizers.iter().flatten().next().is_some();
        if late > margin_secs && !held && !excused {
            let message = format!("is being deleted for {late:.0} s, and no finalizer or reason says why");
            violations.push(Violation::new("L5", facts::subject(kind, metadata), message));
        }
    };
    for pod in &world.pods {
        check("Pod", &pod.metadata, POD_MARGIN_SECS, is_excused(world, pod));
    }
    world.deployments.iter().for_each(|one| check("Deployment", &one.metadata, DELETION_SECS, false));
    world.replica_sets.iter().for_each(|one| check("ReplicaSet", &one.metadata, DELETION_SECS, false));
    world.services.iter().for_each(|one| check("Service", &one.metadata, DELETION_SECS, false));
    world.claims.iter().for_each(|one| check("PersistentVolumeClaim", &one.metadata, DELETION_SECS, false));
    world.volumes.iter().for_each(|one| check("PersistentVolume", &one.metadata, DELETION_SECS, false));
    violations
}

/// Its node cannot tell, which the Node says; or the pod says itself what is in the way.
fn is_excused(world: &World, pod: &Pod) -> bool {
    !facts::is_on_good_node(world, pod) || reasons::has_warning(world, &pod.metadata)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use crate::{World, testing::check_tables};

    fn delete_first(world: &mut World, ago_secs: i64) {
        world.quiet_secs = 11.0;
        let since = world.now - jiff::SignedDuration::from_secs(ago_secs);
        world.services[0].metadata.deletion_timestamp = Some(Time(since));
        world.slices.clear();
        world.hosts.values_mut().for_each(|host| host.routes.clear());
    }

    #[test]
    fn a_deletion_ends_or_says_who_holds_it() {
        check_tables(&[
            ("a wedged deletion", &|world| delete_first(world, 60), &["L5"]),
            ("a fresh one", &|world| delete_first(world, 1), &[]),
            (
                "one that is held",
                &|world| {
                    delete_first(world, 60);
                    world.services[0].metadata.finalizers = Some(vec!["example.com/hold".into()]);
                },
                &[],
            ),
            (
                "a pod long after its grace",
                &|world| {
                    let since = world.now - jiff::SignedDuration::from_secs(60);
                    world.pods[0].metadata.deletion_timestamp = Some(Time(since));
                    world.pods[0].metadata.owner_references = None;
                    world.pods[0].metadata.labels = None;
                    world.quiet_secs = 11.0;
                    world.services.clear();
                    world.slices.clear();
                    world.hosts.values_mut().for_each(|host| host.routes.clear());
                    world.deployments.clear();
                    world.replica_sets.clear();
                },
                &["L5"],
            ),
        ]);
    }
}
