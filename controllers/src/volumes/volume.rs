//! Plans the next step of a volume: its phase, its release, what becomes of it and of its data.
//!
//! The law here: as long as a claim with the uid in `claimRef` exists, nothing is deleted and no finalizer goes.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim};

use super::names::{BOUND_BY_CONTROLLER, DATA, VOLUME_PROTECTION, is_ours};
use super::plan::{Plan, Remark, VolumeAction, VolumePhase};
use super::{read, topology};
use crate::objects::owners;

/// What the plan of a volume is made from.
#[derive(Debug, Clone)]
pub struct Observed {
    /// The volume.
    pub volume: Arc<PersistentVolume>,
    /// The claim of the name in `claimRef`, whatever its uid. When it is absent, has another uid or names another
    /// volume, that was confirmed by a fresh read; a uid that is gone never comes back.
    pub claim: Option<Arc<PersistentVolumeClaim>>,
    /// Every node.
    pub nodes: Vec<Arc<Node>>,
}

/// How a volume stands to its claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Nobody's, or reserved by the user for a claim by name.
    Free,
    /// Taken by a claim that does not name it yet.
    Taken,
    /// Both sides agree.
    Bound,
    /// Taken by a claim that names another volume.
    Astray,
    /// The claim that took it is gone.
    Orphaned,
}

/// Plans the next step.
pub fn plan(observed: &Observed) -> Plan<VolumeAction> {
    let volume = &*observed.volume;
    let never_used = matches!(read::volume_phase(volume), "Pending" | "Available") && !read::is_provisioned(volume);
    match standing(observed) {
        Standing::Free => in_phase(volume, VolumePhase::Available, || plan_removal(observed)),
        Standing::Taken => plan_kept(volume),
        Standing::Bound if drover_api::mutants::active("V01-reclaims-a-bound-volume") => plan_reclaim(observed),
        Standing::Bound => in_phase(volume, VolumePhase::Bound, || plan_kept(volume)),
        // A volume reaches the phase Bound before any pod may use it: one that has not holds nobody's data.
        Standing::Astray | Standing::Orphaned if never_used => Plan::Act(VolumeAction::Free {
            keep_reservation: read::annotation(&volume.metadata, BOUND_BY_CONTROLLER).is_none(),
        }),
        Standing::Astray => {
            let message =
                "the claim that took this volume is bound to another; the volume is kept until the claim is deleted";
            Plan::Wait(Remark::warning("VolumeMisbound", message))
        }
        Standing::Orphaned => plan_reclaim(observed),
    }
}

fn standing(observed: &Observed) -> Standing {
    let volume = &*observed.volume;
    let Some(uid) = read::claim_ref(volume).map(read::ref_uid).filter(|uid| !uid.is_empty()) else {
        return Standing::Free;
    };
    let alive = observed.claim.as_deref().filter(|claim| owners::uid(&claim.metadata) == uid);
    match alive.map(read::named_volume) {
        None => Standing::Orphaned,
        Some(None) => Standing::Taken,
        Some(Some(name)) if name == owners::name(&volume.metadata) => Standing::Bound,
        Some(Some(_)) => Standing::Astray,
    }
}

fn in_phase(
    volume: &PersistentVolume,
    phase: VolumePhase,
    next: impl FnOnce() -> Plan<VolumeAction>,
) -> Plan<VolumeAction> {
    if read::volume_phase(volume) == format!("{phase:?}") {
        return next();
    }
    Plan::Act(VolumeAction::SetPhase { phase, remark: None })
}

/// A volume with a living claim stays, whatever has been asked of it.
fn plan_kept(volume: &PersistentVolume) -> Plan<VolumeAction> {
    if !owners::is_terminating(&volume.metadata) {
        return Plan::Settled;
    }
    let claim = read::claim_ref(volume).cloned().unwrap_or_default();
    let (namespace, name) = (claim.namespace.unwrap_or_default(), claim.name.unwrap_or_default());
    let message = format!("deletion waits until claim {namespace}/{name} is deleted");
    Plan::Wait(Remark::normal("VolumeInUse", message))
}

fn plan_reclaim(observed: &Observed) -> Plan<VolumeAction> {
    let volume = &*observed.volume;
    match read::reclaim_policy(volume) {
        "Delete" if read::driver(volume).is_some_and(is_ours) => {
            in_phase(volume, VolumePhase::Released, || plan_delete(observed))
        }
        // Whoever made the volume deletes it.
        "Delete" if read::driver(volume).is_some() || read::is_provisioned(volume) => {
            in_phase(volume, VolumePhase::Released, || plan_removal(observed))
        }
        "Delete" => {
            let message = "the volume's data cannot be deleted: no driver for this type of volume";
            fail(observed, Remark::warning("VolumeFailedDelete", message))
        }
        "Recycle" => {
            let message = "the volume cannot be recycled: use Delete or Retain";
            fail(observed, Remark::warning("VolumeFailedRecycle", message))
        }
        _ => in_phase(volume, VolumePhase::Released, || plan_removal(observed)),
    }
}

fn fail(observed: &Observed, remark: Remark) -> Plan<VolumeAction> {
    if read::volume_phase(&observed.volume) == "Failed" {
        return plan_removal(observed);
    }
    Plan::Act(VolumeAction::SetPhase { phase: VolumePhase::Failed, remark: Some(remark) })
}

/// Deletes the object; the finalizer makes it stay until the agent has removed the data.
fn plan_delete(observed: &Observed) -> Plan<VolumeAction> {
    let metadata = &observed.volume.metadata;
    if owners::is_terminating(metadata) {
        return plan_removal(observed);
    }
    if !read::has_finalizer(metadata, DATA) {
        return Plan::Act(VolumeAction::GuardData);
    }
    let uid = owners::uid(metadata).to_owned();
    Plan::Act(VolumeAction::Delete { uid, resource_version: metadata.resource_version.clone() })
}

/// Lets a volume go that is being deleted and that no claim holds.
fn plan_removal(observed: &Observed) -> Plan<VolumeAction> {
    let volume = &*observed.volume;
    if !owners::is_terminating(&volume.metadata) {
        return Plan::Settled;
    }
    if read::has_finalizer(&volume.metadata, VOLUME_PROTECTION) {
        return Plan::Act(VolumeAction::Unprotect { finalizer: VOLUME_PROTECTION });
    }
    if !read::has_finalizer(&volume.metadata, DATA) {
        return Plan::Settled;
    }
    if read::reclaim_policy(volume) != "Delete" {
        // The data stays where it is, so no agent has anything to do.
        return Plan::Act(VolumeAction::Unprotect { finalizer: DATA });
    }
    match topology::missing_node(volume, &observed.nodes) {
        // The agent's turn.
        None => Plan::Settled,
        Some(missing) => {
            let name = owners::name(&volume.metadata);
            let message = format!(
                "{missing} \"{name}\", does not exist, so the data cannot be removed; deletion waits for the node, or \
                 for finalizer {DATA} to be removed by hand"
            );
            Plan::Wait(Remark::warning("VolumeNodeNotFound", message))
        }
    }
}
