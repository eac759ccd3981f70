//! What claims and volumes say, with Kubernetes' defaults for what they leave out.

use std::collections::BTreeMap;

use drover_api::quantity::Quantity;
use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::apimachinery::pkg::api::resource;
use kube::api::ObjectMeta;

use super::names::{BIND_COMPLETED, PROVISIONED_BY};
use crate::objects::owners;

/// The resource that volumes have.
const STORAGE: &str = "storage";

/// How a volume's `claimRef` stands to a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// There is none.
    Free,
    /// The user reserved the volume for a claim of this name.
    Reserved,
    /// It is exactly this claim's, by uid.
    Held,
    /// It is another claim's; also when that one only had the same name.
    Foreign,
}

/// Reads how a volume stands to a claim.
pub fn hold(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Hold {
    let Some(reference) = claim_ref(volume) else { return Hold::Free };
    let same_name = reference.namespace.as_deref().unwrap_or_default() == owners::namespace(&claim.metadata)
        && reference.name.as_deref().unwrap_or_default() == owners::name(&claim.metadata);
    match (same_name, ref_uid(reference)) {
        (true, "") => Hold::Reserved,
        (true, _) if drover_api::mutants::active("C02-claim-by-name") => Hold::Held,
        (true, uid) if uid == owners::uid(&claim.metadata) => Hold::Held,
        _ => Hold::Foreign,
    }
}

/// Returns the volume's reference to its claim.
pub fn claim_ref(volume: &PersistentVolume) -> Option<&ObjectReference> {
    volume.spec.as_ref()?.claim_ref.as_ref()
}

/// Returns the uid in a reference, empty when the user reserved a volume by name.
pub fn ref_uid(reference: &ObjectReference) -> &str {
    reference.uid.as_deref().unwrap_or_default()
}

/// Returns a volume's phase.
pub fn volume_phase(volume: &PersistentVolume) -> &str {
    volume.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending")
}

/// Returns a claim's phase.
pub fn claim_phase(claim: &PersistentVolumeClaim) -> &str {
    claim.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending")
}

/// Returns the volume that a claim names.
pub fn named_volume(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim.spec.as_ref()?.volume_name.as_deref().filter(|name| !name.is_empty())
}

/// Whether the claim has had a volume before, so that one it lacks is lost.
pub fn was_bound(claim: &PersistentVolumeClaim) -> bool {
    annotation(&claim.metadata, BIND_COMPLETED).is_some() || claim_phase(claim) != "Pending"
}

/// Returns the claim's class, empty when it wants a volume without one.
pub fn claim_class(claim: &PersistentVolumeClaim) -> &str {
    claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref()).unwrap_or_default()
}

/// Returns the volume's class, empty when it has none.
pub fn volume_class(volume: &PersistentVolume) -> &str {
    volume.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref()).unwrap_or_default()
}

/// Returns what the claim asks for; `None` when it does not say.
pub fn requested(claim: &PersistentVolumeClaim) -> Option<Quantity> {
    storage(claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref())
}

/// Returns what the volume holds; `None` when it does not say.
pub fn capacity(volume: &PersistentVolume) -> Option<Quantity> {
    storage(volume.spec.as_ref()?.capacity.as_ref())
}

fn storage(amounts: Option<&BTreeMap<String, resource::Quantity>>) -> Option<Quantity> {
    Quantity::parse(&amounts?.get(STORAGE)?.0).ok()
}

/// Returns the access modes that the claim wants.
pub fn claim_modes(claim: &PersistentVolumeClaim) -> &[String] {
    claim.spec.as_ref().and_then(|spec| spec.access_modes.as_deref()).unwrap_or_default()
}

/// Returns the access modes that the volume offers.
pub fn volume_modes(volume: &PersistentVolume) -> &[String] {
    volume.spec.as_ref().and_then(|spec| spec.access_modes.as_deref()).unwrap_or_default()
}

/// Returns a volume mode with its default.
pub fn mode(volume_mode: Option<&String>) -> &str {
    volume_mode.map_or("Filesystem", String::as_str)
}

/// Returns what becomes of the volume after its claim. What is not said, or not understood, keeps the data.
pub fn reclaim_policy(volume: &PersistentVolume) -> &str {
    volume.spec.as_ref().and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref()).unwrap_or("Retain")
}

/// Returns the volume's CSI driver.
pub fn driver(volume: &PersistentVolume) -> Option<&str> {
    Some(volume.spec.as_ref()?.csi.as_ref()?.driver.as_str())
}

/// Whether a provisioner made the volume for its claim.
pub fn is_provisioned(volume: &PersistentVolume) -> bool {
    annotation(&volume.metadata, PROVISIONED_BY).is_some()
}

/// Returns an annotation.
pub fn annotation<'a>(metadata: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

/// Whether a finalizer is there.
pub fn has_finalizer(metadata: &ObjectMeta, finalizer: &str) -> bool {
    metadata.finalizers.iter().flatten().any(|present| present == finalizer)
}
