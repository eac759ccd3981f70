//! Which claims and volumes to look at when something changes. Missing one costs time until the resync, never more.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, ObjectReference, PersistentVolume, PersistentVolumeClaim, Pod};

use super::{read, topology};
use crate::objects::{owners, pods};
use crate::runtime::{Change, Cluster, ObjectKey, WorkQueue};

/// Registers every trigger.
pub(super) fn register(cluster: &Cluster, queue: &WorkQueue) {
    on_claims(cluster, queue.clone());
    on_volumes(cluster, queue.clone());
    on_classes(cluster, queue.clone());
    on_nodes(cluster, queue.clone());
    on_pods(cluster, queue.clone());
}

/// A claim wakes itself and the volume it names.
fn on_claims(cluster: &Cluster, queue: WorkQueue) {
    let volumes = cluster.persistent_volumes.clone();
    cluster.persistent_volume_claims.on_change(move |change| {
        for claim in change.versions() {
            queue.add(ObjectKey::of(&**claim));
            if let Some(name) = read::named_volume(claim) {
                queue.add(ObjectKey::cluster(name));
            }
        }
        // A claim that goes half-way through its binding, or is replaced, leaves volumes that only they know of.
        if let Some(before) = change.before.as_ref().filter(|before| is_replaced(before, change)) {
            let taken = volumes.cache().all();
            let taken = taken.iter().filter(|volume| read::hold(volume, before) == read::Hold::Held);
            taken.for_each(|volume| queue.add(ObjectKey::of(&**volume)));
        }
    });
}

fn is_replaced(before: &PersistentVolumeClaim, change: &Change<PersistentVolumeClaim>) -> bool {
    change.after.as_ref().is_none_or(|after| after.metadata.uid != before.metadata.uid)
}

/// A volume wakes itself and the claim it refers to; a free one all claims that it might serve.
fn on_volumes(cluster: &Cluster, queue: WorkQueue) {
    let claims = cluster.persistent_volume_claims.clone();
    cluster.persistent_volumes.on_change(move |change| {
        for volume in change.versions() {
            queue.add(ObjectKey::of(&**volume));
            match read::claim_ref(volume) {
                Some(reference) => queue.add(claim_key(reference)),
                None => wake_claims(&claims.cache().all(), &queue, |claim| might_serve(volume, claim)),
            }
        }
    });
}

/// Returns the key of the claim that a volume refers to.
pub(super) fn claim_key(reference: &ObjectReference) -> ObjectKey {
    ObjectKey::new(reference.namespace.clone().unwrap_or_default(), reference.name.clone().unwrap_or_default())
}

fn might_serve(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    match read::named_volume(claim) {
        Some(name) => name == owners::name(&volume.metadata),
        None => read::claim_class(claim) == read::volume_class(volume),
    }
}

fn on_classes(cluster: &Cluster, queue: WorkQueue) {
    let claims = cluster.persistent_volume_claims.clone();
    cluster.storage_classes.on_change(move |change| {
        for class in change.versions().take(1) {
            let name = owners::name(&class.metadata);
            wake_claims(&claims.cache().all(), &queue, |claim| {
                read::named_volume(claim).is_none() && read::claim_class(claim) == name
            });
        }
    });
}

/// A node that comes, goes or changes its readiness matters to claims without a volume; one that comes or goes also to
/// the volumes on it and their claims.
fn on_nodes(cluster: &Cluster, queue: WorkQueue) {
    let (claims, volumes) = (cluster.persistent_volume_claims.clone(), cluster.persistent_volumes.clone());
    cluster.nodes.on_change(move |change| {
        if !matters(change) {
            return;
        }
        wake_claims(&claims.cache().all(), &queue, |claim| read::named_volume(claim).is_none());
        for volume in volumes.cache().all() {
            let pinned = topology::affinity(&volume).is_some();
            if pinned && change.versions().any(|node| topology::admits(&volume, node)) {
                queue.add(ObjectKey::of(&*volume));
                read::claim_ref(&volume).into_iter().for_each(|reference| queue.add(claim_key(reference)));
            }
        }
    });
}

fn matters(change: &Change<Node>) -> bool {
    match (&change.before, &change.after) {
        (Some(before), Some(after)) => {
            topology::is_ready(before) != topology::is_ready(after) || before.metadata.labels != after.metadata.labels
        }
        (_, None) | (None, Some(_)) => true,
    }
}

/// A pod that ends, or goes, lets claims go that are being deleted.
fn on_pods(cluster: &Cluster, queue: WorkQueue) {
    let claims = cluster.persistent_volume_claims.clone();
    cluster.pods.on_change(move |change| {
        let ended = change.after.as_ref().is_none_or(|pod| pods::is_finished(pod));
        for pod in change.before.iter().filter(|_| ended) {
            for key in claims_of(pod) {
                let claim = claims.cache().get(&key);
                if claim.is_some_and(|claim| owners::is_terminating(&claim.metadata)) {
                    queue.add(key);
                }
            }
        }
    });
}

fn claims_of(pod: &Pod) -> Vec<ObjectKey> {
    let (namespace, pod_name) = (owners::namespace(&pod.metadata), owners::name(&pod.metadata));
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let names = volumes.filter_map(|volume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
        (Some(source), _) => Some(source.claim_name.clone()),
        (None, Some(_)) => Some(format!("{pod_name}-{}", volume.name)),
        (None, None) => None,
    });
    names.map(|name| ObjectKey::new(namespace, name)).collect()
}

fn wake_claims(
    claims: &[Arc<PersistentVolumeClaim>],
    queue: &WorkQueue,
    concerned: impl Fn(&PersistentVolumeClaim) -> bool,
) {
    claims.iter().filter(|claim| concerned(claim)).for_each(|claim| queue.add(ObjectKey::of(&**claim)));
}
