//! The pod network of this host, as the life cycle uses it.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    net::Ipv4Addr,
    os::{fd::AsFd, unix::fs::symlink},
    path::PathBuf,
};

use async_trait::async_trait;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    BridgeError, Cidr, EngineNetworkError, ForwardingError, HolderError, ImageError, NetnsError, PodHostPorts,
    RecordError,
    bridge::{self, Bridge},
    connections::count_connections,
    forwarding,
    link::{LinkError, Netlink, Veth},
    netns, pod_link,
    pods::{Pods, ReserveError},
    records::remove_file,
};
use crate::{
    causes::with_causes,
    clock::Clock,
    ids::{ContainerId, PodUid},
    seams::{EngineNetworking, NetworkError, NetworkMode, PodNetwork, Sandbox, SandboxRequest},
};

/// How often bridge and forwarding rules are looked at: an engine that restarts rewrites the firewall.
const REPAIR_INTERVAL: std::time::Duration = std::time::Duration::from_secs(5);

/// Settings of the pod network.
#[derive(Debug, Clone)]
pub struct NetworkConfig {
    /// The name of the bridge that holds the gateway address, at most 15 bytes.
    pub bridge: String,
    /// Where name spaces and records live, for this agent alone; must not outlive a boot. `/run/drover` in production.
    pub run_dir: PathBuf,
    /// Where `drover-runc` looks for containers: `/run/drover/containers`, which several agents on a host may share.
    pub links_dir: PathBuf,
    /// The addresses of this node's pods (`node.spec.podCIDR`).
    pub pod_cidr: Cidr,
    /// The addresses of the pods of all nodes.
    pub cluster_cidr: Cidr,
    /// The addresses of Services.
    pub service_cidr: Cidr,
    /// The engine's name for the wrapper runtime.
    pub runtime: String,
}

/// Why the network could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The records could not be read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The bridge could not be set up.
    #[error(transparent)]
    Bridge(#[from] BridgeError),
    /// The forwarding rules could not be set.
    #[error(transparent)]
    Forwarding(#[from] ForwardingError),
    /// The engine's network could not be set up (bridge mode).
    #[error(transparent)]
    EngineNetwork(#[from] EngineNetworkError),
    /// The holder's image could not be made (bridge mode).
    #[error(transparent)]
    Image(#[from] ImageError),
    /// Holders could not be listed or removed (bridge mode).
    #[error(transparent)]
    Holder(#[from] HolderError),
    /// No netlink socket could be had.
    #[error("cannot open a netlink socket")]
    Netlink(#[source] io::Error),
}

/// Gives pods their name spaces. One per host and run directory.
#[derive(Debug)]
pub struct HostNetwork {
    config: NetworkConfig,
    netlink: Netlink,
    bridge: Bridge,
    pods: Pods,
}

/// A failed step for one pod.
#[derive(Debug, thiserror::Error)]
enum PodError {
    #[error(transparent)]
    Address(#[from] ReserveError),
    #[error("link {0} belongs to something else")]
    Foreign(String),
    #[error("the pod has no name space")]
    Missing,
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error(transparent)]
    Bridge(#[from] BridgeError),
    #[error(transparent)]
    Netns(#[from] NetnsError),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("cannot use {}", .0.display())]
    File(PathBuf, #[source] io::Error),
}

impl HostNetwork {
    /// Sets up the bridge and the forwarding rules and takes over what an earlier agent left.
    ///
    /// # Errors
    /// One variant of [`StartError`] for each step; the host needs root, `iptables` and a writable run directory.
    pub async fn start(config: NetworkConfig, clock: Clock) -> Result<Self, StartError> {
        let pods = Pods::load(&config.run_dir, config.pod_cidr, clock)?;
        for path in [config.run_dir.join("netns"), config.links_dir.clone()] {
            fs::create_dir_all(&path).map_err(|source| RecordError::File { path, source })?;
        }
        let netlink = Netlink::open().map_err(StartError::Netlink)?;
        let bridge = bridge::ensure(&netlink, &config.bridge, config.pod_cidr, config.service_cidr).await?;
        forwarding::ensure(config.pod_cidr, config.cluster_cidr).await?;
        Ok(Self { config, netlink, bridge, pods })
    }

    /// The address of the bridge: default gateway and name server of the pods.
    pub fn gateway(&self) -> Ipv4Addr {
        self.config.pod_cidr.gateway()
    }

    /// The host ports that pods have asked for, for the service proxy.
    pub fn host_ports(&self) -> watch::Receiver<PodHostPorts> {
        self.pods.host_ports()
    }

    /// Repairs bridge and forwarding rules at intervals until `stop`.
    pub async fn maintain(&self, stop: CancellationToken) {
        let mut last_failure = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(REPAIR_INTERVAL) => {}
            }
            let failure = self.repair().await.err().map(|error| error.to_string());
            if failure != last_failure
                && let Some(message) = &failure
            {
                tracing::warn!(network.bridge = self.config.bridge, "pod network cannot be repaired: {message}");
            }
            last_failure = failure;
        }
    }

    /// Removes bridge and forwarding rules: the end of an uninstall, when no pod is left.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn uninstall(self) -> Result<(), StartError> {
        forwarding::remove(self.config.pod_cidr, self.config.cluster_cidr).await?;
        let failed = |source| BridgeError::Link { bridge: self.config.bridge.clone(), source };
        self.sweep().await.map_err(failed)?;
        self.netlink.remove(self.bridge.index).await.map_err(failed)?;
        Ok(())
    }

    async fn repair(&self) -> Result<(), StartError> {
        bridge::ensure(&self.netlink, &self.config.bridge, self.config.pod_cidr, self.config.service_cidr).await?;
        forwarding::ensure(self.config.pod_cidr, self.config.cluster_cidr).await?;
        self.sweep().await.map_err(|source| BridgeError::Link { bridge: self.config.bridge.clone(), source })?;
        Ok(())
    }

    async fn sweep(&self) -> Result<(), LinkError> {
        pod_link::sweep(&self.netlink, &self.config.bridge, &self.pods.uids()).await
    }

    async fn ensure_pod(&self, request: &SandboxRequest) -> Result<Sandbox, PodError> {
        let _serial = self.pods.serialise(&request.pod).await;
        let address = self.pods.reserve(request)?;
        let path = self.netns_path(&request.pod);
        let inside = netns::ensure(path.clone(), Netlink::open).await?;
        let name = pod_link::link_name(&self.config.bridge, &request.pod);
        let namespace = File::open(&path).map_err(|error| PodError::File(path.clone(), error))?;
        let veth = Veth { host_name: &name, mtu: self.bridge.mtu, address, namespace: namespace.as_fd() };
        let fresh = self.netlink.create_veth(&veth).await?;
        if !inside.has_pod_link().await? && !fresh {
            // The link of an earlier name space of this pod: its other end is gone or about to go.
            self.remove_link(&name).await?;
            self.netlink.create_veth(&veth).await?;
        }
        // Settings come before the link does: changed later they would wait for the kernel's other processors.
        bridge::write_link_settings(&name)?;
        self.netlink
            .route_to_pod(&veth, self.gateway(), &pod_link::alias(&self.config.bridge, request.pod.as_str()))
            .await?;
        if !inside.configure_pod(address, self.gateway()).await? {
            return Err(PodError::Foreign(name));
        }
        Ok(self.sandbox(address, path))
    }

    async fn remove_pod(&self, pod: &PodUid) -> Result<(), PodError> {
        let _serial = self.pods.serialise(pod).await;
        if self.pods.record(pod).is_none() {
            return Ok(());
        }
        // The link goes with its name space, many at once in the kernel's background; asked for one by one each would
        // hold the kernel's network lock for tens of milliseconds. What stays behind is swept up in `repair`.
        netns::remove(&self.netns_path(pod))?;
        Ok(self.pods.release(pod)?)
    }

    async fn remove_link(&self, name: &str) -> Result<(), PodError> {
        match self.netlink.find(name).await? {
            Some(link) => Ok(self.netlink.remove(link.index).await?),
            None => Ok(()),
        }
    }

    fn link(&self, container: &ContainerId, pod: &PodUid) -> Result<(), PodError> {
        let netns = self.netns_path(pod);
        if !netns::exists(&netns) {
            return Err(PodError::Missing);
        }
        let path = self.container_path(container);
        if fs::read_link(&path).is_ok_and(|present| present == netns) {
            return Ok(());
        }
        remove_file(&path)?;
        symlink(&netns, &path).map_err(|error| PodError::File(path, error))
    }

    fn sandbox(&self, address: Ipv4Addr, netns: PathBuf) -> Sandbox {
        let runtime = Some(self.config.runtime.clone());
        let engine = EngineNetworking { network_mode: "host".to_owned(), runtime, ipv4: None };
        Sandbox { address, netns, nameserver: Some(self.gateway()), engine }
    }

    fn netns_path(&self, pod: &PodUid) -> PathBuf {
        self.config.run_dir.join("netns").join(pod.as_str())
    }

    fn container_path(&self, container: &ContainerId) -> PathBuf {
        self.config.links_dir.join(container.as_str())
    }
}

#[async_trait]
impl PodNetwork for HostNetwork {
    async fn ensure(&self, request: &SandboxRequest) -> Result<Sandbox, NetworkError> {
        self.ensure_pod(request).await.map_err(|error| explain(&error))
    }

    async fn link_container(&self, container: &ContainerId, pod: &PodUid) -> Result<(), NetworkError> {
        self.link(container, pod).map_err(|error| explain(&error))
    }

    async fn unlink_container(&self, container: &ContainerId) -> Result<(), NetworkError> {
        remove_file(&self.container_path(container)).map_err(|error| explain(&error))
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
        NetworkMode::Wrapper
    }
}

/// The error and its causes as one sentence.
pub(super) fn explain(error: &dyn std::error::Error) -> NetworkError {
    NetworkError { message: with_causes(error) }
}
