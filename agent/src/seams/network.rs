//! The pod network as the life cycle sees it.

use std::{collections::BTreeSet, fmt, io, net::Ipv4Addr, path::PathBuf};

use async_trait::async_trait;

use crate::ids::{ContainerId, PodUid};

/// Gives each pod a network name space with an address, which outlives its containers and the agent.
#[async_trait]
pub trait PodNetwork: Send + Sync + fmt::Debug {
    /// Makes the pod's name space, or returns the one it has already. Never called for hostNetwork pods.
    async fn ensure(&self, request: &SandboxRequest) -> Result<Sandbox, NetworkError>;

    /// Puts a created container that is not yet started into its pod's name space. Repeating it is harmless.
    async fn link_container(&self, container: &ContainerId, pod: &PodUid) -> Result<(), NetworkError>;

    /// Forgets a removed container. Unknown ids are fine.
    async fn unlink_container(&self, container: &ContainerId) -> Result<(), NetworkError>;

    /// Removes the pod's name space and frees its address. Unknown pods are fine.
    async fn remove(&self, pod: &PodUid) -> Result<(), NetworkError>;

    /// The pods that have a name space, whether made by this process or an earlier one.
    async fn list(&self) -> Result<Vec<PodUid>, NetworkError>;

    /// Counts the established connections to these ports of a pod.
    async fn connections(&self, sandbox: &Sandbox, ports: BTreeSet<u16>) -> io::Result<u32>;

    /// How containers are brought into the pod's name space on this node.
    fn mode(&self) -> NetworkMode;
}

/// What the network must know of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxRequest {
    /// The pod's uid.
    pub pod: PodUid,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// The host name inside the pod.
    pub hostname: String,
    /// Ports of the host that lead to the pod.
    pub host_ports: Vec<HostPort>,
}

/// One port of the host that leads to a container port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// The host address to bind; `None` means all.
    pub host_address: Option<Ipv4Addr>,
    /// The port on the host.
    pub host_port: u16,
    /// The port in the pod.
    pub container_port: u16,
    /// `TCP` or `UDP`.
    pub protocol: String,
}

/// A pod's name space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    /// The pod's address.
    pub address: Ipv4Addr,
    /// A path that holds the name space (a bind-mounted file or `/proc/<pid>/ns/net`).
    pub netns: PathBuf,
    /// The resolver that goes first into the pod's `resolv.conf`; `None` leaves the host's.
    pub nameserver: Option<Ipv4Addr>,
    /// How the engine must create the containers of this pod.
    pub engine: EngineNetworking,
}

/// The network part of a container's engine configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EngineNetworking {
    /// `HostConfig.NetworkMode`: `host`, a network name, or `container:<id>`.
    pub network_mode: String,
    /// `HostConfig.Runtime`; `None` is the engine's default.
    pub runtime: Option<String>,
    /// A fixed address on the named network.
    pub ipv4: Option<Ipv4Addr>,
}

impl EngineNetworking {
    /// Whether a container may be given a host name: one that joins another's network has that one's, and the engine
    /// refuses a second.
    pub fn takes_hostname(&self) -> bool {
        !self.network_mode.starts_with("container:")
    }
}

/// How this node brings containers into a pod's name space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkMode {
    /// `drover-runc` is registered as a runtime of the engine.
    Wrapper,
    /// The engine's bridge network with fixed addresses.
    Bridge,
}

impl NetworkMode {
    /// The value of the Node annotation `drover.dev/network-mode`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Wrapper => "wrapper",
            Self::Bridge => "bridge",
        }
    }
}

/// Why the network could not serve a pod. The life cycle retries with back-off and shows the text as an event.
#[derive(Debug, Clone, thiserror::Error)]
#[error("pod network: {message}")]
pub struct NetworkError {
    /// One sentence, shown to users.
    pub message: String,
}
