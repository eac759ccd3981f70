//! The fallback: pods in a network of the engine's own, with addresses of ours, where the wrapper is not registered.
//!
//! A holder for each pod keeps name space and address; the pod's containers join it by name. Addresses, records, DNS and
//! the service proxy are those of wrapper mode. Only containers and networks with our seal or label are touched. See
//! `docs/adr/0006-bridge-fallback.md`.

mod engine_network;
mod holder;
mod image;
mod wiring;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fs, io,
    net::Ipv4Addr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bollard::Docker;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use engine_network::EngineNetworkError;
pub use holder::HolderError;
pub use image::ImageError;

use self::{
    engine_network::EngineNetwork,
    holder::{Holders, holder_name},
    image::HolderImage,
};
use super::{
    BridgeError, NetnsError, NetworkConfig, PodHostPorts, RecordError, StartError, bridge,
    connections::count_connections,
    forwarding,
    host::explain,
    link::{LinkError, Netlink, hardware_address},
    mode::mode_of_pods,
    netns, pod_link,
    pods::{Pods, ReserveError},
};
use crate::{
    clock::Clock,
    config::Owner,
    engine::{ContainerPhase, Engine, EngineError, ErrorKind},
    ids::{ContainerId, PodUid},
    ledger::Ledger,
    node::oom_score_floor,
    seams::{EngineNetworking, NetworkError, NetworkMode, PodNetwork, Sandbox, SandboxRequest},
};

/// How often holders, bridge settings and forwarding rules are looked at: an engine that restarts resets them.
const REPAIR_INTERVAL: Duration = Duration::from_secs(5);

/// A holder is the last that the kernel should kill for memory, where this host lets us say so (kubelet: -998).
const OOM_SCORE_ADJ: i64 = -998;

/// The engine and what proves that something in it is ours.
#[derive(Debug, Clone)]
pub struct EngineAccess {
    /// Containers.
    pub engine: Arc<dyn Engine>,
    /// Networks and images.
    pub docker: Docker,
    /// Cluster and node.
    pub owner: Owner,
    /// Seals what we make.
    pub ledger: Ledger,
}

/// Gives pods addresses in the engine's bridge network. One per host and run directory.
#[derive(Debug)]
pub struct BridgeNetwork {
    config: NetworkConfig,
    network: EngineNetwork,
    docker: Docker,
    netlink: Netlink,
    image: HolderImage,
    holders: Holders,
    pods: Pods,
    /// The processes of the holders, as far as this agent has seen them.
    pids: Mutex<HashMap<PodUid, u32>>,
}

/// A failed step for one pod.
#[derive(Debug, thiserror::Error)]
enum PodError {
    #[error("the pod has no address")]
    Missing,
    #[error(transparent)]
    Address(#[from] ReserveError),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error(transparent)]
    Holder(#[from] HolderError),
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    Netns(#[from] NetnsError),
    #[error(transparent)]
    Bridge(#[from] BridgeError),
}

impl From<EngineError> for PodError {
    fn from(error: EngineError) -> Self {
        HolderError::Engine(error).into()
    }
}

impl BridgeNetwork {
    /// Sets up the engine's network and takes over what an earlier agent left. No pod of wrapper mode may be left.
    ///
    /// # Errors
    /// One variant of [`StartError`] for each step.
    pub async fn start(config: NetworkConfig, access: EngineAccess, clock: Clock) -> Result<Self, StartError> {
        let pods = Pods::load(&config.run_dir, config.pod_cidr, clock)?;
        let netns_dir = config.run_dir.join("netns");
        fs::create_dir_all(&netns_dir).map_err(|source| RecordError::File { path: netns_dir, source })?;
        let netlink = Netlink::open().map_err(StartError::Netlink)?;
        let failed = |source| BridgeError::Link { bridge: config.bridge.clone(), source };
        let mtu = netlink.uplink_mtu().await.map_err(failed)?.unwrap_or(bridge::USUAL_MTU);
        let EngineAccess { engine, docker, owner, ledger } = access;
        if !engine_network::exists(&docker, &config.bridge).await? {
            remove_wrapper_bridge(&netlink, &config).await.map_err(failed)?;
        }
        let network = EngineNetwork { bridge: config.bridge.clone(), pods: config.pod_cidr, mtu, owner: owner.clone() };
        let image = HolderImage::new()?;
        let holders = Holders {
            engine,
            ledger,
            owner,
            bridge: config.bridge.clone(),
            image: image.reference(),
            oom_score_adj: OOM_SCORE_ADJ.max(oom_score_floor()),
        };
        let pids = Mutex::default();
        let this = Self { config, network, docker, netlink, image, holders, pods, pids };
        this.remove_strangers().await?;
        this.wire().await?;
        this.image.ensure(&this.docker).await?;
        Ok(this)
    }

    /// The address of the bridge: default gateway and name server of the pods.
    pub fn gateway(&self) -> Ipv4Addr {
        self.config.pod_cidr.gateway()
    }

    /// The host ports that pods have asked for, for the service proxy.
    pub fn host_ports(&self) -> watch::Receiver<PodHostPorts> {
        self.pods.host_ports()
    }

    /// Repairs network, settings and holders at intervals until `stop`.
    pub async fn maintain(&self, stop: CancellationToken) {
        let mut last_failure = None;
        loop {
            // Cancel-safe: a token and a timer.
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(REPAIR_INTERVAL) => {}
            }
            let failure = self.repair().await.err();
            if failure != last_failure
                && let Some(message) = &failure
            {
                tracing::warn!(network.bridge = self.config.bridge, "pod network cannot be repaired: {message}");
            }
            last_failure = failure;
        }
    }

    /// Network, settings, route and rules as they must be.
    async fn wire(&self) -> Result<(), StartError> {
        self.network.ensure(&self.docker).await?;
        wiring::ensure(&self.config.bridge)?;
        let failed = |source| BridgeError::Link { bridge: self.config.bridge.clone(), source };
        if let Some(link) = self.netlink.find(&self.config.bridge).await.map_err(failed)? {
            self.netlink.ensure_link_route(link.index, self.config.service_cidr).await.map_err(failed)?;
        }
        Ok(forwarding::ensure(self.config.pod_cidr, self.config.cluster_cidr).await?)
    }

    /// Removes holders of pods that no record knows: of an earlier boot of this host.
    async fn remove_strangers(&self) -> Result<(), StartError> {
        let known: HashSet<PodUid> = self.pods.uids().into_iter().collect();
        for (pod, _) in self.holders.list().await?.into_iter().filter(|(pod, _)| !known.contains(pod)) {
            self.holders.remove(&pod).await?;
        }
        Ok(())
    }

    async fn repair(&self) -> Result<(), String> {
        let sentence = |error: &dyn std::error::Error| explain(error).message;
        self.wire().await.map_err(|error| sentence(&error))?;
        let listed = self.holders.list().await.map_err(|error| sentence(&error))?;
        let running = listed.into_iter().filter(|(_, container)| container.phase == ContainerPhase::Running);
        let running: HashSet<PodUid> = running.map(|(pod, _)| pod).collect();
        for pod in self.pods.uids().into_iter().filter(|pod| !running.contains(pod)) {
            let _serial = self.pods.serialise(&pod).await;
            match self.hold(&pod).await {
                // Gone meanwhile, or not made yet: its own call says so.
                Ok(()) | Err(PodError::Missing) => {}
                Err(error) => return Err(sentence(&error)),
            }
        }
        Ok(())
    }

    /// Makes the pod's holder run and its name space be held. The caller has serialised the pod's calls.
    async fn hold(&self, pod: &PodUid) -> Result<(), PodError> {
        let record = self.pods.record(pod).ok_or(PodError::Missing)?;
        let mut held = self.holders.hold(pod, &record).await;
        if let Err(HolderError::Engine(error)) = &held
            && error.kind == ErrorKind::NoSuchImage
        {
            self.image.ensure(&self.docker).await?;
            held = self.holders.hold(pod, &record).await;
        }
        let held = held?;
        let path = self.netns_path(pod);
        let earlier = netns::exists(&path);
        let fresh = netns::hold(&path, held.pid)?;
        if held.started {
            wiring::hairpin(&self.config.bridge)?;
        }
        self.lock_pids().insert(pod.clone(), held.pid);
        if earlier && fresh {
            self.end_cut_off(pod, &path).await?;
        }
        Ok(())
    }

    /// Kills the pod's containers that still run in the name space of an earlier holder. That one lost its link when the
    /// holder ended: nobody reaches them any more, and the life cycle starts them again in the new one.
    async fn end_cut_off(&self, pod: &PodUid, netns: &std::path::Path) -> Result<(), PodError> {
        let Holders { engine, owner, ledger, .. } = &self.holders;
        for container in engine.list_containers(&owner.filter()).await? {
            let of_pod = crate::config::identity_of(&container.labels).is_some_and(|identity| identity.pod == *pod);
            if !of_pod || !ledger.owns(&container) || container.phase != ContainerPhase::Running {
                continue;
            }
            let pid = engine.inspect_container(container.id.as_str()).await?.pid;
            if pid.is_some_and(|pid| !netns::holds(netns, pid)) {
                tracing::warn!(pod.uid = %pod, container.name, "ending a container that lost its network");
                match engine.kill_container(&container.id, "SIGKILL").await {
                    Err(error) if error.kind != ErrorKind::NotRunning => return Err(error.into()),
                    Ok(()) | Err(_) => {}
                }
            }
        }
        Ok(())
    }

    async fn ensure_pod(&self, request: &SandboxRequest) -> Result<Sandbox, PodError> {
        let _serial = self.pods.serialise(&request.pod).await;
        let known = self.pods.record(&request.pod).is_some();
        let address = self.pods.reserve(request)?;
        match self.hold(&request.pod).await {
            // Nothing has used the address yet: the next try takes another one.
            Err(PodError::Holder(error @ HolderError::AddressTaken { .. })) if !known => {
                self.holders.remove(&request.pod).await?;
                self.pods.release(&request.pod)?;
                return Err(error.into());
            }
            other => other?,
        }
        let network_mode = format!("container:{}", holder_name(&request.pod));
        let engine = EngineNetworking { network_mode, runtime: None, ipv4: None };
        let netns = self.netns_path(&request.pod);
        Ok(Sandbox { address, netns, nameserver: Some(self.gateway()), engine })
    }

    /// The holder runs, as far as the kernel knows; asking the engine at each container's start would cost more.
    fn is_held(&self, pod: &PodUid) -> bool {
        let pid = self.lock_pids().get(pod).copied();
        pid.is_some_and(|pid| netns::holds(&self.netns_path(pod), pid))
    }

    async fn remove_pod(&self, pod: &PodUid) -> Result<(), PodError> {
        let _serial = self.pods.serialise(pod).await;
        if self.pods.record(pod).is_none() {
            return Ok(());
        }
        self.holders.remove(pod).await?;
        netns::remove(&self.netns_path(pod))?;
        self.lock_pids().remove(pod);
        Ok(self.pods.release(pod)?)
    }

    fn netns_path(&self, pod: &PodUid) -> PathBuf {
        self.config.run_dir.join("netns").join(pod.as_str())
    }

    fn lock_pids(&self) -> MutexGuard<'_, HashMap<PodUid, u32>> {
        self.pids.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl PodNetwork for BridgeNetwork {
    async fn ensure(&self, request: &SandboxRequest) -> Result<Sandbox, NetworkError> {
        self.ensure_pod(request).await.map_err(|error| explain(&error))
    }

    /// The engine puts the container where it belongs; here it is made sure that the holder runs (an engine that was
    /// restarted has ended it).
    async fn link_container(&self, _container: &ContainerId, pod: &PodUid) -> Result<(), NetworkError> {
        if self.is_held(pod) {
            return Ok(());
        }
        let _serial = self.pods.serialise(pod).await;
        self.hold(pod).await.map_err(|error| explain(&error))
    }

    async fn unlink_container(&self, _container: &ContainerId) -> Result<(), NetworkError> {
        Ok(())
    }

    async fn remove(&self, pod: &PodUid) -> Result<(), NetworkError> {
        self.remove_pod(pod).await.map_err(|error| explain(&error))
    }

    async fn list(&self) -> Result<Vec<PodUid>, NetworkError> {
        Ok(self.pods.uids())
    }

    async fn connections(&self, sandbox: &Sandbox, ports: BTreeSet<u16>) -> io::Result<u32> {
        count_connections(&sandbox.netns, ports).await
    }

    fn mode(&self) -> NetworkMode {
        NetworkMode::Bridge
    }
}

/// Removes what bridge mode has on the engine and in the kernel: holders with their name spaces, records, rules, network
/// and image. Harmless where there is nothing.
///
/// # Errors
/// One variant of [`StartError`] for each step.
pub async fn remove_bridge_mode(config: &NetworkConfig, access: &EngineAccess, clock: Clock) -> Result<(), StartError> {
    let EngineAccess { engine, docker, owner, ledger } = access.clone();
    let image = HolderImage::new()?.reference();
    let bridge = config.bridge.clone();
    let holders = Holders { engine, ledger, owner, bridge, image, oom_score_adj: 0 };
    for (pod, _) in holders.list().await? {
        holders.remove(&pod).await?;
    }
    if mode_of_pods(&config.run_dir)? == Some(NetworkMode::Bridge) {
        let pods = Pods::load(&config.run_dir, config.pod_cidr, clock)?;
        for pod in pods.uids() {
            let path = config.run_dir.join("netns").join(pod.as_str());
            netns::remove(&path).map_err(|error| RecordError::File { path, source: io::Error::other(error) })?;
            pods.release(&pod)?;
        }
    }
    if engine_network::remove(&docker, &config.bridge).await? {
        forwarding::remove(config.pod_cidr, config.cluster_cidr).await?;
        // Another agent's holders may need it; then the engine refuses, rightly.
        drop(docker.remove_image(&holders.image, None::<bollard::query_parameters::RemoveImageOptions>, None).await);
    }
    Ok(())
}

/// The bridge that wrapper mode made would be taken for the engine's: it is told by its hardware address.
async fn remove_wrapper_bridge(netlink: &Netlink, config: &NetworkConfig) -> Result<(), LinkError> {
    pod_link::sweep(netlink, &config.bridge, &[]).await?;
    let Some(link) = netlink.find(&config.bridge).await? else { return Ok(()) };
    if link.hardware.as_deref() == Some(&hardware_address(config.pod_cidr.gateway())) {
        netlink.remove(link.index).await?;
    }
    Ok(())
}
