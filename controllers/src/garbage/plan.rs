//! Decides what becomes of an object, given the state of its owners. Pure.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::ObjectMeta;
use serde::Serialize;

use crate::objects::owners;
use crate::runtime::ObjectKey;

/// The finalizer of a deletion that waits for what the object owns.
pub(super) const FOREGROUND: &str = "foregroundDeletion";
/// The finalizer of a deletion that lets go of what the object owns.
pub(super) const ORPHAN: &str = "orphan";

/// What is known of one owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnerState {
    /// It exists.
    Present,
    /// It is being deleted and waits for its dependents to go first.
    WaitingForDependents,
    /// The server has none with that uid.
    Gone,
    /// Its kind is not known here; such an owner keeps what it owns.
    Unknown,
}

/// Something the object owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependent {
    /// The number of its kind.
    pub kind: usize,
    /// Its name.
    pub key: ObjectKey,
    /// Whether a foreground deletion of the owner waits for it.
    pub blocks: bool,
}

impl Dependent {
    /// Describes an object as a dependent of the owner with this uid.
    pub(super) fn of(kind: usize, owner_uid: &str, metadata: &ObjectMeta) -> Self {
        let reference = metadata.owner_references.iter().flatten().find(|owner| owner.uid == owner_uid);
        let blocks = reference.and_then(|owner| owner.block_owner_deletion).unwrap_or(false);
        let key = ObjectKey::new(owners::namespace(metadata), owners::name(metadata));
        Self { kind, key, blocks }
    }
}

/// Whether a reference with the owner's uid also leads to where the owner is.
pub(super) fn leads_to(
    metadata: &ObjectMeta,
    uid: &str,
    owner: &(usize, ObjectKey),
    place: impl Fn(&OwnerReference) -> Option<(usize, ObjectKey)>,
) -> bool {
    let references = metadata.owner_references.iter().flatten().filter(|reference| reference.uid == uid);
    references.filter_map(place).any(|found| found == *owner)
}

/// What a collected object's own dependents are in for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Policy {
    /// They are collected afterwards.
    Background,
    /// They go first.
    Foreground,
    /// They stay.
    Orphan,
}

/// One write.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum Action {
    /// Delete the object: it has owners and none is left.
    Delete {
        /// What becomes of its dependents.
        policy: Policy,
    },
    /// Drop the references to owners that are gone.
    KeepOwners {
        /// The references that stay.
        owners: Vec<OwnerReference>,
    },
    /// Let the object go: what its deletion waited for is done.
    RemoveFinalizer {
        /// Which.
        finalizer: String,
    },
    /// Drop the dependent's reference to this object.
    ReleaseDependent {
        /// The number of its kind.
        kind: usize,
        /// Its name.
        key: ObjectKey,
    },
}

impl fmt::Display for Action {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delete { policy } => write!(formatter, "delete in policy {policy:?}"),
            Self::KeepOwners { owners } => write!(formatter, "keep {} owners", owners.len()),
            Self::RemoveFinalizer { finalizer } => write!(formatter, "remove finalizer {finalizer}"),
            Self::ReleaseDependent { key, .. } => write!(formatter, "release {key}"),
        }
    }
}

/// Reads an owner's state off its metadata.
pub(super) fn state_of(metadata: &ObjectMeta) -> OwnerState {
    if owners::is_terminating(metadata) && has_finalizer(metadata, FOREGROUND) {
        OwnerState::WaitingForDependents
    } else {
        OwnerState::Present
    }
}

/// Decides what becomes of an object. `states` are those of its owner references, in their order.
pub fn plan(metadata: &ObjectMeta, states: &[OwnerState], dependents: &[Dependent]) -> Vec<Action> {
    if owners::is_terminating(metadata) {
        return finish_deletion(metadata, dependents);
    }
    let references: Vec<OwnerReference> = metadata.owner_references.clone().unwrap_or_default();
    let is = |state: OwnerState| states.contains(&state);
    if references.is_empty() || references.len() != states.len() {
        return Vec::new();
    }
    let unknown = is(OwnerState::Unknown) && !drover_api::mutants::active("C11-unknown-is-gone");
    let spoilt = is(OwnerState::Gone) && drover_api::mutants::active("C11-one-owner-gone");
    if (is(OwnerState::Present) || unknown) && !spoilt {
        let kept = |state: &OwnerState| matches!(state, OwnerState::Present | OwnerState::Unknown);
        let owners: Vec<OwnerReference> =
            references.iter().zip(states).filter(|(_, state)| kept(state)).map(|(owner, _)| owner.clone()).collect();
        let unchanged = owners.len() == references.len();
        return if unchanged { Vec::new() } else { vec![Action::KeepOwners { owners }] };
    }
    let policy = if has_finalizer(metadata, ORPHAN) {
        Policy::Orphan
    } else if has_finalizer(metadata, FOREGROUND) || is(OwnerState::WaitingForDependents) && !dependents.is_empty() {
        Policy::Foreground
    } else {
        Policy::Background
    };
    vec![Action::Delete { policy }]
}

fn finish_deletion(metadata: &ObjectMeta, dependents: &[Dependent]) -> Vec<Action> {
    if has_finalizer(metadata, ORPHAN) {
        let release =
            |dependent: &Dependent| Action::ReleaseDependent { kind: dependent.kind, key: dependent.key.clone() };
        let mut actions: Vec<Action> = dependents.iter().map(release).collect();
        actions.push(Action::RemoveFinalizer { finalizer: ORPHAN.to_owned() });
        return actions;
    }
    let blocked = dependents.iter().any(|dependent| dependent.blocks);
    if has_finalizer(metadata, FOREGROUND) && !blocked {
        return vec![Action::RemoveFinalizer { finalizer: FOREGROUND.to_owned() }];
    }
    Vec::new()
}

fn has_finalizer(metadata: &ObjectMeta, name: &str) -> bool {
    metadata.finalizers.iter().flatten().any(|finalizer| finalizer == name)
}
