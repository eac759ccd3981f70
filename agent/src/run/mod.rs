//! The agent as a whole: puts the parts together and runs them until it is told to stop.
//!
//! Order matters in three places: the heartbeat begins before anything that may take long; the network needs the pod
//! CIDR that the controllers give the Node; pods start once network and informers are there. Stopping leaves every
//! container, name space and table as it is.

mod config;
mod network;

use std::{path::PathBuf, sync::Arc, time::Duration};

use k8s_openapi::api::{
    core::v1::{Node, Pod, Service},
    discovery::v1::EndpointSlice,
};
use kube::{Api, Client, runtime::watcher};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use config::{Config, Error};

use self::network::NetworkParts;
use crate::{
    clock::Clock,
    config::{ForbiddenPaths, Owner},
    engine::{DockerEngine, Engine, EngineInfo, ImageCache},
    environment::ApiEnvironment,
    ledger::Ledger,
    network::Cidr,
    node::{NodeIdentity, NodeReporter, acknowledged_revision, detect_address, heartbeat, oom_score_floor, register},
    pod::{
        self, EngineHealth,
        context::{Context, NodeFacts},
    },
    seams::PodDirectory,
    source::{Informer, KubePodApi, Recorder},
    streams::{StreamService, run_tunnel},
    volumes::{KubeVolumeApi, NodeVolumes, Reclaimer, VolumeApi, VolumesConfig, run_reclaimer},
};

/// Between two tries of a step of the start that depends on others.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// How long the node waits for its engine's first word before it joins without it.
const FIRST_ANSWER: Duration = Duration::from_secs(2);

/// Runs the agent until `shutdown`.
///
/// # Errors
/// When its data directory cannot be used. Whatever else is missing (engine, API server, network) is waited for and
/// reported on the Node.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), Error> {
    let owner = Owner { cluster: config.cluster_name.clone(), node: config.node_name.clone() };
    let ledger = Ledger::open(&config.data_dir.join("ledger"), owner.clone())?;
    let clock = Clock::System;
    let docker = Arc::new(DockerEngine::new(&config.docker_endpoint));
    let engine: Arc<dyn Engine> = Arc::clone(&docker) as Arc<dyn Engine>;
    let images = ImageCache::default();
    let (health, facts) = pod::watch_engine(Arc::clone(&engine), images.clone(), &owner, &shutdown);
    let (applied_tx, applied_rx) = watch::channel(0);
    let (trouble_tx, trouble_rx) = watch::channel("the pod network is being set up".to_owned());
    let address = config.address.or_else(detect_address);
    let identity = NodeIdentity { name: config.node_name.clone(), address, labels: config.labels.clone() };
    let beat = heartbeat(config.client.clone(), config.node_name.clone(), clock.clone(), applied_rx, shutdown.clone());
    let beat = tokio::spawn(beat);

    let start = async {
        // A node whose engine does not answer still joins, and says so: the reporter fills in what is missing later.
        let first = tokio::time::timeout(FIRST_ANSWER, engine.info()).await;
        let first = first.ok().and_then(Result::ok).unwrap_or_default();
        registered(&config.client, &identity, &first).await;
        let reporter = NodeReporter {
            identity: identity.clone(),
            engine: Arc::clone(&engine),
            images: images.clone(),
            engine_up: health.up.clone(),
            network_trouble: trouble_rx,
            clock: clock.clone(),
        };
        let reporter = tokio::spawn(reporter.run(config.client.clone(), first.clone(), shutdown.clone()));
        let info = if first.version.is_empty() {
            let info = engine_info(engine.as_ref()).await;
            registered(&config.client, &identity, &info).await;
            info
        } else {
            first
        };
        let pod_cidr = pod_cidr(&config.client, &config.node_name, &shutdown).await;
        let informers = Informers::spawn(&config, &shutdown);
        let (owner, ledger) = (&owner, &ledger);
        let parts = NetworkParts { config: &config, docker: &docker, owner, ledger, clock: &clock, pod_cidr };
        let network = parts.start(&informers, applied_tx, &trouble_tx, &shutdown).await;
        (info, reporter, informers, network)
    };
    // Cancel-safe: an unfinished start is taken up from the beginning by the next agent.
    let (info, reporter, informers, network) = tokio::select! {
        () = shutdown.cancelled() => return Ok(()),
        started = start => started,
    };
    informers.pods.synced().await;
    let recorder = Recorder::spawn(config.client.clone(), config.node_name.clone(), clock.clone(), shutdown.clone());
    let directory = PodDirectory::default();
    let streams = StreamService::new(Arc::clone(&engine), directory.clone(), clock.clone());
    let tunnel = tokio::spawn(run_tunnel(Arc::clone(&config.tunnel), streams, shutdown.clone()));
    let shared = Shared { config: &config, engine, images, health, owner, ledger, clock, recorder, directory };
    let context = Arc::new(shared.context(&informers, network, &info, address, &shutdown)?);
    trouble_tx.send_replace(String::new());
    let manager = pod::spawn(context, informers.pods.clone(), facts, shutdown.clone());
    for task in [manager, reporter, beat, tunnel] {
        if let Err(error) = task.await {
            tracing::error!(%error, "a part of the agent panicked");
        }
    }
    Ok(())
}

/// What the agent watches.
struct Informers {
    pods: Informer<Pod>,
    services: Informer<Service>,
    slices: Informer<EndpointSlice>,
}

impl Informers {
    fn spawn(config: &Config, shutdown: &CancellationToken) -> Self {
        let client = &config.client;
        let own = watcher::Config::default().fields(&format!("spec.nodeName={}", config.node_name));
        let all = watcher::Config::default;
        Self {
            pods: Informer::spawn(Api::all(client.clone()), own, shutdown.clone()).0,
            services: Informer::spawn(Api::all(client.clone()), all(), shutdown.clone()).0,
            slices: Informer::spawn(Api::all(client.clone()), all(), shutdown.clone()).0,
        }
    }
}

struct Shared<'a> {
    config: &'a Config,
    engine: Arc<dyn Engine>,
    images: ImageCache,
    health: EngineHealth,
    owner: Owner,
    ledger: Ledger,
    clock: Clock,
    recorder: Recorder,
    directory: PodDirectory,
}

impl Shared<'_> {
    fn context(
        self,
        informers: &Informers,
        network: Arc<dyn crate::seams::PodNetwork>,
        info: &EngineInfo,
        address: Option<std::net::IpAddr>,
        shutdown: &CancellationToken,
    ) -> Result<Context, Error> {
        let client = self.config.client.clone();
        let volumes = Arc::new(self.volumes(info, shutdown)?);
        let services = informers.services.clone();
        let environment = Arc::new(ApiEnvironment::new(client.clone(), services, self.recorder.clone()));
        Ok(Context {
            engine: self.engine,
            images: self.images,
            network,
            volumes,
            environment,
            api: Arc::new(KubePodApi::new(client.clone())),
            ledger: self.ledger,
            owner: self.owner,
            services: informers.services.clone(),
            slices: informers.slices.clone(),
            acknowledged: acknowledged_revision(client, shutdown),
            engine_up: self.health.up,
            images_changed: self.health.images,
            directory: self.directory,
            recorder: self.recorder,
            clock: self.clock,
            node: NodeFacts {
                host_ip: address,
                memory_bytes: info.memory_bytes,
                cpus: info.cpus,
                oom_score_floor: oom_score_floor(),
            },
            pods_dir: self.config.data_dir.join("pods"),
            forbidden: forbidden(self.config, info),
        })
    }

    /// Makes the volumes of pods, and removes those of this node whose claims are gone.
    fn volumes(&self, info: &EngineInfo, shutdown: &CancellationToken) -> Result<NodeVolumes, Error> {
        let api: Arc<dyn VolumeApi> = Arc::new(KubeVolumeApi::new(self.config.client.clone()));
        let data_dir = self.config.data_dir.clone();
        let config = VolumesConfig {
            data_dir: data_dir.clone(),
            pods_dir: data_dir.join("pods"),
            memory_dir: self.config.run_dir.join("secrets"),
            owner: self.owner.clone(),
            forbidden: forbidden(self.config, info),
            cpus: info.cpus,
            memory_bytes: info.memory_bytes,
        };
        let reclaimer = Reclaimer {
            api: Arc::clone(&api),
            engine: Arc::clone(&self.engine),
            data_dir,
            owner: self.owner.clone(),
            recorder: self.recorder.clone(),
        };
        tokio::spawn(run_reclaimer(reclaimer, shutdown.clone()));
        let (engine, clock, recorder) = (Arc::clone(&self.engine), self.clock.clone(), self.recorder.clone());
        NodeVolumes::new(config, api, engine, clock, recorder).map_err(Error::Volumes)
    }
}

/// The engine's socket and state and our own state: whoever can write there owns the host.
fn forbidden(config: &Config, info: &EngineInfo) -> ForbiddenPaths {
    let socket = config.docker_endpoint.strip_prefix("unix://").map(PathBuf::from);
    let usual = ["/var/run/docker.sock", "/run/docker.sock", "/run/containerd/containerd.sock"].map(PathBuf::from);
    let keys = [config.data_dir.join("ledger"), config.data_dir.join("pki"), info.root_dir.clone()];
    let keys = keys.into_iter().filter(|path| !path.as_os_str().is_empty());
    ForbiddenPaths::new(socket.into_iter().chain(usual).chain(keys))
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

async fn registered(client: &Client, identity: &NodeIdentity, info: &EngineInfo) {
    loop {
        match register(client, identity, info).await {
            Ok(_) => return,
            Err(error) => {
                tracing::warn!(%error, "the node cannot be registered yet");
                tokio::time::sleep(RETRY_AFTER).await;
            }
        }
    }
}

/// Waits for the controllers to give the node its addresses.
async fn pod_cidr(client: &Client, node: &str, shutdown: &CancellationToken) -> Cidr {
    let own = watcher::Config::default().fields(&format!("metadata.name={node}"));
    let watch = shutdown.child_token();
    let (nodes, _task) = Informer::<Node>::spawn(Api::all(client.clone()), own, watch.clone());
    let _end = watch.drop_guard();
    let mut changes = nodes.subscribe();
    loop {
        let cidr = nodes.get("", node).and_then(|node| node.spec.as_ref()?.pod_cidr.as_ref()?.parse().ok());
        if let Some(cidr) = cidr {
            return cidr;
        }
        // The informer lives as long as this function.
        let _ = changes.changed().await;
    }
}
