//! Carries out one step of a claim or a volume. Decides nothing.

use std::sync::Arc;

use k8s_openapi::api::core::v1::PersistentVolume;
use kube::Resource as _;

use super::plan::{ClaimAction, Remark, VolumeAction};
use super::{claim, edit, read, volume};
use crate::objects::owners;
use crate::runtime::error::reason_text;
use crate::runtime::resource::DeleteOptions;
use crate::runtime::{Cluster, ObjectKey, Result};

/// Takes a step of a claim and returns what is observed after it, or `None` when the claim itself has moved on and its
/// next version decides.
///
/// # Errors
/// A conflict when an object changed meanwhile, or any other refusal of the API.
pub(super) async fn claim(
    cluster: &Cluster,
    mut observed: claim::Observed,
    action: &ClaimAction,
) -> Result<Option<claim::Observed>> {
    let before = observed.claim.clone();
    match action {
        ClaimAction::TakeVolume { volume, by_controller } => {
            if !is_current(cluster, &observed).await? {
                return Ok(None);
            }
            let found = observed.volumes.iter_mut().find(|found| owners::name(&found.metadata) == volume);
            let Some(found) = found else { return Ok(None) };
            let after = edit::taken(found, &before, *by_controller);
            replace(found, cluster.persistent_volumes.update(found, &after, None).await?);
        }
        ClaimAction::Provision { volume } => {
            if !is_current(cluster, &observed).await? {
                return Ok(None);
            }
            let made = create(cluster, &observed, volume).await?;
            observed.volumes.push(Arc::new(made));
        }
        ClaimAction::NameVolume { .. } | ClaimAction::AskProvisioner { .. } | ClaimAction::Unprotect => {
            let after = edit::claim(&before, action);
            replace(&mut observed.claim, cluster.persistent_volume_claims.update(&before, &after, None).await?);
        }
        ClaimAction::SetStatus { .. } => {
            let after = edit::claim(&before, action);
            let written = cluster.persistent_volume_claims.update(&before, &after, Some("status")).await?;
            replace(&mut observed.claim, written);
        }
    }
    if let Some(remark) = action.remark() {
        tell_claim(cluster, &observed, &remark);
    }
    Ok(Some(observed))
}

/// Whether the claim, past the cache, is the one the step was planned for and still wants a volume: a volume is never
/// given to a claim that is gone (C02).
async fn is_current(cluster: &Cluster, observed: &claim::Observed) -> Result<bool> {
    let claim = &*observed.claim;
    let fresh = cluster.persistent_volume_claims.get_fresh(&ObjectKey::of(claim)).await?;
    Ok(fresh.is_some_and(|fresh| {
        fresh.metadata.uid == claim.metadata.uid
            && !owners::is_terminating(&fresh.metadata)
            && read::named_volume(&fresh) == read::named_volume(claim)
    }))
}

async fn create(cluster: &Cluster, observed: &claim::Observed, volume: &PersistentVolume) -> Result<PersistentVolume> {
    let created = cluster.persistent_volumes.create(volume).await;
    if let Err(error) = &created
        && !error.is_already_exists()
    {
        tell_claim(cluster, observed, &Remark::warning("ProvisioningFailed", reason_text(error)));
    }
    created
}

/// Tells people about a claim.
pub(super) fn tell_claim(cluster: &Cluster, observed: &claim::Observed, remark: &Remark) {
    cluster.recorder.record(observed.claim.object_ref(&()), remark.severity, remark.reason, remark.message.clone());
}

/// Takes a step of a volume and returns what is observed after it, or `None` when the volume has been deleted.
///
/// # Errors
/// A conflict when the volume changed meanwhile, or any other refusal of the API.
pub(super) async fn volume(
    cluster: &Cluster,
    mut observed: volume::Observed,
    action: &VolumeAction,
) -> Result<Option<volume::Observed>> {
    let before = observed.volume.clone();
    let subresource = match action {
        VolumeAction::Delete { uid, resource_version } => {
            let options = DeleteOptions { resource_version: resource_version.clone(), ..DeleteOptions::uid(uid) };
            cluster.persistent_volumes.delete(&ObjectKey::of(&*before), &options).await?;
            return Ok(None);
        }
        VolumeAction::SetPhase { .. } => Some("status"),
        VolumeAction::Free { .. } | VolumeAction::GuardData | VolumeAction::Unprotect { .. } => None,
    };
    let after = edit::volume(&before, action, cluster.environment.now());
    replace(&mut observed.volume, cluster.persistent_volumes.update(&before, &after, subresource).await?);
    if let Some(remark) = action.remark() {
        tell_volume(cluster, &observed, &remark);
    }
    Ok(Some(observed))
}

/// Tells people about a volume.
pub(super) fn tell_volume(cluster: &Cluster, observed: &volume::Observed, remark: &Remark) {
    cluster.recorder.record(observed.volume.object_ref(&()), remark.severity, remark.reason, remark.message.clone());
}

fn replace<K>(place: &mut Arc<K>, written: Option<K>) {
    if let Some(written) = written {
        *place = Arc::new(written);
    }
}
