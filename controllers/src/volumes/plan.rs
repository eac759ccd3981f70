//! What a pass over a claim or a volume can come to.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::core::v1::PersistentVolume;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde::Serialize;

use crate::objects::owners;
use crate::runtime::events::Severity;

/// The next step of an object. Each step is one write with its precondition, chosen from what the objects say and from
/// nothing that a process remembers: whoever dies between two steps leaves a state from which the next one is planned.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum Plan<A> {
    /// Do this, then plan again.
    Act(A),
    /// Nothing can be done until something else changes; this is why.
    Wait(Remark),
    /// Nothing is left to do here.
    Settled,
}

/// A reason for people, told as an event.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Remark {
    /// Whether something is wrong.
    pub severity: Severity,
    /// A word for machines, Kubernetes' own where it has one.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
}

impl Remark {
    /// Says that things are as they should be.
    pub fn normal(reason: &'static str, message: impl Into<String>) -> Self {
        Self { severity: Severity::Normal, reason, message: message.into() }
    }

    /// Says that something needs a look.
    pub fn warning(reason: &'static str, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, reason, message: message.into() }
    }
}

/// The phases of a claim that this controller writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum ClaimPhase {
    /// It has its volume.
    Bound,
    /// It had a volume that is no longer there, or no longer its own.
    Lost,
}

/// A step of a claim.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum ClaimAction {
    /// Writes the claim, with its uid, into the volume's `claimRef`: the decision that binds.
    TakeVolume {
        /// The volume.
        volume: String,
        /// Whether the binder chose it; `false` when the user had reserved it.
        by_controller: bool,
    },
    /// Writes the volume's name into the claim.
    NameVolume {
        /// The volume.
        volume: String,
        /// Whether the binder chose it; `false` when the user had named it.
        by_controller: bool,
    },
    /// Makes a volume for the claim.
    Provision {
        /// The volume, tied to the claim already.
        volume: Box<PersistentVolume>,
    },
    /// Asks somebody else's provisioner for a volume.
    AskProvisioner {
        /// Its name.
        provisioner: String,
    },
    /// Writes the claim's status.
    SetStatus {
        /// The phase.
        phase: ClaimPhase,
        /// What the volume allows.
        access_modes: Option<Vec<String>>,
        /// What the volume holds.
        capacity: Option<BTreeMap<String, Quantity>>,
        /// Why, when it is bad news.
        remark: Option<Remark>,
    },
    /// Lets a claim go that nobody uses.
    Unprotect,
}

impl ClaimAction {
    /// Returns what to tell people once the step is done.
    pub fn remark(&self) -> Option<Remark> {
        match self {
            Self::Provision { volume } => Some(Remark::normal(
                "ProvisioningSucceeded",
                format!("Successfully provisioned volume {}", owners::name(&volume.metadata)),
            )),
            Self::SetStatus { remark, .. } => remark.clone(),
            Self::TakeVolume { .. } | Self::NameVolume { .. } | Self::AskProvisioner { .. } | Self::Unprotect => None,
        }
    }
}

/// The phases of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum VolumePhase {
    /// Free to be bound.
    Available,
    /// Bound to a claim.
    Bound,
    /// Its claim is gone; the data is there.
    Released,
    /// Its claim is gone and the reclaim policy cannot be carried out.
    Failed,
}

/// A step of a volume.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum VolumeAction {
    /// Writes the volume's phase.
    SetPhase {
        /// The phase.
        phase: VolumePhase,
        /// Why, when it is bad news.
        remark: Option<Remark>,
    },
    /// Frees a volume that a claim had taken and never used.
    Free {
        /// Whether the user's reservation, the claim's name without its uid, stays.
        keep_reservation: bool,
    },
    /// Makes deletion wait for the agent that removes the data.
    GuardData,
    /// Removes a finalizer.
    Unprotect {
        /// Which.
        finalizer: &'static str,
    },
    /// Deletes the volume, and with it its data.
    Delete {
        /// Exactly this object.
        uid: String,
        /// In exactly this version, so that a policy or claim changed meanwhile counts.
        resource_version: Option<String>,
    },
}

impl VolumeAction {
    /// Returns what to tell people once the step is done.
    pub fn remark(&self) -> Option<Remark> {
        match self {
            Self::SetPhase { remark, .. } => remark.clone(),
            Self::Free { .. } | Self::GuardData | Self::Unprotect { .. } | Self::Delete { .. } => None,
        }
    }
}

impl<A: fmt::Display> fmt::Display for Plan<A> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Act(action) => action.fmt(formatter),
            Self::Wait(remark) => write!(formatter, "wait: {remark}"),
            Self::Settled => formatter.write_str("settled"),
        }
    }
}

impl fmt::Display for Remark {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?} {}: {}", self.severity, self.reason, self.message)
    }
}

impl fmt::Display for ClaimAction {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TakeVolume { volume, by_controller } => {
                write!(formatter, "take volume {volume} ({})", chooser(*by_controller))
            }
            Self::NameVolume { volume, by_controller } => {
                write!(formatter, "name volume {volume} ({})", chooser(*by_controller))
            }
            Self::Provision { volume } => write!(formatter, "provision {}", owners::name(&volume.metadata)),
            Self::AskProvisioner { provisioner } => write!(formatter, "ask {provisioner}"),
            Self::SetStatus { phase, remark, .. } => write_phase(formatter, phase, remark.as_ref()),
            Self::Unprotect => formatter.write_str("unprotect"),
        }
    }
}

impl fmt::Display for VolumeAction {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SetPhase { phase, remark } => write_phase(formatter, phase, remark.as_ref()),
            Self::Free { keep_reservation: true } => formatter.write_str("free, still reserved"),
            Self::Free { keep_reservation: false } => formatter.write_str("free"),
            Self::GuardData => formatter.write_str("guard data"),
            Self::Unprotect { finalizer } => write!(formatter, "remove finalizer {finalizer}"),
            Self::Delete { uid, .. } => write!(formatter, "delete {uid}"),
        }
    }
}

fn chooser(by_controller: bool) -> &'static str {
    if by_controller { "our choice" } else { "the user's choice" }
}

fn write_phase(formatter: &mut fmt::Formatter<'_>, phase: &impl fmt::Debug, remark: Option<&Remark>) -> fmt::Result {
    match remark {
        Some(remark) => write!(formatter, "phase {phase:?}, {remark}"),
        None => write!(formatter, "phase {phase:?}"),
    }
}
