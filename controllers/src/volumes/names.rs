//! The words that claims, volumes and provisioners speak to each other in.

pub use crate::scheduler::claims::SELECTED_NODE;

/// On a claim: it has been bound once, so that a volume it lacks now is lost and not awaited.
pub const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// On a claim or a volume: the binder chose the other side, not the user.
pub const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// On a volume: the provisioner that made it.
pub const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// On a claim: the provisioner of somebody else that is asked for a volume.
pub const STORAGE_PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
/// The same in its older spelling, which provisioners in the field still read.
pub const STORAGE_PROVISIONER_BETA: &str = "volume.beta.kubernetes.io/storage-provisioner";

/// Keeps a claim while pods use it.
pub const CLAIM_PROTECTION: &str = "kubernetes.io/pvc-protection";
/// Keeps a volume while it is bound.
pub const VOLUME_PROTECTION: &str = "kubernetes.io/pv-protection";
/// Keeps a volume until the agent of its node has removed the data.
pub const DATA: &str = "drover.dev/volume";

/// Makes directories on a node.
pub const LOCAL: &str = "drover.dev/local";
/// Makes volumes of a node's Docker Engine.
pub const DOCKER: &str = "drover.dev/docker";
/// Stands in classes whose volumes are made by hand only.
pub const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

/// The label by which a volume is tied to its node.
pub const HOST_NAME: &str = "kubernetes.io/hostname";

/// Whether volumes of this driver, and classes of this provisioner, are ours to serve.
pub fn is_ours(driver: &str) -> bool {
    driver == LOCAL || driver == DOCKER
}
