//! Plans the next step of a claim: find or make its volume, bind it, let it go.
//!
//! The order of a binding is the volume's `claimRef` with the claim's uid, then the claim's `volumeName`, then the
//! volume's phase (which [`super::volume`] plans), then the claim's. A pod may run on the claim only after the last.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;

use super::names::{BIND_COMPLETED, CLAIM_PROTECTION, SELECTED_NODE};
use super::plan::{ClaimAction, ClaimPhase, Plan, Remark};
use super::read::{self, Hold};
use super::{matching, provision, topology};
use crate::objects::{owners, pods};

/// What the plan of a claim is made from.
#[derive(Debug, Clone)]
pub struct Observed {
    /// The claim.
    pub claim: Arc<PersistentVolumeClaim>,
    /// The volume that the claim names, or every volume when it names none. A named one that is missing here was
    /// confirmed missing by a fresh read.
    pub volumes: Vec<Arc<PersistentVolume>>,
    /// The claim's class.
    pub class: Option<Arc<StorageClass>>,
    /// Every node.
    pub nodes: Vec<Arc<Node>>,
    /// Names of the pods that use the claim; read fresh when it is being deleted, empty otherwise.
    pub users: Vec<String>,
}

/// Plans the next step.
pub fn plan(observed: &Observed) -> Plan<ClaimAction> {
    let claim = &*observed.claim;
    if owners::uid(&claim.metadata).is_empty() {
        return Plan::Settled;
    }
    if owners::is_terminating(&claim.metadata) {
        return plan_deletion(observed);
    }
    match read::named_volume(claim) {
        Some(name) => plan_named(observed, name),
        None if read::was_bound(claim) => {
            let message = "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!";
            lose(claim, Remark::warning("ClaimLost", message))
        }
        None => plan_unbound(observed),
    }
}

/// Whether a pod uses the claim: it has a node and has not ended. As in Kubernetes a pod without a node does not
/// count: no agent mounts a claim that is being deleted, and a workload whose pods wait must not keep the claim from
/// being replaced.
pub fn uses(pod: &Pod, claim: &PersistentVolumeClaim) -> bool {
    let pod_name = owners::name(&pod.metadata);
    let own = owners::is_controlled_by(&claim.metadata, owners::uid(&pod.metadata));
    let mounts = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()).any(|volume| {
        let named = volume.persistent_volume_claim.as_ref();
        named.is_some_and(|source| source.claim_name == owners::name(&claim.metadata))
            || (own
                && volume.ephemeral.is_some()
                && owners::name(&claim.metadata) == format!("{pod_name}-{}", volume.name))
    });
    mounts
        && owners::namespace(&pod.metadata) == owners::namespace(&claim.metadata)
        && pods::node_name(pod).is_some()
        && !pods::is_finished(pod)
}

fn plan_deletion(observed: &Observed) -> Plan<ClaimAction> {
    if !read::has_finalizer(&observed.claim.metadata, CLAIM_PROTECTION) {
        return Plan::Settled;
    }
    match observed.users.iter().min() {
        None => Plan::Act(ClaimAction::Unprotect),
        Some(first) => {
            let others = match observed.users.len() - 1 {
                0 => String::new(),
                count => format!(" and {count} more"),
            };
            Plan::Wait(Remark::normal("ClaimInUse", format!("deletion waits until pod {first}{others} has ended")))
        }
    }
}

fn plan_named(observed: &Observed, name: &str) -> Plan<ClaimAction> {
    let claim = &*observed.claim;
    let was_bound = read::was_bound(claim);
    let Some(volume) = observed.volumes.iter().find(|volume| owners::name(&volume.metadata) == name) else {
        if was_bound {
            let message = "Bound claim has lost its PersistentVolume. Data on the volume is lost!";
            return lose(claim, Remark::warning("ClaimLost", message));
        }
        return unbindable(format!("volume \"{name}\" is named by this claim and does not exist"));
    };
    match read::hold(volume, claim) {
        Hold::Held => plan_bound(observed, volume),
        Hold::Foreign if was_bound => {
            let message = "Two claims are bound to the same volume, this one is bound incorrectly";
            lose(claim, Remark::warning("ClaimMisbound", message))
        }
        Hold::Foreign => unbindable(format!("volume \"{name}\" already bound to a different claim")),
        Hold::Free | Hold::Reserved if owners::is_terminating(&volume.metadata) => {
            unbindable(format!("volume \"{name}\" is being deleted"))
        }
        Hold::Free | Hold::Reserved => match matching::mismatch(volume, claim).filter(|_| !was_bound) {
            Some(why) => {
                let message = format!("Cannot bind to requested volume \"{name}\": {why}");
                Plan::Wait(Remark::warning("VolumeMismatch", message))
            }
            None => Plan::Act(ClaimAction::TakeVolume { volume: name.to_owned(), by_controller: false }),
        },
    }
}

/// Completes a binding of which both sides know, step by step.
fn plan_bound(observed: &Observed, volume: &PersistentVolume) -> Plan<ClaimAction> {
    let claim = &*observed.claim;
    let name = owners::name(&volume.metadata);
    if read::annotation(&claim.metadata, BIND_COMPLETED).is_none() {
        return Plan::Act(ClaimAction::NameVolume { volume: name.to_owned(), by_controller: false });
    }
    if read::volume_phase(volume) != "Bound" {
        // The volume's own pass writes its phase first, and its change brings the claim back.
        return Plan::Settled;
    }
    let access_modes = volume.spec.as_ref().and_then(|spec| spec.access_modes.clone());
    let capacity = volume.spec.as_ref().and_then(|spec| spec.capacity.clone());
    let status = claim.status.as_ref();
    let said = read::claim_phase(claim) == "Bound"
        && status.is_some_and(|status| status.access_modes == access_modes && status.capacity == capacity);
    if !said {
        return Plan::Act(ClaimAction::SetStatus { phase: ClaimPhase::Bound, access_modes, capacity, remark: None });
    }
    match topology::missing_node(volume, &observed.nodes) {
        None => Plan::Settled,
        Some(missing) => {
            let message = format!("{missing} \"{name}\", does not exist; the claim keeps waiting for it");
            Plan::Wait(Remark::warning("VolumeNodeNotFound", message))
        }
    }
}

fn plan_unbound(observed: &Observed) -> Plan<ClaimAction> {
    let claim = &*observed.claim;
    if let Some(volume) = matching::held(claim, &observed.volumes) {
        if drover_api::mutants::active("C01-first-of-two-writes") {
            return Plan::Settled;
        }
        return Plan::Act(ClaimAction::NameVolume {
            volume: owners::name(&volume.metadata).to_owned(),
            by_controller: true,
        });
    }
    let selected = match read::annotation(&claim.metadata, SELECTED_NODE) {
        None => None,
        Some(name) => match observed.nodes.iter().find(|node| owners::name(&node.metadata) == name) {
            Some(node) => Some(&**node),
            // The scheduler selects another as soon as the pod is tried again; no data exists yet.
            None => {
                let message = format!("node \"{name}\", selected for the volume, does not exist");
                return Plan::Wait(Remark::warning("ProvisioningFailed", message));
            }
        },
    };
    if let Some(volume) = matching::reserved(claim, &observed.volumes, selected) {
        return take(volume, false);
    }
    if selected.is_none() && waits_for_consumer(observed.class.as_deref()) {
        let message = "waiting for first consumer to be created before binding";
        return Plan::Wait(Remark::normal("WaitForFirstConsumer", message));
    }
    match matching::best(claim, &observed.volumes, selected) {
        Some(volume) => take(volume, true),
        None => provision::plan(observed, selected),
    }
}

fn take(volume: &PersistentVolume, by_controller: bool) -> Plan<ClaimAction> {
    Plan::Act(ClaimAction::TakeVolume { volume: owners::name(&volume.metadata).to_owned(), by_controller })
}

fn waits_for_consumer(class: Option<&StorageClass>) -> bool {
    class.is_some_and(|class| class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"))
}

fn unbindable(message: String) -> Plan<ClaimAction> {
    Plan::Wait(Remark::warning("FailedBinding", message))
}

fn lose(claim: &PersistentVolumeClaim, remark: Remark) -> Plan<ClaimAction> {
    if read::claim_phase(claim) == "Lost" {
        return Plan::Wait(remark);
    }
    let (phase, remark) = (ClaimPhase::Lost, Some(remark));
    Plan::Act(ClaimAction::SetStatus { phase, access_modes: None, capacity: None, remark })
}
