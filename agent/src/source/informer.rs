//! A watch kept alive, with its objects in memory.
//!
//! Each informer has its own back-off, so that one broken watch never stops another (stackable/trino-operator#936).

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use futures::StreamExt as _;
use kube::{
    Api, Resource, ResourceExt as _,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event},
    },
};
use serde::de::DeserializeOwned;
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::backoff::WatchBackoff;
use crate::chance::Chance;

/// The objects of one watch. Cheap to clone; clones share the objects.
#[derive(Debug)]
pub struct Informer<K> {
    shared: Arc<Shared<K>>,
}

/// The task behind an informer.
pub type InformerHandle = JoinHandle<()>;

#[derive(Debug)]
struct Shared<K> {
    objects: RwLock<BTreeMap<String, Arc<K>>>,
    state: watch::Sender<InformerState>,
}

/// How current an informer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InformerState {
    /// Completed lists; 0 means that nothing may be concluded from absence yet.
    pub lists: u64,
    /// Changes once a list or event has been taken in.
    pub changes: u64,
    /// The highest resourceVersion of any object or deletion seen.
    pub revision: u64,
    /// Whether the last thing the watch said was an error.
    pub failing: bool,
}

impl<K> Clone for Informer<K> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<K> Default for Informer<K> {
    fn default() -> Self {
        let (state, _) = watch::channel(InformerState::default());
        Self { shared: Arc::new(Shared { objects: RwLock::new(BTreeMap::new()), state }) }
    }
}

impl<K> Informer<K>
where
    K: Resource + Clone + fmt::Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Default,
{
    /// Starts watching; the task ends on `shutdown`.
    pub fn spawn(
        api: Api<K>,
        config: watcher::Config,
        chance: Chance,
        shutdown: CancellationToken,
    ) -> (Self, InformerHandle) {
        let informer = Self::default();
        let clone = informer.clone();
        let handle = tokio::spawn(async move {
            // Cancel-safe: dropping the watch loses nothing that a new one would not list again.
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = clone.follow(api, config, chance) => {}
            }
        });
        (informer, handle)
    }

    async fn follow(&self, api: Api<K>, config: watcher::Config, chance: Chance) {
        let mut stream = watcher::watcher(api, config).backoff(WatchBackoff::new(chance)).boxed();
        let mut pending = None;
        while let Some(event) = stream.next().await {
            match event {
                Ok(event) => self.take(event, &mut pending),
                Err(error) => {
                    tracing::debug!(kind = %K::kind(&K::DynamicType::default()), %error, "watch failed; retrying");
                    self.shared.state.send_modify(|state| state.failing = true);
                }
            }
        }
    }

    fn take(&self, event: Event<K>, pending: &mut Option<BTreeMap<String, Arc<K>>>) {
        match event {
            Event::Init => *pending = Some(BTreeMap::new()),
            Event::InitApply(object) => {
                pending.get_or_insert_default().insert(key_of(&object), Arc::new(object));
            }
            Event::InitDone => {
                let objects = pending.take().unwrap_or_default();
                let revision = objects.values().map(|object| revision_of(object.as_ref())).max().unwrap_or(0);
                *self.shared.objects.write().unwrap_or_else(PoisonError::into_inner) = objects;
                self.note(revision, 1);
            }
            Event::Apply(object) => self.apply(object),
            Event::Delete(object) => self.delete(&object),
        }
    }

    /// Enters or replaces an object, as a watch event would; for simulations that have no watch.
    pub fn apply(&self, object: K) {
        let revision = revision_of(&object);
        let key = key_of(&object);
        self.shared.objects.write().unwrap_or_else(PoisonError::into_inner).insert(key, Arc::new(object));
        self.note(revision, 0);
    }

    /// Drops an object, as a watch event would.
    pub fn delete(&self, object: &K) {
        self.shared.objects.write().unwrap_or_else(PoisonError::into_inner).remove(&key_of(object));
        self.note(revision_of(object), 0);
    }

    /// Marks a list as complete, as a watch would; for simulations that have no watch.
    pub fn mark_listed(&self) {
        self.note(0, 1);
    }

    fn note(&self, revision: u64, lists: u64) {
        self.shared.state.send_modify(|state| {
            state.lists += lists;
            state.changes += 1;
            state.revision = state.revision.max(revision);
            state.failing = false;
        });
    }
}

impl<K> Informer<K> {
    /// Returns all objects, ordered by namespace and name.
    pub fn list(&self) -> Vec<Arc<K>> {
        self.shared.objects.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Returns one object by namespace (empty for cluster-scoped kinds) and name.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        let key = format!("{namespace}/{name}");
        self.shared.objects.read().unwrap_or_else(PoisonError::into_inner).get(&key).cloned()
    }

    /// Returns a receiver that wakes at every change.
    pub fn subscribe(&self) -> watch::Receiver<InformerState> {
        self.shared.state.subscribe()
    }

    /// Returns how current the objects are. Read it before [`Self::list`], so that the objects are at least that new.
    pub fn state(&self) -> InformerState {
        *self.shared.state.borrow()
    }

    /// Waits until the first list is complete.
    pub async fn synced(&self) {
        let mut state = self.subscribe();
        // The sender lives as long as `self`, so this cannot fail.
        let _ = state.wait_for(|state| state.lists > 0).await;
    }
}

fn key_of<K: Resource>(object: &K) -> String {
    let meta = object.meta();
    format!("{}/{}", meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
}

/// The revision of an object as the API gave it; 0 for one that has none.
pub(crate) fn revision_of<K: Resource>(object: &K) -> u64 {
    object.resource_version().and_then(|text| text.parse().ok()).unwrap_or(0)
}
