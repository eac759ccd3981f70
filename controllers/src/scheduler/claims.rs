//! Where a pod's volume claims let it go: a pod follows its data.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeSelector, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;

use super::affinity::matches_selector;
use super::filter::Refusal;

/// Asks the volume controllers for a volume on this node.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// A class with this provisioner has volumes made by hand only.
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

/// What one claim demands of the node.
#[derive(Debug, Clone, PartialEq)]
pub enum ClaimRule {
    /// Its volume is reachable from these nodes; `None` means all.
    Bound(Option<NodeSelector>),
    /// A volume has been asked for on this node.
    Selected(String),
    /// A volume will be made wherever the pod lands.
    Anywhere,
    /// One of these volumes, made by hand, will be bound: the nodes that reach each.
    OneOf(Vec<Option<NodeSelector>>),
}

impl ClaimRule {
    /// Whether the claim lets the pod run on a node.
    ///
    /// # Errors
    /// The [`Refusal`].
    pub fn check(&self, name: &str, labels: &BTreeMap<String, String>) -> Result<(), Refusal> {
        let reaches =
            |nodes: &Option<NodeSelector>| nodes.as_ref().is_none_or(|nodes| matches_selector(nodes, name, labels));
        let (holds, reason) = match self {
            Self::Bound(nodes) => (reaches(nodes), "node(s) had volume node affinity conflict"),
            Self::Selected(node) => (node == name, "node(s) are not where the pod's volume is being made"),
            Self::Anywhere => (true, ""),
            Self::OneOf(volumes) => {
                (volumes.iter().any(reaches), "node(s) didn't find available persistent volumes to bind")
            }
        };
        if holds { Ok(()) } else { Err(Refusal { reason: reason.to_owned(), detail: String::new() }) }
    }
}

/// What is known of claims, volumes and classes, as look-ups.
pub trait Volumes {
    /// Returns a claim by namespace and name.
    fn claim(&self, namespace: &str, name: &str) -> Option<std::sync::Arc<PersistentVolumeClaim>>;
    /// Returns a volume by name.
    fn volume(&self, name: &str) -> Option<std::sync::Arc<PersistentVolume>>;
    /// Returns every volume.
    fn volumes(&self) -> Vec<std::sync::Arc<PersistentVolume>>;
    /// Returns a class by name.
    fn class(&self, name: &str) -> Option<std::sync::Arc<StorageClass>>;
    /// Whether a node of this name exists.
    fn has_node(&self, name: &str) -> bool;
}

/// The rules of a pod's claims, and which of them wait for the pod's node before they get a volume.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Demands {
    /// One for each claim.
    pub rules: Vec<ClaimRule>,
    /// Names of claims that are not bound yet and wait for their first consumer.
    pub waiting: Vec<String>,
}

/// Reads the demands of a pod's claims.
///
/// # Errors
/// The sentence that says why the pod cannot be placed anywhere for now.
pub fn demands(pod: &Pod, known: &impl Volumes) -> Result<Demands, String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let mut demands = Demands::default();
    for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
        let Some(source) = &volume.persistent_volume_claim else { continue };
        let name = &source.claim_name;
        let claim =
            known.claim(namespace, name).ok_or_else(|| format!("persistentvolumeclaim \"{name}\" not found"))?;
        if claim.metadata.deletion_timestamp.is_some() {
            return Err(format!("persistentvolumeclaim \"{name}\" is being deleted"));
        }
        let (rule, waits) = rule(&claim, known)?;
        demands.rules.push(rule);
        if waits {
            demands.waiting.push(name.clone());
        }
    }
    Ok(demands)
}

fn rule(claim: &PersistentVolumeClaim, known: &impl Volumes) -> Result<(ClaimRule, bool), String> {
    let name = claim.metadata.name.as_deref().unwrap_or_default();
    let spec = claim.spec.clone().unwrap_or_default();
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending");
    if phase == "Lost" {
        return Err(format!("persistentvolumeclaim \"{name}\" has lost its volume"));
    }
    if let Some(volume_name) = spec.volume_name.as_deref() {
        let volume = known.volume(volume_name);
        let volume =
            volume.ok_or_else(|| format!("persistentvolume \"{volume_name}\" of claim \"{name}\" not found"))?;
        // A claim that names its volume and is not Bound yet is about to be: the pod waits for that, where it can go.
        return Ok((ClaimRule::Bound(reachable_from(&volume)), phase != "Bound"));
    }
    let class_name = spec.storage_class_name.as_deref().unwrap_or_default();
    let class = known.class(class_name);
    let waits =
        class.as_ref().is_some_and(|class| class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"));
    if !waits {
        return Err(format!("pod has unbound immediate PersistentVolumeClaims: \"{name}\""));
    }
    let asked_for = claim.metadata.annotations.as_ref().and_then(|annotations| annotations.get(SELECTED_NODE));
    if let Some(node) = asked_for.filter(|node| known.has_node(node)) {
        return Ok((ClaimRule::Selected(node.clone()), true));
    }
    if class.is_some_and(|class| class.provisioner != NO_PROVISIONER) {
        return Ok((ClaimRule::Anywhere, true));
    }
    let fitting = known.volumes().into_iter().filter(|volume| is_candidate(volume, class_name));
    Ok((ClaimRule::OneOf(fitting.map(|volume| reachable_from(&volume)).collect()), true))
}

/// Whether a volume could still be bound to a claim of the class; the binder checks size and modes.
fn is_candidate(volume: &PersistentVolume, class_name: &str) -> bool {
    let available = volume.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Available"));
    let spec = volume.spec.as_ref();
    available && spec.is_some_and(|spec| spec.storage_class_name.as_deref().unwrap_or_default() == class_name)
}

fn reachable_from(volume: &PersistentVolume) -> Option<NodeSelector> {
    volume.spec.as_ref()?.node_affinity.as_ref()?.required.clone()
}
