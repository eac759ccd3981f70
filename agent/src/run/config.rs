//! What the agent is told by its caller.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    sync::Arc,
};

use kube::Client;

use crate::{
    ledger::LedgerError,
    network::{Cidr, ModeChoice},
    seams::TunnelDialer,
};

/// Settings of the agent.
#[derive(Clone)]
pub struct Config {
    /// The API, as this node's identity.
    pub client: Client,
    /// The Node's name.
    pub node_name: String,
    /// The node's address; `None` finds the one of the default route.
    pub address: Option<IpAddr>,
    /// Labels of the Node beside the usual ones.
    pub labels: BTreeMap<String, String>,
    /// `unix:///var/run/docker.sock`.
    pub docker_endpoint: String,
    /// State that outlives the host's restart.
    pub data_dir: PathBuf,
    /// State that does not: `/run/drover`.
    pub run_dir: PathBuf,
    /// Where `drover-runc` looks for containers: `/run/drover/containers`, shared by all agents of a host.
    pub links_dir: PathBuf,
    /// The cluster's name, which all containers carry.
    pub cluster_name: String,
    /// How containers shall come into their pod's network.
    pub network_mode: ModeChoice,
    /// The bridge's name.
    pub bridge: String,
    /// The nftables table's name.
    pub table: String,
    /// The addresses of all pods.
    pub cluster_cidr: Cidr,
    /// The addresses of Services.
    pub service_cidr: Cidr,
    /// The `drover-runc` program, as shipped; it is installed from here.
    pub wrapper: PathBuf,
    /// Where it is installed: `/usr/local/lib/drover/drover-runc`.
    pub wrapper_target: PathBuf,
    /// The HAProxy program: `haproxy`.
    pub haproxy: PathBuf,
    /// Where it listens, on a node that serves Ingresses.
    pub ingress: IngressPorts,
    /// Called with the pods' gateway address once the pod network of this host is up.
    pub network_ready: Arc<dyn Fn(Ipv4Addr) + Send + Sync>,
    /// Opens tunnels to servers.
    pub tunnel: Arc<dyn TunnelDialer>,
}

/// Ports of a node that serves Ingresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IngressPorts {
    /// HTTP, on all addresses.
    pub http: u16,
    /// HTTPS, on all addresses.
    pub https: u16,
    /// HAProxy's own page and metrics, on the loopback address.
    pub stats: u16,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config").field("node_name", &self.node_name).field("data_dir", &self.data_dir).finish()
    }
}

/// Why the agent cannot run at all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The ledger cannot be used.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The directories of volumes cannot be used.
    #[error("cannot prepare the directories of volumes")]
    Volumes(#[source] std::io::Error),
}
