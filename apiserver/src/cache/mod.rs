//! Reads from memory: one watch on the backend feeds a snapshot and a ring of events for every kind.
//!
//! Owns what readers see and when ([`Cache::wait_for`]). May not write. A reader never blocks the feed and the feed
//! never waits for a reader: watchers pull from immutable snapshots, and one that falls off the ring gets a 410.

mod feed;
mod object;
mod selectable;
mod snapshot;
#[cfg(test)]
mod tests;
mod watcher;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use drover_api::{kinds::Kind, status::ApiError};
use drover_store::{Backend, Revision};
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use object::{Error as ObjectError, Object};
pub use selectable::Selectable;
pub use snapshot::{Event, Snapshot, range};
pub use watcher::{Change, Selection, Watcher};

/// How long a reader waits for a revision that has not arrived: Kubernetes' three seconds.
const WAIT_FOR_REVISION: Duration = Duration::from_secs(3);

/// The caches of the kinds that live in one backend.
#[derive(Debug)]
pub struct Cache {
    kinds: Vec<KindCache>,
    applied: watch::Sender<Revision>,
}

/// The cache of one kind.
#[derive(Debug)]
pub struct KindCache {
    /// The kind that is stored (never a second view of it).
    pub kind: &'static Kind,
    prefix: Bytes,
    state: watch::Sender<Snapshot>,
}

impl Cache {
    /// Builds empty caches for `kinds`; `prefix_of` names the keys of a kind.
    pub fn new(kinds: impl Iterator<Item = &'static Kind>, prefix_of: fn(&Kind) -> String) -> Self {
        let kinds = kinds
            .map(|kind| KindCache {
                kind,
                prefix: prefix_of(kind).into(),
                state: watch::Sender::new(Snapshot::default()),
            })
            .collect();
        Self { kinds, applied: watch::Sender::new(0) }
    }

    /// Fills the caches and keeps them filled until `shutdown`. Returns the task once the first fill is complete.
    ///
    /// # Errors
    /// The backend's error when the first listing fails.
    pub async fn start(
        self: &Arc<Self>,
        backend: Arc<dyn Backend>,
        root: &'static str,
        shutdown: CancellationToken,
    ) -> Result<tokio::task::JoinHandle<()>, drover_store::Error> {
        feed::start(Arc::clone(self), backend, root, shutdown).await
    }

    /// Like [`start`](Self::start), but a backend that cannot be read yet is no error: the caches fill when it can.
    pub(crate) async fn start_lazily(
        self: &Arc<Self>,
        backend: Arc<dyn Backend>,
        root: &'static str,
        shutdown: CancellationToken,
    ) -> tokio::task::JoinHandle<()> {
        feed::start_lazily(Arc::clone(self), backend, root, shutdown).await
    }

    /// Returns every object as it is stored, under its full key.
    pub(crate) fn stored(&self) -> Vec<(Bytes, Bytes)> {
        let of_kind = |kind: &KindCache| {
            let prefix = kind.prefix.clone();
            let snapshot = kind.snapshot();
            let stored = snapshot
                .objects
                .iter()
                .map(move |(key, object)| ([prefix.as_ref(), key.as_bytes()].concat().into(), object.to_stored()));
            stored.collect::<Vec<(Bytes, Bytes)>>()
        };
        self.kinds.iter().flat_map(of_kind).collect()
    }

    /// Returns the cache of a stored kind.
    pub fn kind(&self, kind: &Kind) -> Option<&KindCache> {
        self.kinds.iter().find(|cache| cache.kind.plural == kind.plural && cache.kind.group == kind.group)
    }

    /// Returns the revision up to which every cache is complete.
    pub fn applied(&self) -> Revision {
        *self.applied.borrow()
    }

    /// Waits until every change up to `revision` is visible.
    ///
    /// # Errors
    /// 504 `Too large resource version` when it does not arrive within three seconds.
    pub async fn wait_for(&self, revision: Revision) -> Result<(), ApiError> {
        if self.applied() >= revision || drover_api::mutants::active("W05-future-is-now") {
            return Ok(());
        }
        let mut applied = self.applied.subscribe();
        let arrived = applied.wait_for(|applied| *applied >= revision);
        if tokio::time::timeout(WAIT_FOR_REVISION, arrived).await.is_ok() {
            return Ok(());
        }
        Err(too_large(revision, self.applied()))
    }

    /// Returns a consistent snapshot of a kind and the newest revision it is known to be complete at.
    pub fn snapshot(&self, cache: &KindCache) -> (Snapshot, Revision) {
        let applied = self.applied();
        let snapshot = cache.snapshot();
        let revision = applied.max(snapshot.revision);
        (snapshot, revision)
    }

    /// Starts watching a kind after `revision`.
    pub fn watch(&self, cache: &KindCache, revision: Revision, selection: Selection) -> Watcher {
        Watcher::new(cache.kind, cache.state.subscribe(), self.applied.subscribe(), revision, selection)
    }
}

impl KindCache {
    /// Returns the newest snapshot.
    pub fn snapshot(&self) -> Snapshot {
        self.state.borrow().clone()
    }

    /// Returns one object by its cache key (`namespace/name`, or `name`).
    pub fn get(&self, key: &str) -> Option<Arc<Object>> {
        self.state.borrow().objects.get(key).cloned()
    }

    /// Forgets the ring of events, as a flood of changes would.
    #[cfg(test)]
    pub(crate) fn forget_history(&self) {
        self.state.send_modify(|snapshot| snapshot.trim(0, 0));
    }
}

/// 504 for a revision that has not happened, worded and caused as client-go expects.
pub(crate) fn too_large(asked: Revision, newest: Revision) -> ApiError {
    let mut error =
        ApiError::new(504, "Timeout", format!("Timeout: Too large resource version: {asked}, current: {newest}"));
    error.details = json!({
        "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
        "retryAfterSeconds": 1,
    });
    error
}

/// 410 for history that is gone.
pub(crate) fn too_old(asked: Revision, oldest: Revision) -> ApiError {
    ApiError::expired(format!("too old resource version: {asked} ({oldest})"))
}
