//! Hollow nodes: whole node agents without a host, for simulations and for fleets larger than the machine.
//!
//! [`run`] runs the shipping agent (pods, informers, Node and heartbeat, status, events, environments, volumes, the
//! proxy's tables) over a client that is passed in, with an engine, a network and a disk in memory. It opens no file, makes no thread,
//! reads no clock and draws no chance but those it is given, so it repeats under tokio's paused time. Dropping the future of
//! [`run`] kills the agent; running it again on the same [`HollowState`] is its next start. Streams (logs, exec) are not
//! served. [`run_fleet`] runs many such nodes over a few connections.

mod connections;
mod fleet;
mod host;
mod proxy;
mod state;

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use kube::Client;
use tokio_util::sync::CancellationToken;

pub use fleet::{FleetConfig, FleetError, run_fleet};
pub use proxy::{AppliedTable, ProxyTable};
pub use state::{Capacity, HollowFacts, HollowState};

use self::host::HollowHost;
use crate::{
    Error,
    chance::Chance,
    clock::Clock,
    config::Owner,
    ledger::Ledger,
    network::Cidr,
    node::NodeIdentity,
    run::{Base, NodeClient, run_agent},
};

/// Settings of a hollow node.
#[derive(Clone)]
pub struct HollowConfig {
    /// The API, as this node's identity.
    pub client: Client,
    /// The Node's name.
    pub node_name: String,
    /// The node's address.
    pub address: Option<IpAddr>,
    /// Labels of the Node beside the usual ones.
    pub labels: BTreeMap<String, String>,
    /// The cluster's name, which all containers carry.
    pub cluster_name: String,
    /// What outlives the agent.
    pub state: HollowState,
    /// The node's clock.
    pub clock: Clock,
    /// The agent's randomness.
    pub chance: Chance,
    /// The addresses of all pods.
    pub cluster_cidr: Cidr,
    /// The addresses of Services.
    pub service_cidr: Cidr,
    /// Who says when Services route to a pod.
    pub routes: RoutesFrom,
}

/// Who says when Services route to a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoutesFrom {
    /// Drover's controllers: they publish which revision every proxy has acknowledged, and a pod waits for it.
    Controllers,
    /// Nobody: on a Kubernetes control plane without Drover's controllers every pod counts as routed at once. The node
    /// takes its pods' addresses from here when its Node has no podCIDR.
    Nobody {
        /// Addresses for pods.
        pod_cidr: Cidr,
    },
}

impl std::fmt::Debug for HollowConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HollowConfig").field("node_name", &self.node_name).finish_non_exhaustive()
    }
}

/// Runs a hollow node until `shutdown`. Dropping the future ends everything that it began, as `kill -9` does.
///
/// # Errors
/// Never at present: what is missing is waited for.
pub async fn run(config: HollowConfig, shutdown: CancellationToken) -> Result<(), Error> {
    let alive = shutdown.child_token();
    let _killed = alive.clone().drop_guard();
    let owner = Owner { cluster: config.cluster_name.clone(), node: config.node_name.clone() };
    let ledger = Ledger::in_memory(&config.state.disk, owner.clone(), &config.chance);
    let identity =
        NodeIdentity { name: config.node_name.clone(), address: config.address, labels: config.labels.clone() };
    let base = Base {
        client: NodeClient(config.client.clone()),
        identity,
        owner,
        clock: config.clock.clone(),
        chance: config.chance.clone(),
        engine: Arc::new(config.state.engine.clone()),
        ledger,
    };
    run_agent(base, &HollowHost { config }, alive).await
}
