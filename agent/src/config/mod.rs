//! Container configurations from pods: pure, and from an allow-list.
//!
//! [`ContainerConfig`] has no field for devices, cgroup parents, foreign name spaces or engine restart policies, so no
//! manifest can ask for them. The engine's socket is never mounted into a container (faults A38).

mod commands;
mod labels;
mod mounts;
mod resources;
mod security;

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

pub use commands::expand;
pub use labels::{ContainerIdentity, Owner, container_name, identity_of};
pub use mounts::{ForbiddenPaths, ResolvedMount};
pub use resources::qos_class;

use mounts::lexically_plain;

use crate::{engine::ContainerConfig, seams::EngineNetworking};

/// Why a container cannot be configured; it waits with this reason until its pod changes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ConfigError {
    /// `CreateContainerConfigError` or `InvalidImageName`.
    pub reason: &'static str,
    /// One sentence.
    pub message: String,
}

impl ConfigError {
    fn new(message: impl Into<String>) -> Self {
        Self { reason: "CreateContainerConfigError", message: message.into() }
    }
}

/// All that a configuration is built from.
#[derive(Debug)]
pub struct BuildInput<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// Its spec.
    pub spec: &'a PodSpec,
    /// The container.
    pub container: &'a Container,
    /// Whose it is and which attempt.
    pub identity: ContainerIdentity,
    /// The environment, resolved.
    pub env: Vec<(String, String)>,
    /// Volume mounts, resolved, in the order of the manifest.
    pub mounts: Vec<ResolvedMount>,
    /// hosts, resolv.conf, hostname and the termination log: host path and target.
    pub files: Vec<(PathBuf, String)>,
    /// The pod's host name; `None` under hostNetwork.
    pub hostname: Option<String>,
    /// The network part.
    pub networking: EngineNetworking,
    /// The user that the image names, when it was asked for.
    pub image_user: Option<String>,
    /// The working directory that the image names, when it was asked for.
    pub image_working_dir: Option<String>,
    /// Memory of the node, from which `oom_score_adj` is computed.
    pub node_memory_bytes: u64,
    /// The lowest `oom_score_adj` that this host allows.
    pub oom_score_floor: i64,
    /// What may never be mounted.
    pub forbidden: &'a ForbiddenPaths,
}

/// Checks that an image reference could name an image; the engine's own grammar is stricter.
///
/// # Errors
/// kubelet's sentence.
pub(crate) fn check_reference(image: &str) -> Result<(), String> {
    if image.is_empty() || image.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(format!("couldn't parse image name {image:?}: invalid reference format"));
    }
    Ok(())
}

/// Whether a working directory leads below `/proc`, however it is spelled.
fn is_below_proc(dir: &str) -> bool {
    lexically_plain(Path::new(dir)).starts_with("/proc")
}

/// Builds the configuration of one container.
///
/// # Errors
/// A [`ConfigError`] that names the field which cannot be honoured.
pub fn build_container_config(input: &BuildInput<'_>) -> Result<ContainerConfig, ConfigError> {
    let (spec, container) = (input.spec, input.container);
    let image = container.image.clone().unwrap_or_default();
    check_reference(&image).map_err(|message| ConfigError { reason: "InvalidImageName", message })?;
    let working_dir = container.working_dir.clone().filter(|dir| !dir.is_empty());
    if working_dir.as_deref().or(input.image_working_dir.as_deref()).is_some_and(is_below_proc) {
        // CVE-2024-21626: a leaked descriptor of the runtime as working directory.
        return Err(ConfigError::new("workingDir may not be under /proc, neither the container's nor the image's"));
    }
    let list = |words: &Option<Vec<String>>| {
        let words = words.as_ref().filter(|words| !words.is_empty())?;
        Some(words.iter().map(|word| expand(word, &input.env)).collect::<Vec<_>>())
    };
    let host_network = spec.host_network == Some(true);
    let (user, security) = security::build(input)?;
    Ok(ContainerConfig {
        image,
        entrypoint: list(&container.command),
        command: list(&container.args),
        working_dir,
        env: input.env.iter().map(|(name, value)| format!("{name}={value}")).collect(),
        labels: input.identity.labels(),
        mounts: mounts::build(input)?,
        user,
        hostname: input.hostname.clone().filter(|_| !host_network && input.networking.takes_hostname()),
        network_mode: input.networking.network_mode.clone(),
        ipv4: input.networking.ipv4,
        runtime: input.networking.runtime.clone(),
        host_pid: spec.host_pid == Some(true),
        host_ipc: spec.host_ipc == Some(true),
        resources: resources::build(input)?,
        security,
        stdin: container.stdin == Some(true),
        stdin_once: container.stdin_once == Some(true),
        tty: container.tty == Some(true),
        stop_signal: container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.stop_signal.clone()),
    })
}

#[cfg(test)]
mod tests;
