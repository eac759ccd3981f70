//! What every pod actor shares.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use k8s_openapi::api::{
    core::v1::{Pod, Service},
    discovery::v1::EndpointSlice,
};
use tokio::sync::watch;

use crate::{
    clock::Clock,
    config::{ContainerIdentity, ForbiddenPaths, Owner, container_name},
    engine::{Engine, ImageCache},
    ids::PodUid,
    ledger::Ledger,
    pod::plan::spec_hash,
    seams::{PodDirectory, PodEnvironment, PodFacts, PodFiles, PodNetwork, PodVolumes, Prober},
    source::{Informer, PodApi, Recorder},
};

/// The shared parts of the life cycle.
#[derive(Debug)]
pub struct Context {
    /// The container engine.
    pub engine: Arc<dyn Engine>,
    /// Its images.
    pub images: ImageCache,
    /// The pod network.
    pub network: Arc<dyn PodNetwork>,
    /// Pod volumes.
    pub volumes: Arc<dyn PodVolumes>,
    /// Container environments.
    pub environment: Arc<dyn PodEnvironment>,
    /// Writes to pod objects.
    pub api: Arc<dyn PodApi>,
    /// What we created.
    pub ledger: Ledger,
    /// Cluster and node.
    pub owner: Owner,
    /// Services, for join and drain.
    pub services: Informer<Service>,
    /// EndpointSlices, for join and drain.
    pub slices: Informer<EndpointSlice>,
    /// The EndpointSlice revision that every live proxy has applied.
    pub acknowledged: watch::Receiver<u64>,
    /// Whether the engine answers.
    pub engine_up: watch::Receiver<bool>,
    /// Counts changes of the engine's images.
    pub images_changed: watch::Receiver<u64>,
    /// Where streams find containers.
    pub directory: PodDirectory,
    /// The files of pods on this host.
    pub files: Arc<dyn PodFiles>,
    /// Runs probes and hooks that go over the network.
    pub prober: Arc<dyn Prober>,
    /// Events.
    pub recorder: Recorder,
    /// The clock.
    pub clock: Clock,
    /// The node.
    pub node: NodeFacts,
    /// Where pods have their files.
    pub pods_dir: PathBuf,
    /// What is never mounted.
    pub forbidden: ForbiddenPaths,
}

/// What pods must know of their node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeFacts {
    /// The node's address.
    pub host_ip: Option<IpAddr>,
    /// Its memory.
    pub memory_bytes: u64,
    /// Its cores.
    pub cpus: u64,
    /// The lowest `oom_score_adj` that may be set here: lowering it takes CAP_SYS_RESOURCE.
    pub oom_score_floor: i64,
}

impl Context {
    /// The directory of one pod.
    pub(crate) fn pod_dir(&self, pod: &PodUid) -> PathBuf {
        self.pods_dir.join(pod.as_str())
    }

    /// The identity of an attempt.
    pub(crate) fn identity(
        &self,
        pod: &Pod,
        uid: &PodUid,
        container: &k8s_openapi::api::core::v1::Container,
        attempt: u32,
    ) -> ContainerIdentity {
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let pod_name = pod.metadata.name.clone().unwrap_or_default();
        let name = container_name(&container.name, &pod_name, &namespace, uid, attempt);
        ContainerIdentity {
            owner: self.owner.clone(),
            pod: uid.clone(),
            namespace,
            pod_name,
            container: container.name.clone(),
            attempt,
            hash: spec_hash(container),
            seal: self.ledger.seal(&name),
        }
    }

    /// What fieldRefs can name.
    pub(crate) fn facts(&self, pod_ip: Option<IpAddr>) -> PodFacts {
        PodFacts {
            pod_ip,
            host_ip: self.node.host_ip,
            node_name: self.owner.node.clone(),
            node_allocatable_cpu_cores: self.node.cpus,
            node_allocatable_memory_bytes: self.node.memory_bytes,
        }
    }
}

/// The file that collects a container's termination message.
pub(crate) fn termination_log(pod_dir: &Path, container: &str, attempt: u32) -> PathBuf {
    pod_dir.join("termination").join(format!("{container}_{attempt}"))
}
