//! The containers of a pod in the order of its life.

use k8s_openapi::api::core::v1::{Container, PodSpec};
use sha2::{Digest as _, Sha256};

/// A container and the part it plays.
#[derive(Debug, Clone, Copy)]
pub struct PodContainer<'a> {
    /// Its spec.
    pub spec: &'a Container,
    /// Its part.
    pub role: ContainerRole,
}

/// The part a container plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerRole {
    /// Runs to completion before the next begins.
    Init,
    /// An init container with `restartPolicy: Always`: starts in turn and runs beside the others.
    Sidecar,
    /// Does the pod's work.
    Main,
}

/// Lists init containers and sidecars in order, then the containers.
pub fn pod_containers(spec: &PodSpec) -> Vec<PodContainer<'_>> {
    let inits = spec.init_containers.iter().flatten().map(|container| {
        let role = match container.restart_policy.as_deref() {
            Some("Always") => ContainerRole::Sidecar,
            Some(_) | None => ContainerRole::Init,
        };
        PodContainer { spec: container, role }
    });
    inits.chain(spec.containers.iter().map(|spec| PodContainer { spec, role: ContainerRole::Main })).collect()
}

/// The hash of what makes a running container outdated: of a running pod only the image may change.
pub fn spec_hash(container: &Container) -> String {
    let mut hash = Sha256::new();
    hash.update(container.name.as_bytes());
    hash.update([0]);
    hash.update(container.image.as_deref().unwrap_or_default().as_bytes());
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
