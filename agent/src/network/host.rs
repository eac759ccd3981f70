//! The pod network of this host, as the life cycle uses it.

use std::{
    collections::{BTreeMap, HashSet},
    fs::{self, File},
    io,
    net::Ipv4Addr,
    os::{fd::AsFd, unix::fs::symlink},
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    BridgeError, Cidr, ForwardingError, NetnsError, PodHostPorts, RecordError,
    address::AddressChooser,
    bridge::{self, Bridge},
    forwarding,
    link::{LinkError, Netlink, Veth},
    netns,
    records::{Record, Records, remove_file},
};
use crate::{
    clock::Clock,
    ids::{ContainerId, PodUid},
    seams::{EngineNetworking, NetworkError, NetworkMode, PodNetwork, Sandbox, SandboxRequest},
};

/// How often bridge and forwarding rules are looked at: an engine that restarts rewrites the firewall.
const REPAIR_INTERVAL: std::time::Duration = std::time::Duration::from_secs(5);

/// Host ends of pod links are named by this and twelve hexadecimal digits.
const LINK_PREFIX: &str = "dr";

/// Calls for one pod are serialised; this many groups of pods proceed independently.
const LOCKS: usize = 64;

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
    /// No netlink socket could be had.
    #[error("cannot open a netlink socket")]
    Netlink(#[source] io::Error),
}

/// Gives pods their name spaces. One per host and run directory.
#[derive(Debug)]
pub struct HostNetwork {
    config: NetworkConfig,
    clock: Clock,
    netlink: Netlink,
    bridge: Bridge,
    records: Records,
    state: Mutex<State>,
    locks: [tokio::sync::Mutex<()>; LOCKS],
    host_ports: watch::Sender<PodHostPorts>,
}

#[derive(Debug)]
struct State {
    pods: BTreeMap<PodUid, Record>,
    chooser: AddressChooser,
}

/// A failed step for one pod.
#[derive(Debug, thiserror::Error)]
enum PodError {
    #[error("no address of {0} is free")]
    Full(Cidr),
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
        let records = Records::open(&config.run_dir)?;
        for path in [config.run_dir.join("netns"), config.links_dir.clone()] {
            fs::create_dir_all(&path).map_err(|source| RecordError::File { path, source })?;
        }
        let pods = records.load()?;
        let newest = pods.values().map(|record| record.address).max();
        let chooser = AddressChooser::new(config.pod_cidr, records.load_released()?, newest);
        let netlink = Netlink::open().map_err(StartError::Netlink)?;
        let bridge = bridge::ensure(&netlink, &config.bridge, config.pod_cidr, config.service_cidr).await?;
        forwarding::ensure(config.pod_cidr).await?;
        let host_ports = watch::Sender::new(host_ports(&pods));
        let state = Mutex::new(State { pods, chooser });
        let locks = std::array::from_fn(|_| tokio::sync::Mutex::new(()));
        Ok(Self { config, clock, netlink, bridge, records, state, locks, host_ports })
    }

    /// The address of the bridge: default gateway and name server of the pods.
    pub fn gateway(&self) -> Ipv4Addr {
        self.config.pod_cidr.gateway()
    }

    /// The host ports that pods have asked for, for the service proxy.
    pub fn host_ports(&self) -> watch::Receiver<PodHostPorts> {
        self.host_ports.subscribe()
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
        forwarding::remove(self.config.pod_cidr).await?;
        let failed = |source| BridgeError::Link { bridge: self.config.bridge.clone(), source };
        self.sweep().await.map_err(failed)?;
        self.netlink.remove(self.bridge.index).await.map_err(failed)?;
        Ok(())
    }

    async fn repair(&self) -> Result<(), StartError> {
        bridge::ensure(&self.netlink, &self.config.bridge, self.config.pod_cidr, self.config.service_cidr).await?;
        forwarding::ensure(self.config.pod_cidr).await?;
        self.sweep().await.map_err(|source| BridgeError::Link { bridge: self.config.bridge.clone(), source })?;
        Ok(())
    }

    /// Removes links that name this network as their owner but belong to no record: those of pods that are gone, whose
    /// name space something still holds. Others are left alone.
    async fn sweep(&self) -> Result<(), LinkError> {
        let links = self.netlink.aliased().await?;
        let known: HashSet<String> = self.lock().pods.keys().map(|pod| self.link_name(pod)).collect();
        let owner = self.alias("");
        for (name, link) in links {
            let ours = link.alias.is_some_and(|alias| alias.starts_with(&owner)) && is_pod_link(&name);
            if ours && !known.contains(&name) {
                self.netlink.remove(link.index).await?;
            }
        }
        Ok(())
    }

    async fn ensure_pod(&self, request: &SandboxRequest) -> Result<Sandbox, PodError> {
        let _serial = self.lock_pod(&request.pod).await;
        let address = self.reserve(request)?;
        let path = self.netns_path(&request.pod);
        let inside = netns::ensure(path.clone(), Netlink::open).await?;
        let name = self.link_name(&request.pod);
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
        self.netlink.route_to_pod(&veth, self.gateway(), &self.alias(request.pod.as_str())).await?;
        if !inside.configure_pod(address, self.gateway()).await? {
            return Err(PodError::Foreign(name));
        }
        Ok(self.sandbox(address, path))
    }

    async fn remove_pod(&self, pod: &PodUid) -> Result<(), PodError> {
        let _serial = self.lock_pod(pod).await;
        let Some(record) = self.lock().pods.get(pod).cloned() else { return Ok(()) };
        // The link goes with its name space, many at once in the kernel's background; asked for one by one each would
        // hold the kernel's network lock for tens of milliseconds. What stays behind is swept up in `repair`.
        netns::remove(&self.netns_path(pod))?;
        let now = self.clock.now();
        self.records.remove(pod, record.address, now)?;
        let mut state = self.lock();
        state.pods.remove(pod);
        state.chooser.release(record.address, now);
        self.publish(&state);
        Ok(())
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

    /// The pod's address: the one in its record, else a new one with a new record.
    fn reserve(&self, request: &SandboxRequest) -> Result<Ipv4Addr, PodError> {
        let mut state = self.lock();
        let present = state.pods.get(&request.pod);
        if let Some(record) = present.filter(|record| record.host_ports == request.host_ports) {
            return Ok(record.address);
        }
        let address = match present {
            Some(record) => record.address,
            None => {
                let taken: HashSet<Ipv4Addr> = state.pods.values().map(|record| record.address).collect();
                let chosen = state.chooser.choose(&taken, self.clock.now());
                chosen.ok_or(PodError::Full(self.config.pod_cidr))?
            }
        };
        let record = Record { address, host_ports: request.host_ports.clone() };
        self.records.write(&request.pod, &record)?;
        state.pods.insert(request.pod.clone(), record);
        self.publish(&state);
        Ok(address)
    }

    fn publish(&self, state: &State) {
        let wanted = host_ports(&state.pods);
        self.host_ports.send_if_modified(|present| {
            let changed = *present != wanted;
            *present = wanted;
            changed
        });
    }

    fn sandbox(&self, address: Ipv4Addr, netns: PathBuf) -> Sandbox {
        let runtime = Some(self.config.runtime.clone());
        let engine = EngineNetworking { network_mode: "host".to_owned(), runtime, ipv4: None };
        Sandbox { address, netns, nameserver: Some(self.gateway()), engine }
    }

    /// The host's end of a pod's link. Bridges differ in name, so two networks on a host never meet.
    fn link_name(&self, pod: &PodUid) -> String {
        let digest = Sha256::digest(self.alias(pod.as_str()));
        let hexadecimal = digest.iter().take(6).map(|byte| format!("{byte:02x}"));
        format!("{LINK_PREFIX}{}", hexadecimal.collect::<String>())
    }

    /// Says whose a link is, to us and to whoever reads `ip link`.
    fn alias(&self, pod: &str) -> String {
        format!("{}/{pod}", self.config.bridge)
    }

    fn netns_path(&self, pod: &PodUid) -> PathBuf {
        self.config.run_dir.join("netns").join(pod.as_str())
    }

    fn container_path(&self, container: &ContainerId) -> PathBuf {
        self.config.links_dir.join(container.as_str())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn lock_pod(&self, pod: &PodUid) -> tokio::sync::MutexGuard<'_, ()> {
        let group = usize::from(Sha256::digest(pod.as_str())[0]) % LOCKS;
        self.locks[group].lock().await
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
        Ok(self.lock().pods.keys().cloned().collect())
    }

    fn mode(&self) -> NetworkMode {
        NetworkMode::Wrapper
    }
}

fn is_pod_link(name: &str) -> bool {
    let digest = name.strip_prefix(LINK_PREFIX);
    digest.is_some_and(|digest| digest.len() == 12 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn host_ports(pods: &BTreeMap<PodUid, Record>) -> PodHostPorts {
    let with_ports = pods.iter().filter(|(_, record)| !record.host_ports.is_empty());
    with_ports.map(|(uid, record)| (uid.clone(), (record.address, record.host_ports.clone()))).collect()
}

/// The error and its causes as one sentence.
fn explain(error: &dyn std::error::Error) -> NetworkError {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        message = format!("{message}: {inner}");
        cause = inner.source();
    }
    NetworkError { message }
}
