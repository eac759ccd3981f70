//! What objects look like after a step: pure, so that simulations write exactly what the API is sent.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimStatus, PersistentVolumeStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::ObjectMeta;

use super::names::{
    BIND_COMPLETED, BOUND_BY_CONTROLLER, CLAIM_PROTECTION, DATA, STORAGE_PROVISIONER, STORAGE_PROVISIONER_BETA,
};
use super::plan::{ClaimAction, VolumeAction, VolumePhase};
use super::provision;
use crate::runtime::clock::whole_seconds;

/// What Kubernetes writes into annotations whose presence is the message.
const YES: &str = "yes";

/// Returns the volume as the claim's own.
pub fn taken(volume: &PersistentVolume, claim: &PersistentVolumeClaim, by_controller: bool) -> PersistentVolume {
    let mut after = volume.clone();
    after.spec.get_or_insert_default().claim_ref = Some(provision::reference(claim));
    if by_controller {
        annotate(&mut after.metadata, BOUND_BY_CONTROLLER, YES);
    }
    after
}

/// Returns the claim after a step that writes the claim; unchanged for the others.
pub fn claim(before: &PersistentVolumeClaim, action: &ClaimAction) -> PersistentVolumeClaim {
    let mut after = before.clone();
    match action {
        ClaimAction::NameVolume { volume, by_controller } => {
            after.spec.get_or_insert_default().volume_name = Some(volume.clone());
            annotate(&mut after.metadata, BIND_COMPLETED, YES);
            if *by_controller {
                annotate(&mut after.metadata, BOUND_BY_CONTROLLER, YES);
            }
        }
        ClaimAction::AskProvisioner { provisioner } => {
            annotate(&mut after.metadata, STORAGE_PROVISIONER, provisioner);
            annotate(&mut after.metadata, STORAGE_PROVISIONER_BETA, provisioner);
        }
        ClaimAction::SetStatus { phase, access_modes, capacity, remark: _ } => {
            after.status = Some(PersistentVolumeClaimStatus {
                phase: Some(format!("{phase:?}")),
                access_modes: access_modes.clone(),
                capacity: capacity.clone(),
                ..after.status.unwrap_or_default()
            });
        }
        ClaimAction::Unprotect => remove_finalizer(&mut after.metadata, CLAIM_PROTECTION),
        ClaimAction::TakeVolume { .. } | ClaimAction::Provision { .. } => {}
    }
    after
}

/// Returns the volume after a step; unchanged for a deletion.
pub fn volume(before: &PersistentVolume, action: &VolumeAction, now: Timestamp) -> PersistentVolume {
    let mut after = before.clone();
    match action {
        VolumeAction::SetPhase { phase, remark } => {
            let failure = remark.as_ref().filter(|_| *phase == VolumePhase::Failed);
            after.status = Some(PersistentVolumeStatus {
                phase: Some(format!("{phase:?}")),
                reason: failure.map(|remark| remark.reason.to_owned()),
                message: failure.map(|remark| remark.message.clone()),
                last_phase_transition_time: Some(Time(whole_seconds(now))),
            });
        }
        VolumeAction::Free { keep_reservation } => free(&mut after, *keep_reservation),
        VolumeAction::GuardData => after.metadata.finalizers.get_or_insert_default().push(DATA.to_owned()),
        VolumeAction::Unprotect { finalizer } => remove_finalizer(&mut after.metadata, finalizer),
        VolumeAction::Delete { .. } => {}
    }
    after
}

fn free(volume: &mut PersistentVolume, keep_reservation: bool) {
    let reference = &mut volume.spec.get_or_insert_default().claim_ref;
    match reference.as_mut().filter(|_| keep_reservation) {
        Some(reference) => {
            reference.uid = None;
            reference.resource_version = None;
        }
        None => *reference = None,
    }
    if let Some(annotations) = &mut volume.metadata.annotations {
        annotations.remove(BOUND_BY_CONTROLLER);
    }
}

fn annotate(metadata: &mut ObjectMeta, name: &str, value: &str) {
    metadata.annotations.get_or_insert_with(BTreeMap::new).insert(name.to_owned(), value.to_owned());
}

fn remove_finalizer(metadata: &mut ObjectMeta, finalizer: &str) {
    if let Some(finalizers) = &mut metadata.finalizers {
        finalizers.retain(|present| present != finalizer);
    }
}
