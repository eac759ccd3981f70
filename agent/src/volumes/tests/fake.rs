//! An API in memory and a node on temporary directories.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use jiff::SignedDuration;
use k8s_openapi::{
    api::{
        authentication::v1::{TokenRequestSpec, TokenRequestStatus},
        core::v1::{ConfigMap, PersistentVolume, PersistentVolumeClaim, Pod, Secret},
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    chance::Chance,
    clock::Clock,
    config::{ForbiddenPaths, Owner},
    engine::fake::FakeEngine,
    ids::PodUid,
    seams::{MountSource, PreparedVolume},
    source::{Informer, Recorder},
    volumes::{ApiFailure, NodeVolumes, Reclaimer, VolumeApi, VolumeTools, VolumesConfig, mounts},
};

#[derive(Debug, Clone)]
pub(super) struct FakeApi {
    pub clock: Clock,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub claims: BTreeMap<String, PersistentVolumeClaim>,
    pub volumes: BTreeMap<String, PersistentVolume>,
    pub config_maps: HashMap<String, Informer<ConfigMap>>,
    pub secrets: HashMap<String, Informer<Secret>>,
    pub tokens_issued: u32,
    /// The next write fails so.
    pub failure: Option<ApiFailure>,
}

impl FakeApi {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn put_config_map(&self, name: &str, data: &Value) {
        let object = json!({ "metadata": { "namespace": "ns", "name": name }, "data": data });
        let informer = self.state().config_maps.entry(name.to_owned()).or_default().clone();
        informer.apply(serde_json::from_value(object).unwrap());
        informer.mark_listed();
    }

    /// A bound claim with its volume on node n1.
    pub(super) fn put_claim(&self, claim: &str, volume: &str, source: &Value) {
        let mut state = self.state();
        let object = json!({
            "metadata": { "namespace": "ns", "name": claim, "uid": format!("uid-{claim}") },
            "spec": { "volumeName": volume }, "status": { "phase": "Bound" },
        });
        state.claims.insert(claim.to_owned(), serde_json::from_value(object).unwrap());
        let object = json!({
            "metadata": { "name": volume, "uid": format!("uid-{volume}"), "finalizers": ["drover.dev/volume"] },
            "spec": {
                "csi": source, "persistentVolumeReclaimPolicy": "Delete",
                "claimRef": { "namespace": "ns", "name": claim, "uid": format!("uid-{claim}") },
                "nodeAffinity": { "required": { "nodeSelectorTerms": [{ "matchExpressions": [
                    { "key": "kubernetes.io/hostname", "operator": "In", "values": ["n1"] }] }] } },
            },
        });
        state.volumes.insert(volume.to_owned(), serde_json::from_value(object).unwrap());
    }

    pub(super) fn is_initialized(&self, volume: &str) -> bool {
        let annotations = self.state().volumes[volume].metadata.annotations.clone().unwrap_or_default();
        annotations.get("drover.dev/initialized").is_some_and(|value| value == "true")
    }

    fn change(&self, seen: &PersistentVolume, act: impl FnOnce(&mut PersistentVolume)) -> Result<(), ApiFailure> {
        let mut state = self.state();
        if let Some(failure) = state.failure.take() {
            return Err(failure);
        }
        let name = seen.metadata.name.clone().unwrap();
        let current = state.volumes.get_mut(&name).ok_or(ApiFailure::Changed)?;
        if current.metadata.resource_version != seen.metadata.resource_version {
            return Err(ApiFailure::Changed);
        }
        act(current);
        let version = current.metadata.resource_version.as_deref().unwrap_or("0").parse::<u64>().unwrap() + 1;
        current.metadata.resource_version = Some(version.to_string());
        Ok(())
    }
}

#[async_trait]
impl VolumeApi for FakeApi {
    fn watch_config_map(&self, _namespace: &str, name: &str, _end: CancellationToken) -> Informer<ConfigMap> {
        let informer = self.state().config_maps.entry(name.to_owned()).or_default().clone();
        informer.mark_listed();
        informer
    }

    fn watch_secret(&self, _namespace: &str, name: &str, _end: CancellationToken) -> Informer<Secret> {
        let informer = self.state().secrets.entry(name.to_owned()).or_default().clone();
        informer.mark_listed();
        informer
    }

    fn watch_volumes(&self, _end: CancellationToken) -> Informer<PersistentVolume> {
        let informer = Informer::default();
        for volume in self.state().volumes.values() {
            informer.apply(volume.clone());
        }
        informer.mark_listed();
        informer
    }

    async fn token(
        &self,
        _namespace: &str,
        account: &str,
        spec: TokenRequestSpec,
    ) -> Result<TokenRequestStatus, ApiFailure> {
        let mut state = self.state();
        if let Some(failure) = state.failure.take() {
            return Err(failure);
        }
        state.tokens_issued += 1;
        let life = SignedDuration::from_secs(spec.expiration_seconds.unwrap());
        let bound = spec.bound_object_ref.unwrap().uid.unwrap();
        Ok(TokenRequestStatus {
            token: format!("{account}/{bound}/{}", state.tokens_issued),
            expiration_timestamp: Time(self.clock.now() + life),
        })
    }

    async fn claim(&self, _namespace: &str, name: &str) -> Result<Option<PersistentVolumeClaim>, ApiFailure> {
        Ok(self.state().claims.get(name).cloned())
    }

    async fn volume(&self, name: &str) -> Result<Option<PersistentVolume>, ApiFailure> {
        Ok(self.state().volumes.get(name).cloned())
    }

    async fn annotate(&self, volume: &PersistentVolume, key: &str, value: &str) -> Result<(), ApiFailure> {
        self.change(volume, |volume| {
            volume.metadata.annotations.get_or_insert_default().insert(key.to_owned(), value.to_owned());
        })
    }

    async fn set_finalizers(&self, volume: &PersistentVolume, finalizers: &[String]) -> Result<(), ApiFailure> {
        self.change(volume, |volume| volume.metadata.finalizers = Some(finalizers.to_vec()))
    }
}

/// A node whose secrets are in shared memory, so that most tests need no mount.
pub(super) struct Node {
    pub api: FakeApi,
    pub engine: FakeEngine,
    pub dir: tempfile::TempDir,
    memory: tempfile::TempDir,
}

impl Node {
    pub(super) fn new() -> Self {
        Self::with_clock(Clock::System)
    }

    pub(super) fn with_clock(clock: Clock) -> Self {
        let memory = tempfile::tempdir_in("/dev/shm").unwrap();
        let engine = FakeEngine::new(clock.clone());
        let api = FakeApi { clock, state: Arc::default() };
        Self { api, engine, dir: tempfile::tempdir().unwrap(), memory }
    }

    /// A new start of the agent on the same directories.
    pub(super) fn volumes(&self) -> NodeVolumes {
        let config = VolumesConfig {
            data_dir: self.dir.path().join("data"),
            pods_dir: self.dir.path().join("data/pods"),
            memory_dir: self.memory.path().join("secrets"),
            owner: self.owner(),
            forbidden: ForbiddenPaths::new([PathBuf::from("/run/docker.sock")]),
            cpus: 2,
            memory_bytes: 1 << 30,
        };
        let tools = VolumeTools {
            api: Arc::new(self.api.clone()),
            engine: Arc::new(self.engine.clone()),
            clock: self.api.clock.clone(),
            chance: Chance::System,
            recorder: Recorder::silent(),
        };
        NodeVolumes::new(config, tools).unwrap()
    }

    pub(super) fn reclaimer(&self) -> Reclaimer {
        Reclaimer {
            api: Arc::new(self.api.clone()),
            engine: Arc::new(self.engine.clone()),
            data_dir: self.dir.path().join("data"),
            owner: self.owner(),
            recorder: Recorder::silent(),
            chance: Chance::System,
            in_memory: None,
        }
    }

    pub(super) fn secrets(&self) -> PathBuf {
        self.memory.path().join("secrets")
    }

    fn owner(&self) -> Owner {
        Owner { cluster: "c".to_owned(), node: "n1".to_owned() }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let dir = fs::canonicalize(self.dir.path()).unwrap();
        mounts::unmount_below(&dir).unwrap();
    }
}

pub(super) fn uid() -> PodUid {
    PodUid::new("pod-1").unwrap()
}

pub(super) fn pod(volumes: &Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": { "namespace": "ns", "name": "web", "uid": uid().as_str(), "labels": { "app": "x" } },
        "spec": { "serviceAccountName": "robot", "containers": [{ "name": "c" }], "volumes": volumes },
    }))
    .unwrap()
}

/// The host path of a prepared volume.
pub(super) fn path(prepared: &[PreparedVolume], name: &str) -> PathBuf {
    let volume = prepared.iter().find(|volume| volume.name == name).unwrap();
    match &volume.source {
        MountSource::HostPath(path) => path.clone(),
        MountSource::DockerVolume(name) => panic!("docker volume {name}"),
    }
}

pub(super) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
