//! Pod volumes as the life cycle sees them.

use std::{fmt, path::PathBuf};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Pod;

use crate::ids::PodUid;

/// Makes the volumes of a pod and keeps them current.
#[async_trait]
pub trait PodVolumes: Send + Sync + fmt::Debug {
    /// Makes every volume of `pod.spec.volumes` ready to be mounted; repeated calls return the same sources.
    async fn prepare(&self, pod: &Pod) -> Result<Vec<PreparedVolume>, VolumeError>;

    /// Resolves `subPath` inside a prepared volume without following a link out of it, making the directory if absent.
    async fn sub_path(&self, pod: &PodUid, volume: &PreparedVolume, sub_path: &str)
    -> Result<MountSource, VolumeError>;

    /// Brings configMap, secret, projected and downwardAPI volumes of a running pod up to date.
    async fn refresh(&self, pod: &Pod) -> Result<(), VolumeError>;

    /// Removes what `prepare` made and the pod alone used; claims keep their data. Unknown pods are fine.
    async fn remove(&self, pod: &PodUid) -> Result<(), VolumeError>;

    /// The pods that still have volumes on this node, whether made by this process or an earlier one.
    async fn list(&self) -> Result<Vec<PodUid>, VolumeError>;
}

/// A volume that is ready to be mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreparedVolume {
    /// The name in `pod.spec.volumes`.
    pub name: String,
    /// What a mount of it points to.
    pub source: MountSource,
    /// Whether it may only be mounted read-only (configMap, secret, projected, downwardAPI).
    pub read_only: bool,
}

/// What a container mount points to.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub enum MountSource {
    /// A file or directory of the host.
    HostPath(PathBuf),
    /// A volume of the engine, by name.
    DockerVolume(String),
}

/// Why a volume is not ready.
#[derive(Debug, Clone, thiserror::Error)]
#[error("volume: {message}")]
pub struct VolumeError {
    /// The event reason: `FailedMount`, `FailedAttachVolume`, …
    pub reason: String,
    /// One sentence, shown to users.
    pub message: String,
    /// `false` when no retry can help until the pod or the objects it names change.
    pub retry: bool,
}
