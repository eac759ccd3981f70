//! A node agent on whatever host: the order in which its parts start, the same for Docker hosts and simulated ones.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use k8s_openapi::api::{
    core::v1::{Node, Pod, Service},
    discovery::v1::EndpointSlice,
};
use kube::{Api, Client, runtime::watcher};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::Error;
use crate::{
    chance::Chance,
    clock::Clock,
    config::{ForbiddenPaths, Owner},
    engine::{Engine, EngineInfo, ImageCache},
    environment::ApiEnvironment,
    ledger::Ledger,
    neighbours::Heard,
    network::Cidr,
    node::{Heartbeat, HostView, NodeIdentity, NodeReporter, register},
    pod::{
        self, EngineHealth,
        context::{Context, NodeFacts},
    },
    seams::{PodDirectory, PodFiles, PodNetwork, PodVolumes, Prober},
    source::{Informer, KubePodApi, Recorder},
};

/// Between two tries of a step of the start that depends on others.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// How long the node waits for its engine's first word before it joins without it.
const FIRST_ANSWER: Duration = Duration::from_secs(2);

/// What every agent has, whatever its host.
#[derive(Debug)]
pub(crate) struct Base {
    pub(crate) client: NodeClient,
    pub(crate) identity: NodeIdentity,
    pub(crate) owner: Owner,
    pub(crate) clock: Clock,
    pub(crate) chance: Chance,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) ledger: Ledger,
}

/// The API, as this node's identity.
#[derive(Clone)]
pub(crate) struct NodeClient(pub(crate) Client);

impl std::fmt::Debug for NodeClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NodeClient")
    }
}

/// What differs between a Docker host and a simulated one.
#[async_trait]
pub(crate) trait Host: Send + Sync {
    /// The network of pods; returns once pods may start. Says in `state` what it waits for and what its proxy applied.
    async fn start_network(
        &self,
        base: &Base,
        informers: &Informers,
        pod_cidr: Cidr,
        state: NetworkState,
        shutdown: &CancellationToken,
    ) -> Arc<dyn PodNetwork>;

    /// The volumes of pods.
    ///
    /// # Errors
    /// When their directories cannot be used.
    fn start_volumes(
        &self,
        base: &Base,
        info: &EngineInfo,
        recorder: &Recorder,
        shutdown: &CancellationToken,
    ) -> Result<Arc<dyn PodVolumes>, Error>;

    /// Serves logs and exec, where this host does.
    fn start_streams(
        &self,
        base: &Base,
        directory: &PodDirectory,
        shutdown: &CancellationToken,
    ) -> Option<JoinHandle<()>>;

    /// The revision that every live proxy has acknowledged.
    fn acknowledged(&self, base: &Base, shutdown: &CancellationToken) -> watch::Receiver<u64>;

    /// The nodes whose hosts the controllers take to be gone, perhaps.
    fn suspects(&self, base: &Base, shutdown: &CancellationToken) -> watch::Receiver<BTreeSet<String>>;

    /// Addresses for pods where nobody gives the node any.
    fn own_pod_cidr(&self) -> Option<Cidr>;

    /// Where the host's facts come from.
    fn view(&self) -> Arc<dyn HostView>;

    /// The files of pods.
    fn files(&self) -> Arc<dyn PodFiles>;

    /// Runs probes.
    fn prober(&self) -> Arc<dyn Prober>;

    /// Where pods have their files.
    fn pods_dir(&self) -> PathBuf;

    /// What is never mounted.
    fn forbidden(&self, info: &EngineInfo) -> ForbiddenPaths;

    /// The lowest `oom_score_adj` that may be set.
    fn oom_score_floor(&self) -> i64;
}

/// What the network says while it starts and runs.
#[derive(Debug)]
pub(crate) struct NetworkState {
    /// The revision that the proxy has applied.
    pub(crate) applied: watch::Sender<u64>,
    /// Why the network is not ready; empty when it is.
    pub(crate) trouble: watch::Sender<String>,
    /// What this node says of its neighbours.
    pub(crate) heard: watch::Sender<Heard>,
    /// What the controllers say of them.
    pub(crate) suspects: watch::Receiver<BTreeSet<String>>,
}

/// What the agent watches.
#[derive(Clone)]
pub(crate) struct Informers {
    pub(crate) pods: Informer<Pod>,
    pub(crate) services: Informer<Service>,
    pub(crate) slices: Informer<EndpointSlice>,
}

impl Informers {
    fn spawn(base: &Base, shutdown: &CancellationToken) -> Self {
        let client = || base.client.0.clone();
        let own = watcher::Config::default().fields(&format!("spec.nodeName={}", base.identity.name));
        let all = watcher::Config::default;
        let chance = || base.chance.clone();
        Self {
            pods: Informer::spawn(Api::all(client()), own, chance(), shutdown.clone()).0,
            services: Informer::spawn(Api::all(client()), all(), chance(), shutdown.clone()).0,
            slices: Informer::spawn(Api::all(client()), all(), chance(), shutdown.clone()).0,
        }
    }
}

/// Runs an agent until `shutdown`.
///
/// # Errors
/// When the host's directories cannot be used.
pub(crate) async fn run_agent(base: Base, host: &dyn Host, shutdown: CancellationToken) -> Result<(), Error> {
    let images = ImageCache::default();
    let (health, facts) = pod::watch_engine(Arc::clone(&base.engine), images.clone(), &base.owner, &shutdown);
    let (applied_tx, applied_rx) = watch::channel(0);
    let (trouble_tx, trouble_rx) = watch::channel("the pod network is being set up".to_owned());
    let (heard_tx, heard_rx) = watch::channel(Heard::default());
    let suspects = host.suspects(&base, &shutdown);
    let beat = Heartbeat {
        node: base.identity.name.clone(),
        clock: base.clock.clone(),
        applied: applied_rx,
        heard: heard_rx,
        suspects: suspects.clone(),
    };
    let beat = tokio::spawn(beat.run(base.client.0.clone(), shutdown.clone()));

    let start = async {
        // A node whose engine does not answer still joins, and says so: the reporter fills in what is missing later.
        let first = tokio::time::timeout(FIRST_ANSWER, base.engine.info()).await;
        let first = first.ok().and_then(Result::ok).unwrap_or_default();
        registered(&base, &first).await;
        let node = own_node(&base, &shutdown);
        let reporter = NodeReporter {
            object: node.clone(),
            identity: base.identity.clone(),
            engine: Arc::clone(&base.engine),
            host: host.view(),
            images: images.clone(),
            engine_up: health.up.clone(),
            network_trouble: trouble_rx,
            clock: base.clock.clone(),
        };
        let reporter = tokio::spawn(reporter.run(base.client.0.clone(), first.clone(), shutdown.clone()));
        let info = if first.is_known() {
            first
        } else {
            let info = engine_info(base.engine.as_ref()).await;
            registered(&base, &info).await;
            info
        };
        let pod_cidr = pod_cidr(&node, &base.identity.name, host.own_pod_cidr()).await;
        let informers = Informers::spawn(&base, &shutdown);
        let trouble = trouble_tx.clone();
        let state = NetworkState { applied: applied_tx, trouble, heard: heard_tx, suspects };
        let network = host.start_network(&base, &informers, pod_cidr, state, &shutdown).await;
        (info, reporter, informers, network)
    };
    // Cancel-safe: an unfinished start is taken up from the beginning by the next agent.
    let (info, reporter, informers, network) = tokio::select! {
        () = shutdown.cancelled() => return Ok(()),
        started = start => started,
    };
    informers.pods.synced().await;
    let directory = PodDirectory::default();
    let streams = host.start_streams(&base, &directory, &shutdown);
    let parts = Parts { info, images, health, network, directory };
    let context = Arc::new(context(base, host, &informers, parts, &shutdown)?);
    trouble_tx.send_replace(String::new());
    let manager = pod::spawn(context, informers.pods.clone(), facts, shutdown.clone());
    for task in [manager, reporter, beat].into_iter().chain(streams) {
        if let Err(error) = task.await {
            tracing::error!(%error, "a part of the agent panicked");
        }
    }
    Ok(())
}

/// What the start has made for the pods.
struct Parts {
    info: EngineInfo,
    images: ImageCache,
    health: EngineHealth,
    network: Arc<dyn PodNetwork>,
    directory: PodDirectory,
}

fn context(
    base: Base,
    host: &dyn Host,
    informers: &Informers,
    parts: Parts,
    shutdown: &CancellationToken,
) -> Result<Context, Error> {
    let Parts { info, images, health, network, directory } = parts;
    let client = base.client.0.clone();
    let (name, clock, chance) = (base.identity.name.clone(), base.clock.clone(), base.chance.clone());
    let recorder = Recorder::spawn(client.clone(), name, clock, chance, shutdown.clone());
    let volumes = host.start_volumes(&base, &info, &recorder, shutdown)?;
    let environment = Arc::new(ApiEnvironment::new(client.clone(), informers.services.clone(), recorder.clone()));
    let acknowledged = host.acknowledged(&base, shutdown);
    Ok(Context {
        engine: base.engine,
        images,
        network,
        volumes,
        environment,
        api: Arc::new(KubePodApi::new(client)),
        ledger: base.ledger,
        owner: base.owner,
        services: informers.services.clone(),
        slices: informers.slices.clone(),
        acknowledged,
        engine_up: health.up,
        images_changed: health.images,
        directory,
        files: host.files(),
        prober: host.prober(),
        recorder,
        clock: base.clock,
        node: NodeFacts {
            host_ip: base.identity.address,
            memory_bytes: info.memory_bytes,
            cpus: info.cpus,
            oom_score_floor: host.oom_score_floor(),
        },
        pods_dir: host.pods_dir(),
        forbidden: host.forbidden(&info),
    })
}

async fn engine_info(engine: &dyn Engine) -> EngineInfo {
    loop {
        match engine.info().await {
            Ok(info) => return info,
            Err(error) => {
                tracing::warn!(%error, "waiting for the container engine");
                tokio::time::sleep(RETRY_AFTER * 4).await;
            }
        }
    }
}

async fn registered(base: &Base, info: &EngineInfo) {
    loop {
        match register(&base.client.0, &base.identity, info).await {
            Ok(_) => return,
            Err(error) => {
                tracing::warn!(%error, "the node cannot be registered yet");
                tokio::time::sleep(RETRY_AFTER).await;
            }
        }
    }
}

/// Follows the node's own object.
fn own_node(base: &Base, shutdown: &CancellationToken) -> Informer<Node> {
    let config = watcher::Config::default().fields(&format!("metadata.name={}", base.identity.name));
    Informer::spawn(Api::all(base.client.0.clone()), config, base.chance.clone(), shutdown.clone()).0
}

/// Waits for the controllers to give the node its addresses, unless it has some of its own.
async fn pod_cidr(node: &Informer<Node>, name: &str, own: Option<Cidr>) -> Cidr {
    let mut changes = node.subscribe();
    loop {
        let given = node.get("", name).and_then(|node| node.spec.as_ref()?.pod_cidr.as_ref()?.parse().ok());
        let own = own.filter(|_| node.state().lists > 0);
        if let Some(cidr) = given.or(own) {
            return cidr;
        }
        // The informer lives as long as this function.
        let _ = changes.changed().await;
    }
}
