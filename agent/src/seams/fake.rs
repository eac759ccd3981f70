//! In-memory implementations of the seams: for tests, simulations and hollow nodes.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Container, Pod};

use super::{
    EngineNetworking, EnvironmentError, MountSource, NetworkError, NetworkMode, PodEnvironment, PodFacts, PodNetwork,
    PodVolumes, PreparedVolume, Sandbox, SandboxRequest, VolumeError,
};
use crate::ids::{ContainerId, PodUid};

/// Hands out addresses of 10.128.0.0/9 and makes nothing.
#[derive(Debug, Default)]
pub struct FakeNetwork {
    sandboxes: Mutex<BTreeMap<PodUid, Sandbox>>,
}

impl FakeNetwork {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<PodUid, Sandbox>> {
        self.sandboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl PodNetwork for FakeNetwork {
    async fn ensure(&self, request: &SandboxRequest) -> Result<Sandbox, NetworkError> {
        let mut sandboxes = self.lock();
        let taken: Vec<Ipv4Addr> = sandboxes.values().map(|sandbox| sandbox.address).collect();
        let first = u32::from(Ipv4Addr::new(10, 128, 0, 2));
        let free = (first..).map(Ipv4Addr::from).find(|address| !taken.contains(address));
        let address = free.ok_or_else(|| NetworkError { message: "no free address".to_owned() })?;
        let sandbox = Sandbox {
            address,
            netns: PathBuf::from("/proc/self/ns/net"),
            nameserver: None,
            engine: EngineNetworking { network_mode: "none".to_owned(), runtime: None, ipv4: None },
        };
        Ok(sandboxes.entry(request.pod.clone()).or_insert(sandbox).clone())
    }

    async fn link_container(&self, _container: &ContainerId, _pod: &PodUid) -> Result<(), NetworkError> {
        Ok(())
    }

    async fn unlink_container(&self, _container: &ContainerId) -> Result<(), NetworkError> {
        Ok(())
    }

    async fn remove(&self, pod: &PodUid) -> Result<(), NetworkError> {
        self.lock().remove(pod);
        Ok(())
    }

    async fn list(&self) -> Result<Vec<PodUid>, NetworkError> {
        Ok(self.lock().keys().cloned().collect())
    }

    fn mode(&self) -> NetworkMode {
        NetworkMode::Wrapper
    }
}

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
