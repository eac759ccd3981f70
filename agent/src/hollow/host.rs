//! The host of a hollow node: nothing but values.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{HollowConfig, RoutesFrom, proxy};
use crate::{
    Error,
    config::ForbiddenPaths,
    engine::EngineInfo,
    neighbours::Heard,
    network::Cidr,
    node::{HostView, acknowledged_revision, suspects},
    pod::routes::NOBODY_ACKNOWLEDGES,
    proxy::ProxyConfig,
    run::{Base, Host, Informers, NetworkState, Others, feed_proxy},
    seams::{PodDirectory, PodFiles, PodNetwork, PodVolumes, Prober},
    source::Recorder,
    volumes::{KubeVolumeApi, NodeVolumes, Reclaimer, VolumeApi, VolumeTools, VolumesConfig, run_reclaimer},
};

/// Where a real node would have its files. Nothing is there.
const DATA_DIR: &str = "/nonexistent/drover";

pub(super) struct HollowHost {
    pub(super) config: HollowConfig,
}

impl HollowHost {
    /// A hollow host asks nobody: it hears what its state says.
    fn tell_what_is_heard(&self, told: watch::Sender<Heard>, shutdown: &CancellationToken) {
        let (mut heard, shutdown) = (self.config.state.heard.subscribe(), shutdown.clone());
        tokio::spawn(async move {
            loop {
                told.send_replace(heard.borrow_and_update().clone());
                // Cancel-safe: a watch and a token.
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    changed = heard.changed() => if changed.is_err() { return },
                }
            }
        });
    }
}

#[async_trait]
impl Host for HollowHost {
    async fn start_network(
        &self,
        base: &Base,
        informers: &Informers,
        pod_cidr: Cidr,
        state: NetworkState,
        shutdown: &CancellationToken,
    ) -> Arc<dyn PodNetwork> {
        let (network, table) = (&self.config.state.network, self.config.state.table.clone());
        network.set_range(pod_cidr, base.clock.clone());
        let config = ProxyConfig {
            table: "drover".to_owned(),
            node: self.config.node_name.clone(),
            pod_cidr,
            cluster_cidr: self.config.cluster_cidr,
            service_cidr: self.config.service_cidr,
        };
        self.tell_what_is_heard(state.heard.clone(), shutdown);
        let own = self.config.node_name.clone();
        let others = Others { heard: state.heard.subscribe(), suspects: state.suspects, own };
        let input = feed_proxy(informers, network.host_ports(), others, shutdown);
        tokio::spawn(proxy::keep(config, input, table, state.applied, shutdown.clone()));
        Arc::new(network.clone())
    }

    fn start_volumes(
        &self,
        base: &Base,
        info: &EngineInfo,
        recorder: &Recorder,
        shutdown: &CancellationToken,
    ) -> Result<Arc<dyn PodVolumes>, Error> {
        let api: Arc<dyn VolumeApi> = Arc::new(KubeVolumeApi::new(base.client.0.clone(), base.chance.clone()));
        let volumes = &self.config.state.volumes;
        let config = VolumesConfig {
            data_dir: PathBuf::from(DATA_DIR),
            pods_dir: self.pods_dir(),
            memory_dir: PathBuf::from(DATA_DIR).join("secrets"),
            owner: base.owner.clone(),
            forbidden: self.forbidden(info),
            cpus: info.cpus,
            memory_bytes: info.memory_bytes,
        };
        let reclaimer = Reclaimer {
            api: Arc::clone(&api),
            engine: Arc::clone(&base.engine),
            data_dir: PathBuf::from(DATA_DIR),
            owner: base.owner.clone(),
            recorder: recorder.clone(),
            chance: base.chance.clone(),
            in_memory: Some(volumes.clone()),
        };
        tokio::spawn(run_reclaimer(reclaimer, shutdown.clone()));
        let tools = VolumeTools {
            api,
            engine: Arc::clone(&base.engine),
            clock: base.clock.clone(),
            chance: base.chance.clone(),
            recorder: recorder.clone(),
        };
        Ok(Arc::new(NodeVolumes::in_memory(config, tools, volumes.clone())))
    }

    fn start_streams(&self, _: &Base, _: &PodDirectory, _: &CancellationToken) -> Option<JoinHandle<()>> {
        None
    }

    fn acknowledged(&self, base: &Base, shutdown: &CancellationToken) -> watch::Receiver<u64> {
        match self.config.routes {
            RoutesFrom::Controllers => acknowledged_revision(base.client.0.clone(), base.chance.clone(), shutdown),
            // It never changes, so it needs no sender.
            RoutesFrom::Nobody { .. } => watch::channel(NOBODY_ACKNOWLEDGES).1,
        }
    }

    fn suspects(&self, base: &Base, shutdown: &CancellationToken) -> watch::Receiver<BTreeSet<String>> {
        match self.config.routes {
            RoutesFrom::Controllers => suspects(base.client.0.clone(), base.chance.clone(), shutdown),
            // It never changes, so it needs no sender.
            RoutesFrom::Nobody { .. } => watch::channel(BTreeSet::new()).1,
        }
    }

    fn own_pod_cidr(&self) -> Option<Cidr> {
        match self.config.routes {
            RoutesFrom::Controllers => None,
            RoutesFrom::Nobody { pod_cidr } => Some(pod_cidr),
        }
    }

    fn view(&self) -> Arc<dyn HostView> {
        Arc::new(self.config.state.host.clone())
    }

    fn files(&self) -> Arc<dyn PodFiles> {
        Arc::new(self.config.state.files.clone())
    }

    fn prober(&self) -> Arc<dyn Prober> {
        Arc::new(self.config.state.engine.clone())
    }

    fn pods_dir(&self) -> PathBuf {
        PathBuf::from(DATA_DIR).join("pods")
    }

    fn forbidden(&self, _info: &EngineInfo) -> ForbiddenPaths {
        ForbiddenPaths::new(["/var/run/docker.sock", "/run/docker.sock"].map(PathBuf::from))
    }

    fn oom_score_floor(&self) -> i64 {
        -1000
    }
}
