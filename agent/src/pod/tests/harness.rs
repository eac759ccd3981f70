//! A node without an API server: pods live in an informer, status writes land in it.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use drover_api::restored::Unconfirmed;
use jiff::Timestamp;
use k8s_openapi::{
    ByteString,
    api::{
        core::v1::{Pod, PodStatus, Service},
        discovery::v1::EndpointSlice,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    config::{ForbiddenPaths, Owner},
    engine::{
        Engine, ImageCache,
        fake::{Behaviour, FakeEngine},
    },
    ids::PodUid,
    ledger::Ledger,
    pod::{
        HostFiles,
        context::{Context, NodeFacts},
        spawn, watch_engine,
    },
    probes::NetworkProber,
    seams::{
        PodDirectory, PodNetwork,
        fake::{FakeNetwork, FakeVolumes, LiteralEnvironment},
    },
    source::{Informer, PodApi, PodApiError, Recorder},
};

/// What outlives an agent: engine, API, name spaces, files.
#[derive(Clone)]
pub(super) struct Host {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) api: Arc<FakeApi>,
    pub(super) network: Arc<dyn PodNetwork>,
    pub(super) services: Informer<Service>,
    pub(super) slices: Informer<EndpointSlice>,
    pub(super) acknowledged: watch::Sender<u64>,
    pub(super) clock: Clock,
    pub(super) directory: Arc<tempfile::TempDir>,
    pub(super) owner: Owner,
}

/// An agent that runs.
pub(super) struct Agent {
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Agent {
    /// Ends it as `kill -9` does: steps in flight are dropped.
    pub(super) async fn crash(self) {
        self.shutdown.cancel();
        self.task.abort();
        let _ = self.task.await;
    }
}

/// Pod objects.
#[derive(Debug, Default)]
pub(super) struct FakeApi {
    pub(super) pods: Informer<Pod>,
    history: Mutex<Vec<(String, PodStatus)>>,
    revision: Mutex<u64>,
    restored: Mutex<Option<Unconfirmed>>,
    restored_fails: std::sync::atomic::AtomicBool,
    deletes_fail: std::sync::atomic::AtomicBool,
}

impl FakeApi {
    pub(super) fn put(&self, mut pod: Pod) -> u64 {
        let mut revision = self.revision.lock().unwrap_or_else(PoisonError::into_inner);
        *revision += 1;
        pod.metadata.resource_version = Some(revision.to_string());
        self.pods.apply(pod);
        *revision
    }

    pub(super) fn set_restored(&self, state: Option<Unconfirmed>) {
        *self.restored.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    pub(super) fn set_restored_fails(&self, fails: bool) {
        self.restored_fails.store(fails, std::sync::atomic::Ordering::SeqCst);
    }

    pub(super) fn set_deletes_fail(&self, fail: bool) {
        self.deletes_fail.store(fail, std::sync::atomic::Ordering::SeqCst);
    }

    pub(super) fn get(&self, name: &str) -> Option<Arc<Pod>> {
        self.pods.get("default", name)
    }

    pub(super) fn statuses(&self, name: &str) -> Vec<PodStatus> {
        let history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        history.iter().filter(|(of, _)| of == name).map(|(_, status)| status.clone()).collect()
    }

    /// What a user's delete does to a bound pod.
    pub(super) fn mark_deleted(&self, name: &str, grace: i64, now: Timestamp) {
        if let Some(pod) = self.get(name) {
            let mut pod = (*pod).clone();
            pod.metadata.deletion_timestamp = Some(Time(now));
            pod.metadata.deletion_grace_period_seconds = Some(grace);
            self.put(pod);
        }
    }
}

#[async_trait]
impl PodApi for FakeApi {
    async fn patch_status(&self, pod: &Pod, status: &PodStatus) -> Result<u64, PodApiError> {
        let name = pod.metadata.name.clone().unwrap_or_default();
        let current = self.get(&name).filter(|current| current.metadata.uid == pod.metadata.uid);
        let mut current = (*current.ok_or(PodApiError::Gone)?).clone();
        current.status = Some(status.clone());
        self.history.lock().unwrap_or_else(PoisonError::into_inner).push((name, status.clone()));
        Ok(self.put(current))
    }

    async fn delete(&self, pod: &Pod) -> Result<(), PodApiError> {
        if self.deletes_fail.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(PodApiError::Failed("no answer".to_owned()));
        }
        match self.get(pod.metadata.name.as_deref().unwrap_or_default()) {
            Some(current) if current.metadata.uid == pod.metadata.uid => {
                self.pods.delete(&current);
                Ok(())
            }
            Some(_) | None => Err(PodApiError::Gone),
        }
    }

    async fn secret(&self, _namespace: &str, _name: &str) -> Result<BTreeMap<String, ByteString>, PodApiError> {
        Err(PodApiError::Gone)
    }

    async fn unconfirmed_restore(&self) -> Result<Option<Unconfirmed>, PodApiError> {
        if self.restored_fails.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(PodApiError::Failed("no answer".to_owned()));
        }
        Ok(self.restored.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

impl Host {
    pub(super) fn with(engine: Arc<dyn Engine>, clock: Clock, network: Arc<dyn PodNetwork>) -> Self {
        let (services, slices) = (Informer::default(), Informer::default());
        services.mark_listed();
        slices.mark_listed();
        let api = Arc::new(FakeApi::default());
        api.pods.mark_listed();
        let directory = Arc::new(tempfile::tempdir().expect("a temporary directory"));
        let unique = directory.path().file_name().and_then(|name| name.to_str()).unwrap_or("x").replace('.', "");
        Self {
            engine,
            api,
            network,
            services,
            slices,
            acknowledged: watch::channel(0).0,
            clock,
            directory,
            owner: Owner { cluster: format!("test{unique}"), node: "n1".to_owned() },
        }
    }

    pub(super) fn fake() -> (Self, FakeEngine) {
        let clock = Clock::runtime("2026-01-01T00:00:00Z".parse().expect("a timestamp"));
        let engine = FakeEngine::new(clock.clone());
        engine.add_image("web:1", Behaviour::default());
        (Self::with(Arc::new(engine.clone()), clock, Arc::new(FakeNetwork::default())), engine)
    }

    pub(super) fn start_agent(&self) -> Agent {
        let shutdown = CancellationToken::new();
        let images = ImageCache::default();
        let (health, facts) = watch_engine(Arc::clone(&self.engine), images.clone(), &self.owner, &shutdown);
        let root = self.directory.path();
        let ledger = Ledger::open(&root.join("ledger"), self.owner.clone()).expect("the ledger opens");
        let context = Context {
            engine: Arc::clone(&self.engine),
            images,
            network: Arc::clone(&self.network),
            volumes: Arc::new(FakeVolumes),
            environment: Arc::new(LiteralEnvironment),
            api: Arc::clone(&self.api) as Arc<dyn PodApi>,
            ledger,
            owner: self.owner.clone(),
            services: self.services.clone(),
            slices: self.slices.clone(),
            acknowledged: self.acknowledged.subscribe(),
            engine_up: health.up,
            images_changed: health.images,
            directory: PodDirectory::default(),
            files: Arc::new(HostFiles),
            prober: Arc::new(NetworkProber),
            recorder: Recorder::silent(),
            clock: self.clock.clone(),
            node: NodeFacts { host_ip: "192.0.2.1".parse().ok(), memory_bytes: 8 << 30, cpus: 4, oom_score_floor: 0 },
            pods_dir: root.join("pods"),
            forbidden: ForbiddenPaths::new([PathBuf::from("/run/docker.sock")]),
        };
        let task = spawn(Arc::new(context), self.api.pods.clone(), facts, shutdown.clone());
        Agent { shutdown, task }
    }

    /// Waits until the pod object satisfies `wanted`; fails with what it was last.
    pub(super) async fn until(&self, name: &str, what: &str, wanted: impl Fn(Option<&Pod>) -> bool) {
        let mut changes = self.api.pods.subscribe();
        let wait = async {
            loop {
                changes.borrow_and_update();
                if wanted(self.api.get(name).as_deref()) {
                    return;
                }
                changes.changed().await.expect("the informer lives");
            }
        };
        if tokio::time::timeout(Duration::from_secs(900), wait).await.is_err() {
            let pod = self.api.get(name);
            let status = pod.and_then(|pod| pod.status.clone());
            panic!("{name} never became {what}: {}", serde_json::to_string_pretty(&status).unwrap_or_default());
        }
    }

    pub(super) async fn until_ready(&self, name: &str) {
        self.until(name, "ready", |pod| pod.is_some_and(is_ready)).await;
    }

    pub(super) async fn until_gone(&self, name: &str) {
        self.until(name, "gone", |pod| pod.is_none()).await;
    }

    pub(super) async fn until_waiting(&self, name: &str, reason: &str) {
        self.until(name, reason, |pod| pod.is_some_and(|pod| waiting_reason(pod).as_deref() == Some(reason))).await;
    }
}

pub(super) fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|(status, _)| status == "True")
}

pub(super) fn condition(pod: &Pod, type_: &str) -> Option<(String, String)> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let found = conditions.iter().find(|condition| condition.type_ == type_)?;
    Some((found.status.clone(), found.reason.clone().unwrap_or_default()))
}

pub(super) fn waiting_reason(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
    status.state.as_ref()?.waiting.as_ref()?.reason.clone()
}

pub(super) fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    statuses.and_then(|list| list.first()).map_or(-1, |status| status.restart_count)
}

pub(super) fn phase(pod: &Pod) -> String {
    pod.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default()
}

/// A pod with one container `app` of image `web:1`, with `spec` merged over it.
pub(super) fn pod(name: &str, spec: &Value) -> Pod {
    let mut object = json!({
        "metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}"), "labels": {"app": "web"}},
        "spec": {"nodeName": "n1", "restartPolicy": "Always", "terminationGracePeriodSeconds": 30,
            "containers": [{"name": "app", "image": "web:1", "imagePullPolicy": "IfNotPresent"}]},
    });
    merge(&mut object["spec"], spec);
    serde_json::from_value(object).expect("a pod")
}

fn merge(base: &mut Value, over: &Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                merge(base.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (Value::Array(base), Value::Array(over)) if base.len() == over.len() => {
            for (base, over) in base.iter_mut().zip(over) {
                merge(base, over);
            }
        }
        (base, over) => *base = over.clone(),
    }
}

pub(super) fn uid(name: &str) -> PodUid {
    PodUid::new(&format!("uid-{name}")).expect("a uid")
}
