//! Mounts, and what may never be one.

use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::core::v1::VolumeMount;

use super::{BuildInput, ConfigError};
use crate::{
    engine::ContainerMount,
    seams::{MountSource, PreparedVolume},
};

/// A volume mount with what it points to.
#[derive(Debug, Clone, PartialEq)]
pub struct ResolvedMount {
    /// The mount in the manifest.
    pub mount: VolumeMount,
    /// The volume.
    pub volume: PreparedVolume,
    /// The volume's source, or the directory in it that `subPath` names.
    pub source: MountSource,
}

/// Paths of the host that never enter a container, nor any directory above them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ForbiddenPaths {
    paths: Vec<PathBuf>,
}

impl ForbiddenPaths {
    /// Forbids the given paths, with links resolved where they exist.
    pub fn new(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        let mut all = Vec::new();
        for path in paths {
            if let Ok(resolved) = path.canonicalize() {
                all.push(resolved);
            }
            all.push(path);
        }
        Self { paths: all }
    }

    /// Whether mounting `source` would bring a forbidden path into the container. `source` has its links resolved.
    pub fn forbids(&self, source: &Path) -> bool {
        let mut plain = lexically_plain(source);
        if drover_api::mutants::active("A38-socket-by-spelling") {
            plain = source.to_owned();
        }
        // Other processes' roots lead back to every path of the host.
        if plain.starts_with("/proc") {
            return true;
        }
        self.paths.iter().any(|forbidden| forbidden.starts_with(&plain))
    }
}

/// Resolves `.`, `..` and repeated slashes without looking at any disk; a relative path counts from the root.
pub(super) fn lexically_plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::ParentDir => {
                plain.pop();
            }
            Component::Normal(name) => plain.push(name),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    plain
}

pub(super) fn build(input: &BuildInput<'_>) -> Result<Vec<ContainerMount>, ConfigError> {
    let mut mounts = Vec::new();
    for resolved in &input.mounts {
        mounts.push(volume_mount(input, resolved)?);
    }
    for (path, target) in &input.files {
        if mounts.iter().any(|mount: &ContainerMount| mount.target == *target) {
            continue;
        }
        mounts.push(ContainerMount {
            source: MountSource::HostPath(path.clone()),
            target: target.clone(),
            read_only: false,
            propagation: None,
        });
    }
    Ok(mounts)
}

fn volume_mount(input: &BuildInput<'_>, resolved: &ResolvedMount) -> Result<ContainerMount, ConfigError> {
    let mount = &resolved.mount;
    if let MountSource::HostPath(path) = &resolved.source {
        let real = path.canonicalize().unwrap_or_else(|_| path.clone());
        if input.forbidden.forbids(&real) || input.forbidden.forbids(path) {
            let message = format!("volume {:?} may not be mounted: it would expose the container engine", mount.name);
            return Err(ConfigError::new(message));
        }
    }
    let target = mount.mount_path.clone();
    if !target.starts_with('/') || target.contains(':') {
        return Err(ConfigError::new(format!("mountPath {target:?} must be an absolute path without a colon")));
    }
    let propagation = match mount.mount_propagation.as_deref() {
        Some("HostToContainer") => Some("rslave".to_owned()),
        Some("Bidirectional") => Some("rshared".to_owned()),
        Some(_) | None => None,
    };
    let read_only = mount.read_only == Some(true) || resolved.volume.read_only;
    Ok(ContainerMount { source: resolved.source.clone(), target, read_only, propagation })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_socket_and_everything_above_it_stay_out() {
        let forbidden = ForbiddenPaths::new([PathBuf::from("/run/docker.sock")]);
        for path in [
            "/",
            "/run",
            "/run/docker.sock",
            "//run//docker.sock",
            "/run/../run/docker.sock",
            "/run/.",
            "/proc/1/root/run",
            "/proc",
        ] {
            assert!(forbidden.forbids(Path::new(path)), "{path}");
        }
        for path in ["/run/other", "/srv", "/run/docker.sock2", "/process"] {
            assert!(!forbidden.forbids(Path::new(path)), "{path}");
        }
    }
}
