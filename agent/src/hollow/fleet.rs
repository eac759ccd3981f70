//! Many hollow nodes in one process, over real connections to any Kubernetes API server.

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

use kube::Client;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Capacity, HollowConfig, HollowState, RoutesFrom, connections::Connections, run};
use crate::{chance::Chance, clock::Clock, engine::fake::Behaviour, network::Cidr};

/// Between two tries to reach the server at the start.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// The nodes' addresses begin here: the range that RFC 2544 keeps for benchmarks, which no host has.
const FIRST_ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// Pods of the n-th node get the n-th share of 10.128.0.0/9 where nobody gives the node any: a /22, as Drover's controllers
/// would.
const POD_PREFIX: u8 = 22;

/// Settings of a fleet.
#[derive(Debug, Clone)]
pub struct FleetConfig {
    /// The server and the credentials.
    pub server: kube::Config,
    /// How many nodes.
    pub nodes: usize,
    /// Nodes are named after it: `<prefix>-0`, `<prefix>-1`, …
    pub name_prefix: String,
    /// Labels of every Node.
    pub labels: BTreeMap<String, String>,
    /// What every node offers.
    pub capacity: Capacity,
    /// How long the engine takes to start a container.
    pub start_latency: Duration,
    /// Images that are on every node from the start; any other is pulled at once.
    pub images: Vec<String>,
    /// Whether each node acts as its own identity `system:node:<name>`, which the credentials must be allowed to
    /// impersonate; else all act as the credentials' user.
    pub impersonate: bool,
}

/// Why a fleet cannot run.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// The credentials, or a node's name, are unusable.
    #[error("the connection to the server cannot be prepared")]
    Connection(#[source] kube::Error),
    /// The server's answers say that the credentials are not good.
    #[error("the server refuses the credentials")]
    Refused(#[source] kube::Error),
    /// A node's agent could not run.
    #[error(transparent)]
    Agent(#[from] crate::Error),
    /// A node's agent panicked.
    #[error("a node's agent panicked")]
    Panicked(#[source] tokio::task::JoinError),
}

/// Runs the fleet until `shutdown`. Its Nodes stay, and count as lost once their leases run out.
///
/// # Errors
/// A [`FleetError`]. A server that does not answer is waited for.
pub async fn run_fleet(config: FleetConfig, shutdown: CancellationToken) -> Result<(), FleetError> {
    let connections = Connections::new(config.server.clone(), config.nodes).map_err(FleetError::Connection)?;
    let probe = connections.client(0, None).map_err(FleetError::Connection)?;
    // Cancel-safe: only reads.
    let publishes = tokio::select! {
        () = shutdown.cancelled() => return Ok(()),
        publishes = publishes_routes(&probe) => publishes?,
    };
    if !publishes {
        tracing::info!("not Drover's API server: nobody acknowledges routes, so pods are ready with their containers");
    }
    let mut agents = JoinSet::new();
    for index in 0..config.nodes {
        let node = node(&config, &connections, index, publishes).map_err(FleetError::Connection)?;
        agents.spawn(run(node, shutdown.clone()));
    }
    tracing::info!(nodes = config.nodes, "hollow nodes run");
    while let Some(ended) = agents.join_next().await {
        ended.map_err(FleetError::Panicked)??;
    }
    Ok(())
}

/// Whether the server's controllers publish acknowledged revisions: Drover's do, and it says so in its version.
async fn publishes_routes(client: &Client) -> Result<bool, FleetError> {
    loop {
        match client.apiserver_version().await {
            Ok(version) => return Ok(version.git_version.contains("drover")),
            Err(kube::Error::Api(status)) if matches!(status.code, 401 | 403) => {
                return Err(FleetError::Refused(kube::Error::Api(status)));
            }
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "waiting for the API server");
                tokio::time::sleep(RETRY_AFTER).await;
            }
        }
    }
}

fn node(
    config: &FleetConfig,
    connections: &Connections,
    index: usize,
    publishes_routes: bool,
) -> Result<HollowConfig, kube::Error> {
    let node_name = format!("{}-{index}", config.name_prefix);
    let identity = config.impersonate.then(|| format!("system:node:{node_name}"));
    let (clock, chance) = (Clock::System, Chance::System);
    let mut state = HollowState::new(&clock, &chance, config.capacity);
    // Nobody looks at the tables of Services, and records of calls would grow for ever.
    state.table = None;
    state.engine = state.engine.without_records();
    state.engine.set_start_latency(config.start_latency);
    for image in &config.images {
        state.engine.add_image(image, Behaviour::default());
    }
    let pods = Ipv4Addr::new(10, 128, 0, 0);
    let routes = match publishes_routes {
        true => RoutesFrom::Controllers,
        false => RoutesFrom::Nobody { pod_cidr: share(pods, POD_PREFIX, index) },
    };
    let offset = u32::try_from(index).unwrap_or(u32::MAX);
    Ok(HollowConfig {
        client: connections.client(index, identity.as_deref())?,
        node_name,
        address: Some(Ipv4Addr::from_bits(FIRST_ADDRESS.to_bits().wrapping_add(offset)).into()),
        labels: config.labels.clone(),
        cluster_name: config.name_prefix.clone(),
        state,
        clock,
        chance,
        cluster_cidr: share(pods, 9, 0),
        service_cidr: share(Ipv4Addr::new(10, 96, 0, 0), 16, 0),
        routes,
    })
}

/// The n-th network of a length, counted from an address.
fn share(first: Ipv4Addr, prefix: u8, index: usize) -> Cidr {
    let size = 1u32 << (32 - u32::from(prefix.clamp(1, 32)));
    let offset = u32::try_from(index).unwrap_or(0).wrapping_mul(size);
    let address = Ipv4Addr::from_bits(first.to_bits().wrapping_add(offset));
    Cidr::new(address, prefix).expect("the prefix is a constant below 33")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_has_addresses_of_its_own() {
        let first = Ipv4Addr::new(10, 128, 0, 0);
        assert_eq!(share(first, 22, 0).to_string(), "10.128.0.0/22");
        assert_eq!(share(first, 22, 100).to_string(), "10.129.144.0/22");
        assert_eq!(share(first, 9, 0).to_string(), "10.128.0.0/9");
    }
}
