//! Makes volumes for claims: which class can, whether the claim allows it, and what the volume looks like.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    CSIPersistentVolumeSource, Node, ObjectReference, PersistentVolume, PersistentVolumeClaim, PersistentVolumeSpec,
};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::ObjectMeta;

use super::claim::Observed;
use super::names::{DATA, DOCKER, NO_PROVISIONER, PROVISIONED_BY, STORAGE_PROVISIONER, VOLUME_PROTECTION, is_ours};
use super::plan::{ClaimAction, Plan, Remark};
use super::{read, topology};
use crate::objects::owners;

/// The parameter of a Docker class that names the volume driver.
const DRIVER: &str = "driver";
/// The parameter of a Docker class that says whether its volumes are of one node or of the whole cluster.
const SCOPE: &str = "scope";

/// Plans what a claim does that no volume there is suits. `selected` is the node its first pod goes to.
pub fn plan(observed: &Observed, selected: Option<&Node>) -> Plan<ClaimAction> {
    let claim = &*observed.claim;
    let class_name = read::claim_class(claim);
    if class_name.is_empty() {
        let message = "no persistent volumes available for this claim and no storage class is set";
        return Plan::Wait(Remark::normal("FailedBinding", message));
    }
    let Some(class) = observed.class.as_deref() else {
        return failed(format!("storageclass.storage.k8s.io \"{class_name}\" not found"));
    };
    match class.provisioner.as_str() {
        NO_PROVISIONER => {
            let message =
                format!("no persistent volumes available for this claim and storage class \"{class_name}\" makes none");
            Plan::Wait(Remark::normal("FailedBinding", message))
        }
        provisioner if is_ours(provisioner) => plan_ours(observed, class, selected),
        provisioner => ask(claim, provisioner),
    }
}

/// Leaves the claim to a provisioner that is not part of Drover.
fn ask(claim: &PersistentVolumeClaim, provisioner: &str) -> Plan<ClaimAction> {
    if read::annotation(&claim.metadata, STORAGE_PROVISIONER) != Some(provisioner) {
        return Plan::Act(ClaimAction::AskProvisioner { provisioner: provisioner.to_owned() });
    }
    let message = format!(
        "waiting for a volume to be created, either by external provisioner \"{provisioner}\" or by hand; if it takes \
         long, check that the provisioner is running"
    );
    Plan::Wait(Remark::normal("ExternalProvisioning", message))
}

fn plan_ours(observed: &Observed, class: &StorageClass, selected: Option<&Node>) -> Plan<ClaimAction> {
    let claim = &*observed.claim;
    let name = volume_name(claim);
    if observed.volumes.iter().any(|volume| owners::name(&volume.metadata) == name) {
        return failed(format!("persistentvolume \"{name}\" exists already and is not this claim's"));
    }
    let scope = match Scope::of(class) {
        Ok(scope) => scope,
        Err(message) => return failed(message),
    };
    if let Some(message) = refusal(claim, class, scope) {
        return failed(message);
    }
    let node = match selected {
        Some(node) if topology::allows(class, node) => node,
        Some(node) => {
            let (node, class) = (owners::name(&node.metadata), owners::name(&class.metadata));
            return failed(format!("node \"{node}\" is outside the allowed topologies of storage class \"{class}\""));
        }
        None => match topology::choose(owners::uid(&claim.metadata), class, &observed.nodes) {
            Some(node) => node,
            None => return failed("no ready node can take the volume".to_owned()),
        },
    };
    Plan::Act(ClaimAction::Provision { volume: Box::new(build(claim, class, scope, node)) })
}

fn failed(message: String) -> Plan<ClaimAction> {
    Plan::Wait(Remark::warning("ProvisioningFailed", message))
}

/// From where a volume can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    Node,
    Cluster,
}

impl Scope {
    fn of(class: &StorageClass) -> Result<Self, String> {
        let parameter = class.parameters.as_ref().and_then(|parameters| parameters.get(SCOPE));
        match parameter.map(String::as_str) {
            Some(_) | None if class.provisioner != DOCKER => Ok(Self::Node),
            None | Some("node") => Ok(Self::Node),
            Some("cluster") => Ok(Self::Cluster),
            Some(other) => Err(format!("storage class parameter scope is \"{other}\"; it must be node or cluster")),
        }
    }
}

/// Says why a volume made for this claim would not be what it asks for.
fn refusal(claim: &PersistentVolumeClaim, class: &StorageClass, scope: Scope) -> Option<String> {
    let provisioner = &class.provisioner;
    let spec = claim.spec.as_ref()?;
    if read::requested(claim).is_none() {
        return Some("the claim does not say how much storage it needs".to_owned());
    }
    if spec.selector.is_some() {
        return Some(format!("claim.spec.selector is not supported by provisioner \"{provisioner}\""));
    }
    if spec.data_source.is_some() || spec.data_source_ref.is_some() {
        return Some(format!("claim.spec.dataSource is not supported by provisioner \"{provisioner}\""));
    }
    if read::mode(spec.volume_mode.as_ref()) != "Filesystem" {
        return Some(format!("provisioner \"{provisioner}\" makes no block volumes"));
    }
    let shared = |mode: &&String| mode.starts_with("ReadWriteMany") || mode.starts_with("ReadOnlyMany");
    let shared = read::claim_modes(claim).iter().find(shared).filter(|_| scope == Scope::Node)?;
    Some(format!("access mode {shared} is not supported: volumes of provisioner \"{provisioner}\" belong to one node"))
}

/// Returns the name of the volume made for a claim: a function of its uid, so that a second try meets the first.
pub fn volume_name(claim: &PersistentVolumeClaim) -> String {
    format!("pvc-{}", owners::uid(&claim.metadata))
}

fn build(claim: &PersistentVolumeClaim, class: &StorageClass, scope: Scope, node: &Node) -> PersistentVolume {
    let name = volume_name(claim);
    let spec = claim.spec.clone().unwrap_or_default();
    let handle = if class.provisioner == DOCKER { format!("drover-{name}") } else { name.clone() };
    PersistentVolume {
        metadata: ObjectMeta {
            name: Some(name),
            annotations: Some(BTreeMap::from([(PROVISIONED_BY.to_owned(), class.provisioner.clone())])),
            finalizers: Some(vec![VOLUME_PROTECTION.to_owned(), DATA.to_owned()]),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeSpec {
            access_modes: spec.access_modes,
            capacity: spec.resources.and_then(|resources| resources.requests),
            claim_ref: Some(reference(claim)),
            csi: Some(CSIPersistentVolumeSource {
                driver: class.provisioner.clone(),
                volume_handle: handle,
                volume_attributes: attributes(class),
                ..CSIPersistentVolumeSource::default()
            }),
            mount_options: class.mount_options.clone(),
            node_affinity: match scope {
                Scope::Node => Some(topology::pin(node)),
                Scope::Cluster => None,
            },
            persistent_volume_reclaim_policy: Some(class.reclaim_policy.clone().unwrap_or_else(|| "Delete".to_owned())),
            storage_class_name: Some(owners::name(&class.metadata).to_owned()),
            volume_mode: Some("Filesystem".to_owned()),
            ..PersistentVolumeSpec::default()
        }),
        status: None,
    }
}

/// A Docker volume is made from its driver and everything else as options, so the scope, which is ours, stays behind.
fn attributes(class: &StorageClass) -> Option<BTreeMap<String, String>> {
    let mut attributes = class.parameters.clone().unwrap_or_default();
    if class.provisioner == DOCKER {
        attributes.remove(SCOPE);
        attributes.entry(DRIVER.to_owned()).or_insert_with(|| "local".to_owned());
    }
    (!attributes.is_empty()).then_some(attributes)
}

/// Builds the reference by which a volume is exactly this claim's.
pub fn reference(claim: &PersistentVolumeClaim) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("PersistentVolumeClaim".to_owned()),
        namespace: claim.metadata.namespace.clone(),
        name: claim.metadata.name.clone(),
        uid: claim.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}
