//! The agent as a whole: puts the parts together and runs them until it is told to stop.
//!
//! Order matters in three places: the heartbeat begins before anything that may take long; the network needs the pod
//! CIDR that the controllers give the Node; pods start once network and informers are there. Stopping leaves every
//! container, name space and table as it is. [`agent`] is the same for every host; what is here is a Docker host.

mod agent;
mod config;
mod network;

use std::{collections::BTreeSet, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

pub(crate) use agent::{Base, Host, Informers, NetworkState, NodeClient, run_agent};
pub use config::{Config, Error, IngressPorts};
pub(crate) use network::{Others, feed_proxy};

use self::network::NetworkParts;
use crate::{
    chance::Chance,
    clock::Clock,
    config::{ForbiddenPaths, Owner},
    engine::{DockerEngine, Engine, EngineInfo},
    ledger::Ledger,
    network::Cidr,
    node::{HostView, NodeIdentity, ThisHost, acknowledged_revision, detect_address, oom_score_floor, suspects},
    pod::HostFiles,
    probes::NetworkProber,
    seams::{PodDirectory, PodFiles, PodNetwork, PodVolumes, Prober},
    source::Recorder,
    streams::{StreamService, run_tunnel},
    volumes::{KubeVolumeApi, NodeVolumes, Reclaimer, VolumeApi, VolumeTools, VolumesConfig, run_reclaimer},
};

/// Runs the agent until `shutdown`.
///
/// # Errors
/// When its data directory cannot be used. Whatever else is missing (engine, API server, network) is waited for and
/// reported on the Node.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), Error> {
    let owner = Owner { cluster: config.cluster_name.clone(), node: config.node_name.clone() };
    let ledger = Ledger::open(&config.data_dir.join("ledger"), owner.clone())?;
    let docker = Arc::new(DockerEngine::new(&config.docker_endpoint));
    let address = config.address.or_else(detect_address);
    let base = Base {
        client: NodeClient(config.client.clone()),
        identity: NodeIdentity { name: config.node_name.clone(), address, labels: config.labels.clone() },
        owner,
        clock: Clock::System,
        chance: Chance::System,
        engine: Arc::clone(&docker) as Arc<dyn Engine>,
        ledger,
    };
    run_agent(base, &DockerHost { config, docker }, shutdown).await
}

/// The host that this process runs on.
struct DockerHost {
    config: Config,
    docker: Arc<DockerEngine>,
}

#[async_trait]
impl Host for DockerHost {
    async fn start_network(
        &self,
        base: &Base,
        informers: &Informers,
        pod_cidr: Cidr,
        state: NetworkState,
        shutdown: &CancellationToken,
    ) -> Arc<dyn PodNetwork> {
        let parts = NetworkParts {
            config: &self.config,
            docker: &self.docker,
            owner: &base.owner,
            ledger: &base.ledger,
            clock: &base.clock,
            pod_cidr,
        };
        parts.start(informers, state, shutdown).await
    }

    /// Makes the volumes of pods, and removes those of this node whose claims are gone.
    fn start_volumes(
        &self,
        base: &Base,
        info: &EngineInfo,
        recorder: &Recorder,
        shutdown: &CancellationToken,
    ) -> Result<Arc<dyn PodVolumes>, Error> {
        let api: Arc<dyn VolumeApi> = Arc::new(KubeVolumeApi::new(base.client.0.clone(), base.chance.clone()));
        let config = VolumesConfig {
            data_dir: self.config.data_dir.clone(),
            pods_dir: self.pods_dir(),
            memory_dir: self.config.run_dir.join("secrets"),
            owner: base.owner.clone(),
            forbidden: self.forbidden(info),
            cpus: info.cpus,
            memory_bytes: info.memory_bytes,
        };
        let reclaimer = Reclaimer {
            api: Arc::clone(&api),
            engine: Arc::clone(&base.engine),
            data_dir: self.config.data_dir.clone(),
            owner: base.owner.clone(),
            recorder: recorder.clone(),
            chance: base.chance.clone(),
            in_memory: None,
        };
        tokio::spawn(run_reclaimer(reclaimer, shutdown.clone()));
        let tools = VolumeTools {
            api,
            engine: Arc::clone(&base.engine),
            clock: base.clock.clone(),
            chance: base.chance.clone(),
            recorder: recorder.clone(),
        };
        Ok(Arc::new(NodeVolumes::new(config, tools).map_err(Error::Volumes)?))
    }

    fn start_streams(
        &self,
        base: &Base,
        directory: &PodDirectory,
        shutdown: &CancellationToken,
    ) -> Option<JoinHandle<()>> {
        let streams = StreamService::new(Arc::clone(&base.engine), directory.clone(), base.clock.clone());
        Some(tokio::spawn(run_tunnel(Arc::clone(&self.config.tunnel), streams, shutdown.clone())))
    }

    fn acknowledged(&self, base: &Base, shutdown: &CancellationToken) -> watch::Receiver<u64> {
        acknowledged_revision(base.client.0.clone(), base.chance.clone(), shutdown)
    }

    fn suspects(&self, base: &Base, shutdown: &CancellationToken) -> watch::Receiver<BTreeSet<String>> {
        suspects(base.client.0.clone(), base.chance.clone(), shutdown)
    }

    fn own_pod_cidr(&self) -> Option<Cidr> {
        None
    }

    fn view(&self) -> Arc<dyn HostView> {
        Arc::new(ThisHost)
    }

    fn files(&self) -> Arc<dyn PodFiles> {
        Arc::new(HostFiles)
    }

    fn prober(&self) -> Arc<dyn Prober> {
        Arc::new(NetworkProber)
    }

    fn pods_dir(&self) -> PathBuf {
        self.config.data_dir.join("pods")
    }

    /// The engine's socket and state and our own state: whoever can write there owns the host.
    fn forbidden(&self, info: &EngineInfo) -> ForbiddenPaths {
        let config = &self.config;
        let socket = config.docker_endpoint.strip_prefix("unix://").map(PathBuf::from);
        let usual = ["/var/run/docker.sock", "/run/docker.sock", "/run/containerd/containerd.sock"].map(PathBuf::from);
        let keys = [config.data_dir.join("ledger"), config.data_dir.join("pki"), info.root_dir.clone()];
        let keys = keys.into_iter().filter(|path| !path.as_os_str().is_empty());
        ForbiddenPaths::new(socket.into_iter().chain(usual).chain(keys))
    }

    fn oom_score_floor(&self) -> i64 {
        oom_score_floor()
    }
}
