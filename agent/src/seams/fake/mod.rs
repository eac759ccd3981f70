//! In-memory implementations of the seams: for tests, simulations and hollow nodes.

mod files;
mod network;

use std::path::PathBuf;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Container, Pod};

pub use files::MemoryFiles;
pub use network::FakeNetwork;

use super::{EnvironmentError, MountSource, PodEnvironment, PodFacts, PodVolumes, PreparedVolume, VolumeError};
use crate::ids::PodUid;

/// Gives every volume a path that does not exist.
#[derive(Debug, Default)]
pub struct FakeVolumes;

#[async_trait]
impl PodVolumes for FakeVolumes {
    async fn prepare(&self, pod: &Pod) -> Result<Vec<PreparedVolume>, VolumeError> {
        let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        Ok(volumes
            .map(|volume| PreparedVolume {
                name: volume.name.clone(),
                source: MountSource::HostPath(PathBuf::from("/nonexistent").join(&volume.name)),
                read_only: false,
            })
            .collect())
    }

    async fn sub_path(
        &self,
        _pod: &PodUid,
        volume: &PreparedVolume,
        _sub_path: &str,
    ) -> Result<MountSource, VolumeError> {
        Ok(volume.source.clone())
    }

    async fn refresh(&self, _pod: &Pod) -> Result<(), VolumeError> {
        Ok(())
    }

    async fn remove(&self, _pod: &PodUid) -> Result<(), VolumeError> {
        Ok(())
    }

    async fn list(&self) -> Result<Vec<PodUid>, VolumeError> {
        Ok(Vec::new())
    }
}

/// Passes literal `env` values on and leaves references out.
#[derive(Debug, Default)]
pub struct LiteralEnvironment;

#[async_trait]
impl PodEnvironment for LiteralEnvironment {
    async fn resolve(
        &self,
        _pod: &Pod,
        container: &Container,
        _facts: &PodFacts,
    ) -> Result<Vec<(String, String)>, EnvironmentError> {
        let variables = container.env.iter().flatten();
        Ok(variables.filter_map(|v| v.value.clone().map(|value| (v.name.clone(), value))).collect())
    }
}
