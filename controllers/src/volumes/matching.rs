//! Which of the volumes there are suits a claim.

use std::sync::Arc;

use drover_api::quantity::Quantity;
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim};

use super::read::{self, Hold};
use super::topology::admits;
use crate::objects::{owners, selector};

/// Returns the volume that is exactly this claim's already, because the decision was written and the process died, or
/// because a provisioner made it so. Of several, which only a user's hand can make, the first by name.
pub fn held<'a>(claim: &PersistentVolumeClaim, volumes: &'a [Arc<PersistentVolume>]) -> Option<&'a PersistentVolume> {
    let held = volumes.iter().filter(|volume| read::hold(volume, claim) == Hold::Held);
    held.min_by_key(|volume| owners::name(&volume.metadata)).map(|volume| &**volume)
}

/// Returns the volume that the user reserved for a claim of this name.
pub fn reserved<'a>(
    claim: &PersistentVolumeClaim,
    volumes: &'a [Arc<PersistentVolume>],
    node: Option<&Node>,
) -> Option<&'a PersistentVolume> {
    smallest(volumes.iter().filter(|volume| {
        read::hold(volume, claim) == Hold::Reserved
            && !owners::is_terminating(&volume.metadata)
            && holds_enough(volume, claim)
            && same_mode(volume, claim)
            && node.is_none_or(|node| admits(volume, node))
    }))
}

/// Returns the smallest free volume that fits. A claim that waits for its consumer passes the node that was selected.
pub fn best<'a>(
    claim: &PersistentVolumeClaim,
    volumes: &'a [Arc<PersistentVolume>],
    node: Option<&Node>,
) -> Option<&'a PersistentVolume> {
    smallest(volumes.iter().filter(|volume| {
        read::hold(volume, claim) == Hold::Free
            && read::volume_phase(volume) == "Available"
            && !owners::is_terminating(&volume.metadata)
            && mismatch(volume, claim).is_none()
            && selected(volume, claim)
            && node.is_none_or(|node| admits(volume, node))
    }))
}

/// Says why a volume cannot serve a claim that names it.
pub fn mismatch(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<&'static str> {
    if !holds_enough(volume, claim) {
        return Some("requested PV is too small");
    }
    if read::volume_class(volume) != read::claim_class(claim) {
        return Some("storageClassName does not match");
    }
    if !same_mode(volume, claim) {
        return Some("incompatible volumeMode");
    }
    let offered = read::volume_modes(volume);
    let allowed = read::claim_modes(claim).iter().all(|mode| offered.contains(mode));
    (!allowed).then_some("incompatible accessMode")
}

fn holds_enough(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    match (read::capacity(volume), read::requested(claim)) {
        (Some(capacity), Some(requested)) => capacity >= requested,
        (_, None) | (None, Some(_)) => false,
    }
}

fn same_mode(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let offered = volume.spec.as_ref().and_then(|spec| spec.volume_mode.as_ref());
    let wanted = claim.spec.as_ref().and_then(|spec| spec.volume_mode.as_ref());
    read::mode(offered) == read::mode(wanted)
}

fn selected(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let wanted = claim.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    wanted.is_none_or(|wanted| selector::matches(wanted, volume.metadata.labels.as_ref()))
}

/// Smallest first; of equals the one with the fewest access modes beyond those asked for; then by name.
fn smallest<'a>(volumes: impl Iterator<Item = &'a Arc<PersistentVolume>>) -> Option<&'a PersistentVolume> {
    fn rank(volume: &PersistentVolume) -> (Option<Quantity>, usize, &str) {
        (read::capacity(volume), read::volume_modes(volume).len(), owners::name(&volume.metadata))
    }
    volumes.min_by(|one, other| rank(one).cmp(&rank(other))).map(|volume| &**volume)
}
