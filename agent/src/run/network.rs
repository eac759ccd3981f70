//! Starts the network parts: wrapper runtime, bridge, service proxy, DNS. Each is tried until it works; the Node says
//! what is missing.

use std::{collections::BTreeSet, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use drover_api::ingress::NODE_ROLE;
use futures::{Stream, StreamExt as _, stream};
use k8s_openapi::api::core::v1::Node;
use kube::{Api, runtime::watcher};
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::CancellationToken;

use super::{Config, Informers, NetworkState};
use crate::{
    causes::with_causes,
    chance::Chance,
    clock::Clock,
    config::Owner,
    dns::{self, DnsConfig, DnsInput},
    engine::{DockerEngine, Engine},
    ingress::{self, IngressConfig},
    ledger::Ledger,
    neighbours::{self, Heard, NeighboursConfig, doubted},
    network::{
        BridgeNetwork, Cidr, EngineAccess, HostNetwork, ModeChoice, NetworkConfig, NodeNetwork, PodHostPorts,
        RuntimeConfig,
        fabric::{self, FabricConfig, Own},
        mode_of_pods, record_mode, register, remove_bridge_mode, settle,
    },
    node::announce_network,
    proxy::{self, ProxyConfig, ProxyInput},
    seams::{NetworkMode, PodNetwork},
    source::Informer,
    uninstall::{NetworkRecord, write_record},
};

/// The runtime's name in the engine.
const RUNTIME: &str = "drover";
const DNS_PORT: u16 = 53;
/// Between two tries of a part that does not start.
const RETRY_AFTER: Duration = Duration::from_secs(2);

pub(super) struct NetworkParts<'a> {
    pub(super) config: &'a Config,
    pub(super) docker: &'a Arc<DockerEngine>,
    pub(super) owner: &'a Owner,
    pub(super) ledger: &'a Ledger,
    pub(super) clock: &'a Clock,
    pub(super) pod_cidr: Cidr,
}

impl NetworkParts<'_> {
    pub(super) async fn start(
        &self,
        informers: &Informers,
        state: NetworkState,
        shutdown: &CancellationToken,
    ) -> Arc<dyn PodNetwork> {
        let NetworkState { applied, trouble, heard, suspects } = state;
        let trouble = &trouble;
        let (mode, reason) = until_ok(trouble, || self.choose_mode()).await;
        self.announce(mode, reason.as_deref()).await;
        let network = until_ok(trouble, || self.start_network(mode)).await;
        (self.config.network_ready)(network.gateway());
        let maintained = network.clone();
        let stop = shutdown.clone();
        tokio::spawn(async move { maintained.maintain(stop).await });
        let others = Others { heard: heard.subscribe(), suspects, own: self.config.node_name.clone() };
        let nodes = self.follow_nodes(heard, shutdown);
        let translated = self.start_proxy(informers, network.host_ports(), others.clone(), shutdown);
        let served = self.start_ingress(informers, nodes.clone(), others, shutdown);
        tokio::spawn(acknowledge(translated, served, applied, shutdown.clone()));
        let server = until_ok(trouble, || self.bind_dns(&network)).await;
        let (input_tx, input_rx) = watch::channel(None);
        feed(informers, changes(&nodes), shutdown, move |informers| {
            let nodes = nodes.borrow().clone().unwrap_or_default();
            let input = DnsInput { services: informers.services.list(), slices: informers.slices.list(), nodes };
            input_tx.send_replace(Some(input));
        });
        tokio::spawn(server.run(input_rx, shutdown.clone()));
        network.into_pod_network()
    }

    async fn register_runtime(&self) -> Result<(), String> {
        let config = RuntimeConfig {
            name: RUNTIME.to_owned(),
            source: self.config.wrapper.clone(),
            program: self.config.wrapper_target.clone(),
            socket: PathBuf::from(self.config.docker_endpoint.trim_start_matches("unix://")),
        };
        let docker = self.docker.connection().await.map_err(|error| error.to_string())?;
        register(&config, &docker).await.map(drop).map_err(|error| with_causes(&error))
    }

    /// The mode, and why it is not the wrapper. With pods of wrapper mode on the host there is no falling back.
    async fn choose_mode(&self) -> Result<(NetworkMode, Option<String>), String> {
        let of_pods = mode_of_pods(&self.config.run_dir).map_err(|error| with_causes(&error))?;
        let choice = settle(self.config.network_mode, of_pods);
        if choice != self.config.network_mode && self.config.network_mode != ModeChoice::Auto {
            tracing::warn!("network mode {} waits until this node has no pods", self.config.network_mode);
        }
        let (mode, reason) = match choice {
            ModeChoice::Bridge => (NetworkMode::Bridge, None),
            ModeChoice::Wrapper => self.register_runtime().await.map(|()| (NetworkMode::Wrapper, None))?,
            ModeChoice::Auto => match self.register_runtime_or_say_why().await? {
                None => (NetworkMode::Wrapper, None),
                Some(reason) => (NetworkMode::Bridge, Some(reason)),
            },
        };
        record_mode(&self.config.run_dir, mode).map_err(|error| with_causes(&error))?;
        Ok((mode, reason))
    }

    /// Why the wrapper cannot be registered, if so. An engine that is down or busy is no reason: it is waited for.
    async fn register_runtime_or_say_why(&self) -> Result<Option<String>, String> {
        let mut outcome = self.register_runtime().await;
        if outcome.is_err() {
            self.docker.ping().await.map_err(|error| error.to_string())?;
            outcome = self.register_runtime().await;
        }
        Ok(outcome.err())
    }

    /// Says on the Node which mode it is in, and why.
    async fn announce(&self, mode: NetworkMode, reason: Option<&str>) {
        if let Some(reason) = reason {
            tracing::warn!(reason, "the runtime wrapper cannot be registered: pods use the engine's bridge");
        }
        while let Err(error) =
            announce_network(&self.config.client, &self.config.node_name, mode.as_str(), reason).await
        {
            tracing::warn!(%error, "the network mode cannot be announced yet");
            tokio::time::sleep(RETRY_AFTER).await;
        }
    }

    async fn start_network(&self, mode: NetworkMode) -> Result<NodeNetwork, String> {
        let config = NetworkConfig {
            bridge: self.config.bridge.clone(),
            run_dir: self.config.run_dir.clone(),
            links_dir: self.config.links_dir.clone(),
            pod_cidr: self.pod_cidr,
            cluster_cidr: self.config.cluster_cidr,
            service_cidr: self.config.service_cidr,
            runtime: RUNTIME.to_owned(),
        };
        let record = NetworkRecord {
            pod_cidr: config.pod_cidr.to_string(),
            service_cidr: config.service_cidr.to_string(),
            cluster_cidr: Some(config.cluster_cidr.to_string()),
        };
        write_record(&self.config.data_dir, &record).map_err(|error| error.to_string())?;
        let docker = self.docker.connection().await.map_err(|error| error.to_string())?;
        let access = EngineAccess {
            engine: Arc::clone(self.docker) as Arc<dyn Engine>,
            docker,
            owner: self.owner.clone(),
            ledger: self.ledger.clone(),
        };
        let (clock, sentence) = (self.clock.clone(), |error| with_causes(&error));
        match mode {
            NetworkMode::Bridge => {
                let network = BridgeNetwork::start(config, access, clock).await.map_err(sentence)?;
                Ok(NodeNetwork::Bridge(Arc::new(network)))
            }
            NetworkMode::Wrapper => {
                remove_bridge_mode(&config, &access, clock.clone()).await.map_err(sentence)?;
                let network = HostNetwork::start(config, clock).await.map_err(sentence)?;
                Ok(NodeNetwork::Wrapper(Arc::new(network)))
            }
        }
    }

    /// Routes to the pods of the other nodes, as the Nodes come and go.
    fn follow_nodes(
        &self,
        heard: watch::Sender<Heard>,
        shutdown: &CancellationToken,
    ) -> watch::Receiver<Option<Vec<Arc<Node>>>> {
        let own = Own {
            node_name: self.config.node_name.clone(),
            pod_cidr: self.pod_cidr,
            cluster_cidr: self.config.cluster_cidr,
            service_cidr: self.config.service_cidr,
        };
        let secret = rand::random();
        let neighbours = NeighboursConfig { own: own.clone(), secret };
        let config =
            FabricConfig { own, cluster_name: self.config.cluster_name.clone(), bridge: self.config.bridge.clone() };
        let nodes: Api<Node> = Api::all(self.config.client.clone());
        let (nodes, _) = Informer::spawn(nodes, watcher::Config::default(), Chance::System, shutdown.clone());
        let (input_tx, input_rx) = watch::channel(None);
        let (input, stop) = (input_rx.clone(), shutdown.clone());
        tokio::spawn(async move {
            if let Err(error) = neighbours::run(neighbours, input, heard, stop).await {
                tracing::error!(%error, "other hosts cannot be asked whether they are there; only their agents' silence tells");
            }
        });
        let (input, stop) = (input_rx.clone(), shutdown.clone());
        tokio::spawn(async move {
            if let Err(error) = fabric::run(config, input, stop).await {
                tracing::error!(%error, "no routes to the pods of other nodes");
            }
        });
        let shutdown = shutdown.clone();
        tokio::spawn(async move {
            nodes.synced().await;
            let mut changes = nodes.subscribe();
            loop {
                input_tx.send_replace(Some(nodes.list()));
                // Cancel-safe: a watch and a token.
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    Ok(()) = changes.changed() => {}
                }
            }
        });
        input_rx
    }

    /// Serves Ingresses while this node is chosen for it. Returns the revision that HAProxy reflects, `None` where it asks
    /// for none.
    fn start_ingress(
        &self,
        informers: &Informers,
        nodes: watch::Receiver<Option<Vec<Arc<Node>>>>,
        others: Others,
        shutdown: &CancellationToken,
    ) -> watch::Receiver<Option<u64>> {
        let process = ingress::Process::new(self.config.haproxy.clone(), self.config.run_dir.join("ingress"));
        let config = IngressConfig { process, ports: self.config.ingress };
        let client = self.config.client.clone();
        // Until it is known whether anybody asks HAProxy, nobody may rely on its not being asked.
        let (served_tx, served_rx) = watch::channel(Some(0));
        let (chosen_tx, chosen_rx) = watch::channel(None);
        let (input_tx, input_rx) = watch::channel(None);
        let (state_tx, state_rx) = watch::channel(None);
        let name = self.config.node_name.clone();
        tokio::spawn(ingress::announce(client.clone(), name.clone(), state_rx, shutdown.clone()));
        tokio::spawn(ingress::run(config, chosen_rx.clone(), input_rx, served_tx, state_tx, shutdown.clone()));
        let sources =
            ingress::Sources { client, services: informers.services.clone(), slices: informers.slices.clone(), others };
        tokio::spawn(ingress::feed(sources, chosen_rx, input_tx, shutdown.clone()));
        tokio::spawn(follow_choice(nodes, name, chosen_tx, shutdown.clone()));
        served_rx
    }

    fn start_proxy(
        &self,
        informers: &Informers,
        host_ports: watch::Receiver<PodHostPorts>,
        others: Others,
        shutdown: &CancellationToken,
    ) -> watch::Receiver<u64> {
        let (applied_tx, applied_rx) = watch::channel(0);
        let config = ProxyConfig {
            table: self.config.table.clone(),
            node: self.config.node_name.clone(),
            pod_cidr: self.pod_cidr,
            cluster_cidr: self.config.cluster_cidr,
            service_cidr: self.config.service_cidr,
        };
        let input = feed_proxy(informers, host_ports, others, shutdown);
        tokio::spawn(proxy::run(config, input, applied_tx, shutdown.clone()));
        applied_rx
    }

    async fn bind_dns(&self, network: &NodeNetwork) -> Result<dns::Server, String> {
        let gateway = network.gateway();
        let file = tokio::fs::read_to_string("/etc/resolv.conf").await.unwrap_or_default();
        let config = DnsConfig {
            listen: SocketAddr::from((gateway, DNS_PORT)),
            clients: vec![self.config.cluster_cidr, self.pod_cidr],
            ranges: vec![self.config.cluster_cidr, self.config.service_cidr],
            resolvers: dns::resolvers(&file, gateway),
        };
        dns::Server::bind(config).await.map_err(|error| with_causes(&error))
    }
}

/// What a proxy works from, at every change of it.
pub(crate) fn feed_proxy(
    informers: &Informers,
    host_ports: watch::Receiver<PodHostPorts>,
    others: Others,
    shutdown: &CancellationToken,
) -> watch::Receiver<Option<ProxyInput>> {
    let (input_tx, input_rx) = watch::channel(None);
    feed(informers, stream::select(changes(&host_ports), others.changes()), shutdown, move |informers| {
        // The revision is read first: the objects are then at least that new.
        let revision = informers.slices.state().revision;
        let input = ProxyInput {
            services: informers.services.list(),
            slices: informers.slices.list(),
            host_ports: host_ports.borrow().clone(),
            doubted: others.doubted(),
            revision,
        };
        input_tx.send_replace(Some(input));
    });
    input_rx
}

/// Passes Services and slices on at every change of theirs and whenever `wake` says so, once both are complete.
fn feed(
    informers: &Informers,
    mut wake: impl Stream<Item = ()> + Unpin + Send + 'static,
    shutdown: &CancellationToken,
    send: impl Fn(&Informers) + Send + 'static,
) {
    let (informers, shutdown) = (informers.clone(), shutdown.clone());
    tokio::spawn(async move {
        informers.services.synced().await;
        informers.slices.synced().await;
        let (mut services, mut slices) = (informers.services.subscribe(), informers.slices.subscribe());
        loop {
            send(&informers);
            // Cancel-safe: watches and a token.
            tokio::select! {
                () = shutdown.cancelled() => return,
                Ok(()) = services.changed() => {}
                Ok(()) = slices.changed() => {}
                Some(()) = wake.next() => {}
            }
        }
    });
}

/// What is known of the hosts of other nodes.
#[derive(Clone)]
pub(crate) struct Others {
    /// What this node's own questions found.
    pub(crate) heard: watch::Receiver<Heard>,
    /// Whom the controllers doubt.
    pub(crate) suspects: watch::Receiver<BTreeSet<String>>,
    /// This node.
    pub(crate) own: String,
}

impl Others {
    /// The nodes to which nobody new is led where there is another.
    pub(crate) fn doubted(&self) -> BTreeSet<String> {
        doubted(&self.heard.borrow(), &self.suspects.borrow(), &self.own)
    }

    /// Says when [`Self::doubted`] may have changed.
    pub(crate) fn changes(&self) -> impl Stream<Item = ()> + Unpin + Send + 'static {
        stream::select(changes(&self.heard), changes(&self.suspects))
    }
}

/// Says whether this node is chosen to serve Ingresses, once it is known.
async fn follow_choice(
    mut nodes: watch::Receiver<Option<Vec<Arc<Node>>>>,
    own: String,
    chosen: watch::Sender<Option<bool>>,
    shutdown: CancellationToken,
) {
    loop {
        let is_own = |node: &&Arc<Node>| node.metadata.name.as_ref() == Some(&own);
        let now = nodes.borrow_and_update().as_ref().and_then(|nodes| {
            let own = nodes.iter().find(is_own)?;
            Some(own.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(NODE_ROLE)))
        });
        // A Node that is deleted and comes back was never anything else.
        if now.is_some() {
            chosen.send_if_modified(|before| std::mem::replace(before, now) != now);
        }
        // Cancel-safe: a watch and a token.
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = nodes.changed() => if changed.is_err() { return },
        }
    }
}

/// Publishes what every proxy of the node has applied, until `shutdown`: the kernel's tables, and HAProxy where it serves.
async fn acknowledge(
    mut translated: watch::Receiver<u64>,
    mut served: watch::Receiver<Option<u64>>,
    applied: watch::Sender<u64>,
    shutdown: CancellationToken,
) {
    loop {
        let (translated_now, served_now) = (*translated.borrow_and_update(), *served.borrow_and_update());
        let waits = !drover_api::mutants::active("E03-haproxy-is-not-waited-for");
        let all = served_now.filter(|_| waits).map_or(translated_now, |served| served.min(translated_now));
        applied.send_if_modified(|revision| proxy::raise(revision, all));
        // Cancel-safe: watches and a token.
        tokio::select! {
            () = shutdown.cancelled() => return,
            Ok(()) = translated.changed() => {}
            Ok(()) = served.changed() => {}
        }
    }
}

/// Says when a value changes.
fn changes<T: Clone + Send + Sync + 'static>(
    value: &watch::Receiver<T>,
) -> impl Stream<Item = ()> + Unpin + Send + 'static {
    WatchStream::from_changes(value.clone()).map(drop)
}

async fn until_ok<T, F>(trouble: &watch::Sender<String>, attempt: impl Fn() -> F) -> T
where
    F: Future<Output = Result<T, String>>,
{
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(message) => {
                tracing::warn!(%message, "the pod network is not ready");
                trouble.send_replace(message);
                tokio::time::sleep(RETRY_AFTER).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_revision_counts_once_the_kernel_and_an_haproxy_that_serves_have_it() {
        let (translated_tx, translated_rx) = watch::channel(0);
        let (served_tx, served_rx) = watch::channel(Some(0));
        let (applied_tx, mut applied_rx) = watch::channel(0);
        tokio::spawn(acknowledge(translated_rx, served_rx, applied_tx, CancellationToken::new()));
        translated_tx.send_replace(9);
        served_tx.send_replace(Some(7));
        assert_eq!(*applied_rx.wait_for(|applied| *applied > 0).await.expect("it is kept"), 7);
        // Nobody asks it any more.
        served_tx.send_replace(None);
        assert_eq!(*applied_rx.wait_for(|applied| *applied > 7).await.expect("it is kept"), 9);
    }
}
