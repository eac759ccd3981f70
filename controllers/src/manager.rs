//! Starts the chosen controllers on one set of caches and stops them together.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::FutureExt;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::leader::{self, Election};
use crate::node::cidr::Range;
use crate::runtime::{Cluster, Controller, Environment, Recorder, WorkQueue, runner};
use crate::scheduler::{self, Strategy};

/// What the controllers need to know besides what the API tells them.
#[derive(Debug, Clone)]
pub struct Config {
    /// Names of the controllers to run, out of [`names`].
    pub enabled: BTreeSet<String>,
    /// The range out of which nodes get their pod addresses, for example `10.128.0.0/9`.
    pub cluster_cidr: String,
    /// Prefix length of one node's share, for example 22.
    pub node_prefix_len: u8,
    /// The cluster's CA certificates in PEM, published in every namespace.
    pub ca_pem: String,
    /// How the scheduler chooses among the nodes that fit, where a pod does not say.
    pub placement: Strategy,
    /// Time and randomness.
    pub environment: Environment,
    /// How the controllers agree with those of other servers who runs; `None` where there can be no others.
    pub election: Option<Election>,
}

impl Config {
    /// Enables every controller, with the default address plan and the machine's clock.
    pub fn all() -> Self {
        Self {
            enabled: names().map(ToOwned::to_owned).collect(),
            cluster_cidr: "10.128.0.0/9".to_owned(),
            node_prefix_len: 22,
            ca_pem: String::new(),
            placement: Strategy::default(),
            environment: Environment::system(),
            election: None,
        }
    }
}

/// A configuration that cannot work.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A controller of that name does not exist.
    #[error("there is no controller named {name:?}; there are {known}")]
    UnknownController {
        /// The name given.
        name: String,
        /// The names there are.
        known: String,
    },
    /// The cluster's address range cannot be divided among nodes.
    #[error("cluster range {cidr} cannot be divided into /{node_prefix_len} shares")]
    ClusterCidr {
        /// The range given.
        cidr: String,
        /// The size of a share given.
        node_prefix_len: u8,
    },
}

/// What a controller is built from.
#[derive(Debug, Clone)]
pub struct Context {
    /// Caches, requests, events.
    pub cluster: Cluster,
    /// The configuration.
    pub config: Arc<Config>,
}

/// One line of the table of controllers.
struct Entry {
    name: &'static str,
    /// Passes side by side. Writers of many objects get more; allocators that must see their own writes get one.
    workers: usize,
    /// Builds the controller and registers its triggers.
    register: fn(&Context, &WorkQueue) -> Arc<dyn Controller>,
}

const CONTROLLERS: &[Entry] = &[
    Entry { name: "replicaset", workers: 16, register: crate::replicaset::register },
    Entry { name: "scheduler", workers: 64, register: scheduler::register },
    Entry { name: "deployment", workers: 16, register: crate::deployment::register },
    Entry { name: "endpointslice", workers: 16, register: crate::endpoints::register_slices },
    Entry { name: "endpoints", workers: 8, register: crate::endpoints::register_endpoints },
    Entry { name: "nodeipam", workers: 1, register: crate::node::ipam::register },
    Entry { name: "nodelifecycle", workers: 1, register: crate::node::lifecycle::register },
    Entry { name: "tainteviction", workers: 4, register: crate::node::eviction::register },
    Entry { name: "proxyack", workers: 1, register: crate::proxyack::register },
    Entry { name: "ingress", workers: 1, register: crate::ingress::register },
    Entry { name: "podgc", workers: 1, register: crate::podgc::register },
    Entry { name: "reschedule", workers: 1, register: crate::reschedule::register },
    Entry { name: "serviceaccount", workers: 4, register: crate::serviceaccount::register_accounts },
    Entry { name: "rootca", workers: 4, register: crate::serviceaccount::register_root_ca },
    Entry { name: "disruption", workers: 4, register: crate::disruption::register },
    Entry { name: "namespace", workers: 4, register: crate::namespace::register },
    Entry { name: "garbagecollector", workers: 8, register: crate::garbage::register },
    Entry { name: "persistentvolume", workers: 16, register: crate::volumes::register },
];

/// Returns the names of all controllers.
pub fn names() -> impl Iterator<Item = &'static str> {
    CONTROLLERS.iter().map(|entry| entry.name)
}

/// Runs the enabled controllers until `shutdown`, while this process leads; returns when all have ended.
///
/// # Errors
/// [`ConfigError`] before anything has started.
pub async fn run(client: kube::Client, config: Config, shutdown: CancellationToken) -> Result<(), ConfigError> {
    check(&config)?;
    match config.election.clone() {
        None => run_term(client, config, shutdown).await,
        Some(election) => {
            let environment = config.environment.clone();
            let term: leader::Term = Box::new(move |client, stop| run_term(client, config.clone(), stop).boxed());
            leader::run(client, election, environment, term, shutdown).await;
        }
    }
    Ok(())
}

/// Runs the enabled controllers on caches of their own until `shutdown`.
async fn run_term(client: kube::Client, config: Config, shutdown: CancellationToken) {
    let mut tasks = JoinSet::new();
    let environment = config.environment.clone();
    let (recorder, recording) = Recorder::new(client.clone(), environment.clone(), shutdown.clone());
    tasks.spawn(recording);
    let cluster = Cluster::new(client, environment.clone(), recorder);
    let context = Context { cluster: cluster.clone(), config: Arc::new(config) };
    let mut ready = Vec::new();
    for entry in CONTROLLERS.iter().filter(|entry| context.config.enabled.contains(entry.name)) {
        let queue = WorkQueue::new(environment.clone());
        // Triggers are registered before the first list, so that no change is missed.
        let controller = (entry.register)(&context, &queue);
        ready.push((controller, queue, entry.workers));
    }
    cluster.start(&mut tasks, &shutdown).await;
    for (controller, queue, workers) in ready {
        let (environment, lists) = (environment.clone(), cluster.lists());
        tasks.spawn(runner::run(controller, queue, workers, environment, lists, shutdown.clone()));
    }
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            // Passes catch their own panics; a task of the machinery itself that dies must take the rest along,
            // so that whoever supervises the process sees it.
            tracing::error!(%error, "a controller task ended unexpectedly");
            shutdown.cancel();
        }
    }
}

fn check(config: &Config) -> Result<(), ConfigError> {
    if let Some(name) = config.enabled.iter().find(|name| !names().any(|known| known == *name)) {
        return Err(ConfigError::UnknownController {
            name: name.clone(),
            known: names().collect::<Vec<_>>().join(", "),
        });
    }
    let shares = Range::parse(&config.cluster_cidr).map_or(0, |range| range.shares(config.node_prefix_len));
    if shares == 0 {
        let (cidr, node_prefix_len) = (config.cluster_cidr.clone(), config.node_prefix_len);
        return Err(ConfigError::ClusterCidr { cidr, node_prefix_len });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_that_cannot_work_is_refused_before_anything_starts() {
        assert!(check(&Config::all()).is_ok());
        let unknown = Config { enabled: ["nosuch".to_owned()].into(), ..Config::all() };
        assert!(matches!(check(&unknown), Err(ConfigError::UnknownController { name, .. }) if name == "nosuch"));
        let narrow = Config { cluster_cidr: "10.0.0.0/24".to_owned(), ..Config::all() };
        assert!(matches!(check(&narrow), Err(ConfigError::ClusterCidr { .. })));
    }
}
