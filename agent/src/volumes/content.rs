//! Volumes whose files come from the API, kept current while their pod lives.

use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{
    StreamExt as _,
    stream::{BoxStream, SelectAll},
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{
    authentication::v1::{BoundObjectReference, TokenRequestSpec},
    core::v1::{ConfigMap, Pod, Secret},
};
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::CancellationToken;

use super::{
    api::VolumeApi,
    atomic,
    kind::{Content, Source},
    ownership::FsGroup,
    payload::{Found, Reader, render},
    place::Place,
    problem::{Problem, blocking},
    tokens::{Token, TokenKey, refresh_at},
    watches::{Watched, Watches},
};
use crate::{
    chance::Chance,
    clock::Clock,
    ids::PodUid,
    seams::{PodFacts, VolumeError},
    source::Recorder,
};

/// A watch that has not listed by then is in trouble; the life cycle tries again.
const SYNC_WAIT: Duration = Duration::from_secs(10);
/// Between two tries of an update that failed.
const RETRY_SECS: i64 = 10;

/// What the content volumes of all pods share.
#[derive(Debug)]
pub(super) struct Sources {
    pub api: Arc<dyn VolumeApi>,
    pub config_maps: Watches<ConfigMap>,
    pub secrets: Watches<Secret>,
    pub facts: PodFacts,
    pub clock: Clock,
    pub chance: Chance,
    pub recorder: Recorder,
    pub place: Place,
}

/// One volume with its place on the host.
#[derive(Debug, Clone)]
pub(super) struct ContentVolume {
    pub name: String,
    pub content: Content,
    pub directory: PathBuf,
}

/// The content volumes of one pod. Dropping it ends the updates.
pub(super) struct PodContent {
    shared: Arc<Shared>,
    pod: watch::Sender<Arc<Pod>>,
    end: CancellationToken,
    keeper: Mutex<Option<tokio::task::JoinHandle<()>>>,
}

struct Shared {
    sources: Arc<Sources>,
    volumes: Vec<ContentVolume>,
    config_maps: BTreeMap<String, Arc<Watched<ConfigMap>>>,
    secrets: BTreeMap<String, Arc<Watched<Secret>>>,
    tokens: Mutex<BTreeMap<TokenKey, Token>>,
    /// One update at a time: the writer of a directory is alone.
    updating: Arc<tokio::sync::Mutex<()>>,
    /// One update after the other, from the look at the objects to the files.
    turn: tokio::sync::Mutex<()>,
}

/// Wakes at every change of something that the volumes are made from.
type Changes = SelectAll<BoxStream<'static, ()>>;

impl fmt::Debug for PodContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PodContent({} volumes)", self.shared.volumes.len())
    }
}

impl Drop for PodContent {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

impl PodContent {
    /// Begins to watch what the volumes name.
    pub(super) fn new(sources: Arc<Sources>, pod: Arc<Pod>, volumes: Vec<ContentVolume>) -> Self {
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let (mut config_maps, mut secrets) = (BTreeMap::new(), BTreeMap::new());
        for source in volumes.iter().flat_map(|volume| &volume.content.sources) {
            match source {
                Source::ConfigMap { name, .. } => {
                    let watched = || sources.config_maps.acquire(&namespace, name);
                    config_maps.entry(name.clone()).or_insert_with(watched);
                }
                Source::Secret { name, .. } => {
                    let watched = || sources.secrets.acquire(&namespace, name);
                    secrets.entry(name.clone()).or_insert_with(watched);
                }
                Source::Downward { .. } | Source::Token { .. } => {}
            }
        }
        let (tokens, updating, turn) = (Mutex::default(), Arc::default(), tokio::sync::Mutex::default());
        let shared = Arc::new(Shared { sources, volumes, config_maps, secrets, tokens, updating, turn });
        Self { shared, pod: watch::Sender::new(pod), end: CancellationToken::new(), keeper: Mutex::new(None) }
    }

    /// Writes all volumes as they should be now, and from then on whenever something changes.
    pub(super) async fn ensure(&self, pod: Arc<Pod>) -> Result<(), VolumeError> {
        // Before the first look, so that no change falls between the look and the wait.
        let pods = self.pod.subscribe();
        let changes = self.shared.changes(&pods);
        // The keeper sees this as a change, and finds nothing to write.
        self.pod.send_replace(pod);
        self.shared.update(&pods).await?;
        let mut keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        if keeper.is_none() && !self.end.is_cancelled() {
            let (shared, end) = (Arc::clone(&self.shared), self.end.clone());
            *keeper = Some(tokio::spawn(async move {
                // Cancel-safe: an update cut short is taken up by the next start, or its directory is about to go.
                tokio::select! {
                    () = end.cancelled() => {}
                    () = shared.keep(pods, changes) => {}
                }
            }));
        }
        Ok(())
    }

    /// Ends the updates and waits for the last.
    pub(super) async fn stop(&self) {
        self.end.cancel();
        let keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(keeper) = keeper {
            // A keeper that panicked has ended too.
            let _ = keeper.await;
        }
        // File work goes on after its task has ended, and holds this.
        drop(self.shared.updating.lock().await);
    }
}

impl Shared {
    async fn keep(&self, pods: watch::Receiver<Arc<Pod>>, mut changes: Changes) {
        let mut said: Option<String> = None;
        loop {
            let wake_at = self.next_refresh(said.is_some());
            let sleep = async {
                match wake_at {
                    Some(at) => tokio::time::sleep(self.until(at)).await,
                    None => std::future::pending().await,
                }
            };
            // Cancel-safe: a change that is not taken out of its stream stays there.
            tokio::select! {
                change = changes.next() => if change.is_none() { return },
                () = sleep => {}
            }
            let problem = self.update(&pods).await.err().map(|error| error.message);
            let pod = Arc::clone(&pods.borrow());
            if let Some(message) = problem.as_ref().filter(|message| said.as_ref() != Some(message)) {
                self.sources.recorder.pod(&pod, None, true, "FailedMount", message);
            }
            said = problem;
        }
    }

    fn changes(&self, pods: &watch::Receiver<Arc<Pod>>) -> Changes {
        let mut all = SelectAll::new();
        all.push(WatchStream::from_changes(pods.clone()).map(drop).boxed());
        for watched in self.config_maps.values() {
            all.push(WatchStream::from_changes(watched.informer.subscribe()).map(drop).boxed());
        }
        for watched in self.secrets.values() {
            all.push(WatchStream::from_changes(watched.informer.subscribe()).map(drop).boxed());
        }
        all
    }

    fn until(&self, at: Timestamp) -> Duration {
        Duration::try_from(at.duration_since(self.sources.clock.now())).unwrap_or_default()
    }

    /// When something is due without a change: a token, or another try.
    fn next_refresh(&self, failing: bool) -> Option<Timestamp> {
        if failing {
            return Some(self.retry_at());
        }
        let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.values().map(|token| token.refresh_at).min()
    }

    fn retry_at(&self) -> Timestamp {
        let now = self.sources.clock.now();
        now.checked_add(SignedDuration::from_secs(RETRY_SECS)).unwrap_or(now)
    }

    /// Brings all volumes in line. The first problem is returned; the other volumes are written all the same.
    async fn update(&self, pods: &watch::Receiver<Arc<Pod>>) -> Result<(), VolumeError> {
        let _turn = self.turn.lock().await;
        // Read in turn: whoever waited must not write what an earlier pod said over what a later one says.
        let pod = Arc::clone(&pods.borrow());
        let mut first = Ok(());
        for volume in &self.volumes {
            let result = self.update_one(&pod, volume).await.map_err(|problem| problem.of_volume(&volume.name));
            if first.is_ok() {
                first = result;
            }
        }
        first
    }

    async fn update_one(&self, pod: &Pod, volume: &ContentVolume) -> Result<(), Problem> {
        let found = self.look_up(pod, &volume.content).await?;
        let group = FsGroup::of(pod).map(|group| group.gid);
        let reader = Reader { uid: common_user(pod), fs_group: group };
        let payload = render(&volume.content, pod, &self.sources.facts, &found, reader)?;
        let (directory, now) = (volume.directory.clone(), self.sources.clock.now());
        if let Place::Memory(volumes) = &self.sources.place {
            if let Some(uid) = pod.metadata.uid.as_deref().and_then(PodUid::new) {
                volumes.write(&uid, &directory, payload);
            }
            return Ok(());
        }
        let alone = Arc::clone(&self.updating).lock_owned().await;
        blocking(move || {
            // Held by the work itself, which goes on when its task is dropped.
            let _alone = alone;
            let written = std::fs::create_dir_all(&directory).and_then(|()| {
                let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
                std::fs::set_permissions(&directory, open)?;
                atomic::write(&directory, &payload, group, now)
            });
            written.map(drop).map_err(|error| Problem::io("cannot write the files", &error))
        })
        .await
    }

    async fn look_up(&self, pod: &Pod, content: &Content) -> Result<Found, Problem> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let mut found = Found::default();
        for source in &content.sources {
            match source {
                Source::ConfigMap { name, .. } => {
                    let Some(watched) = self.config_maps.get(name) else { continue };
                    synced("configmap", name, watched.informer.synced()).await?;
                    let object = watched.informer.get(namespace, name);
                    found.config_maps.extend(object.map(|object| (name.clone(), object)));
                }
                Source::Secret { name, .. } => {
                    let Some(watched) = self.secrets.get(name) else { continue };
                    synced("secret", name, watched.informer.synced()).await?;
                    let object = watched.informer.get(namespace, name);
                    found.secrets.extend(object.map(|object| (name.clone(), object)));
                }
                Source::Downward { .. } => {}
                Source::Token { audience, expiration_secs, .. } => {
                    let key = TokenKey { audience: audience.clone(), expiration_secs: *expiration_secs };
                    let token = self.token(pod, &key).await?;
                    found.tokens.insert(key, token);
                }
            }
        }
        Ok(found)
    }

    /// Returns a token that is good for a while, asked for anew when the last is not.
    async fn token(&self, pod: &Pod, key: &TokenKey) -> Result<String, Problem> {
        let now = self.sources.clock.now();
        let cached = self.tokens.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned();
        if let Some(token) = cached.as_ref().filter(|token| now < token.refresh_at) {
            return Ok(token.value.clone());
        }
        let meta = &pod.metadata;
        let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone());
        let account = account.unwrap_or_else(|| "default".to_owned());
        let spec = TokenRequestSpec {
            audiences: key.audience.clone().map(|audience| vec![audience]).unwrap_or_default(),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: meta.name.clone(),
                uid: meta.uid.clone(),
            }),
            expiration_seconds: Some(key.expiration_secs),
        };
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let answer = self.sources.api.token(namespace, &account, spec).await;
        let token = match (answer, cached.filter(|token| now < token.expires_at)) {
            (Ok(answer), _) => {
                let expires_at = answer.expiration_timestamp.0;
                let refresh_at = refresh_at(now, expires_at, self.sources.chance.unit());
                Token { value: answer.token, refresh_at, expires_at }
            }
            // The old one still opens doors.
            (Err(failure), Some(token)) => {
                tracing::warn!(%failure, pod.name = meta.name, "service account token not renewed");
                Token { refresh_at: self.retry_at(), ..token }
            }
            (Err(failure), None) => return Err(Problem::passing(format!("failed to fetch token: {failure}"))),
        };
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), token.clone());
        Ok(token.value)
    }
}

async fn synced(kind: &str, name: &str, synced: impl Future<Output = ()>) -> Result<(), Problem> {
    let waited = tokio::time::timeout(SYNC_WAIT, synced).await;
    waited.map_err(|_| Problem::passing(format!("failed to sync {kind} {name:?}: timed out waiting for the condition")))
}

/// The user that all containers of a pod run as, when the manifest says so.
fn common_user(pod: &Pod) -> Option<u32> {
    let spec = pod.spec.as_ref()?;
    let of_pod = spec.security_context.as_ref().and_then(|context| context.run_as_user);
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let mut users = containers.map(|container| {
        let own = container.security_context.as_ref().and_then(|context| context.run_as_user);
        own.or(of_pod)
    });
    let first = users.next()??;
    users.all(|user| user == Some(first)).then(|| u32::try_from(first).ok())?
}
