//! The one watch on the backend: applies whole revisions in order, reconnects, rebuilds after compaction.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use drover_store::{Backend, Changes, Error, EventKind, KeyValue, Range, Revision};
use futures::StreamExt;
use imbl::OrdMap;
use tokio::task::JoinHandle;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{
    Cache, KindCache,
    object::Object,
    snapshot::{Event, RING_BYTES, RING_EVENTS},
};

/// First pause after a lost watch; doubled up to [`BACKOFF_MAX`].
const BACKOFF_MIN: Duration = Duration::from_millis(50);
/// Readers are stale while we wait, so the pause stays short.
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// How far back the first fill starts, so that clients of an earlier process can resume their watches.
const HISTORY: Revision = 4096;

/// Keys to a page of a list: enough to make decoding one worth a task.
const LIST_PAGE: usize = 4096;
/// So often history may be compacted under a list before the newest state must do.
const LIST_TRIES: usize = 3;

/// What a list found of one kind.
#[derive(Default)]
struct Fill {
    objects: Vec<(Arc<str>, Arc<Object>)>,
    /// Objects that cannot be read, and why.
    unreadable: Vec<(Arc<str>, Arc<str>)>,
}

/// The new state of an object, `None` when it was removed; or why it cannot be read.
type Update = (Arc<str>, Result<Option<Object>, Arc<str>>);

pub(super) async fn start(
    cache: Arc<Cache>,
    backend: Arc<dyn Backend>,
    root: &'static str,
    shutdown: CancellationToken,
) -> Result<JoinHandle<()>, Error> {
    let target = backend.revision().await?;
    let from = rebuild(&cache, &backend, root, Some(target.saturating_sub(HISTORY).max(1))).await?;
    tracing::debug!(from, target, "cache filled, replaying recent history");
    let filled = Arc::clone(&cache);
    let task = spawn(cache, backend, root, shutdown);
    // The replay ends by itself; when it cannot reach the target, reads answer 504 and the log says why.
    if let Err(error) = filled.wait_for(target).await {
        tracing::warn!(%error, "cache is behind the store at start");
    }
    Ok(task)
}

pub(super) async fn start_lazily(
    cache: Arc<Cache>,
    backend: Arc<dyn Backend>,
    root: &'static str,
    shutdown: CancellationToken,
) -> JoinHandle<()> {
    match start(Arc::clone(&cache), Arc::clone(&backend), root, shutdown.clone()).await {
        Ok(task) => task,
        Err(error) => {
            tracing::warn!(%error, "the cache cannot be filled yet");
            spawn(cache, backend, root, shutdown)
        }
    }
}

fn spawn(
    cache: Arc<Cache>,
    backend: Arc<dyn Backend>,
    root: &'static str,
    shutdown: CancellationToken,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        tokio::select! {
            // Cancel-safe: a dropped feed only stops applying, between whole revisions.
            () = run(cache, backend, root) => {}
            () = shutdown.cancelled() => {}
        }
    })
}

async fn run(cache: Arc<Cache>, backend: Arc<dyn Backend>, root: &'static str) {
    let mut pause = BACKOFF_MIN;
    loop {
        let before = cache.applied();
        let error = follow(&cache, &*backend, root).await;
        if cache.applied() > before {
            pause = BACKOFF_MIN;
        }
        tracing::warn!(error = %error, after = cache.applied(), "the watch on the store ended, reconnecting");
        let compacted = matches!(error, Error::Compacted { .. });
        if compacted && rebuild(&cache, &backend, root, None).await.is_ok() {
            continue;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(BACKOFF_MAX);
    }
}

/// Applies the stream until it ends, and says why it did.
async fn follow(cache: &Cache, backend: &dyn Backend, root: &str) -> Error {
    let again = Revision::from(drover_api::mutants::active("W02-resends-on-reconnect"));
    let mut stream = match backend.changes(root.as_bytes(), cache.applied().saturating_sub(again)).await {
        Ok(stream) => stream,
        Err(error) => return error,
    };
    while let Some(item) = stream.next().await {
        match item {
            Ok(changes) => apply(cache, &changes),
            Err(error) => return error,
        }
    }
    Error::Unavailable("the stream ended".to_owned())
}

/// Applies the events of one revision: first to every kind, then to the revision that readers wait for.
fn apply(cache: &Cache, Changes { revision, events }: &Changes) {
    let revision = *revision;
    if revision <= cache.applied() && !drover_api::mutants::active("W02-resends-on-reconnect") {
        return;
    }
    let mut by_kind: BTreeMap<usize, Vec<Update>> = BTreeMap::new();
    for event in events {
        let Some((index, kind_cache, key)) = locate(cache, &event.current.key) else { continue };
        let object = match event.kind {
            EventKind::Put => match Object::decode(kind_cache.kind, event.current.mod_revision, &event.current.value) {
                Ok(object) => Ok(Some(object)),
                Err(error) => Err(unreadable(kind_cache, &key, &error)),
            },
            EventKind::Delete => Ok(None),
        };
        by_kind.entry(index).or_default().push((key, object));
    }
    for (index, changes) in by_kind {
        publish(&cache.kinds[index], revision, changes);
    }
    cache.applied.send_replace(revision);
}

fn publish(cache: &KindCache, revision: Revision, changes: Vec<Update>) {
    cache.state.send_modify(|snapshot| {
        for (key, object) in changes {
            let object = match object {
                Ok(object) => object,
                Err(why) => {
                    snapshot.mark_unreadable(key, why);
                    continue;
                }
            };
            let previous = snapshot.objects.get(&key).cloned();
            snapshot.unreadable.remove(&key);
            if object.is_some() || previous.is_some() {
                snapshot.apply(Event::new(revision, key, object.map(Arc::new), previous));
            }
        }
        snapshot.trim(RING_EVENTS, RING_BYTES);
    });
}

/// Says which object cannot be read: once in the log, and to everyone who asks for it.
fn unreadable(cache: &KindCache, key: &str, error: &super::ObjectError) -> Arc<str> {
    let resource = cache.kind.qualified_resource();
    tracing::error!(object.resource = %resource, object.key = %key, %error, "a stored object cannot be read");
    Arc::from(error.to_string())
}

fn locate<'a>(cache: &'a Cache, key: &[u8]) -> Option<(usize, &'a KindCache, Arc<str>)> {
    let index = cache.kinds.iter().position(|kind| key.starts_with(&kind.prefix))?;
    let kind_cache = &cache.kinds[index];
    let name = std::str::from_utf8(&key[kind_cache.prefix.len()..]).ok()?;
    Some((index, kind_cache, name.into()))
}

/// Lists everything at `at` (or as close to it as history allows; `None`: now) and starts every cache over from there.
async fn rebuild(
    cache: &Arc<Cache>,
    backend: &Arc<dyn Backend>,
    root: &'static str,
    at: Option<Revision>,
) -> Result<Revision, Error> {
    let (fills, revision) = list(cache, backend, root, at).await?;
    for (kind_cache, fill) in cache.kinds.iter().zip(fills) {
        let objects: OrdMap<Arc<str>, Arc<Object>> = fill.objects.into_iter().collect();
        kind_cache.state.send_modify(|snapshot| {
            *snapshot = snapshot.rebuilt(objects, revision);
            fill.unreadable.into_iter().for_each(|(key, why)| snapshot.mark_unreadable(key, why));
        });
    }
    cache.applied.send_replace(revision);
    Ok(revision)
}

/// Lists everything at `at`, or at the nearest revision that is not compacted under the list.
async fn list(
    cache: &Arc<Cache>,
    backend: &Arc<dyn Backend>,
    root: &'static str,
    at: Option<Revision>,
) -> Result<(Vec<Fill>, Revision), Error> {
    let mut wanted = at;
    for _ in 0..LIST_TRIES {
        match list_at(cache, backend, root, wanted).await {
            Err(Error::Compacted { oldest }) => wanted = wanted.map(|_| oldest),
            Err(Error::Future { .. }) => wanted = None,
            answer => return answer,
        }
    }
    list_at(cache, backend, root, None).await
}

/// Reads the keys page by page; what was read is decoded meanwhile, on every core.
async fn list_at(
    cache: &Arc<Cache>,
    backend: &Arc<dyn Backend>,
    root: &'static str,
    at: Option<Revision>,
) -> Result<(Vec<Fill>, Revision), Error> {
    let first = Range { prefix: root.into(), limit: LIST_PAGE, at, ..Range::default() };
    let mut page = backend.range(first.clone()).await?;
    let revision = at.unwrap_or(page.revision);
    let mut decoding = Vec::new();
    loop {
        let after = page.items.last().filter(|_| page.more).map(|item| item.key.clone());
        let (cache, items) = (Arc::clone(cache), page.items);
        decoding.push(AbortOnDropHandle::new(tokio::spawn(async move { decode(&cache, &items) })));
        let Some(after) = after else { break };
        page = backend.range(Range { after, at: Some(revision), ..first.clone() }).await?;
    }
    let mut fills = empty(cache);
    for page in decoding {
        let page = page.await.map_err(|error| Error::Unavailable(format!("a page was not decoded: {error}")))?;
        for (fill, more) in fills.iter_mut().zip(page) {
            fill.objects.extend(more.objects);
            fill.unreadable.extend(more.unreadable);
        }
    }
    Ok((fills, revision))
}

fn empty(cache: &Cache) -> Vec<Fill> {
    cache.kinds.iter().map(|_| Fill::default()).collect()
}

fn decode(cache: &Cache, items: &[KeyValue]) -> Vec<Fill> {
    let mut fills = empty(cache);
    for item in items {
        let Some((index, kind_cache, key)) = locate(cache, &item.key) else { continue };
        match Object::decode(kind_cache.kind, item.mod_revision, &item.value) {
            Ok(object) => fills[index].objects.push((key, Arc::new(object))),
            Err(error) => {
                let why = unreadable(kind_cache, &key, &error);
                fills[index].unreadable.push((key, why));
            }
        }
    }
    fills
}
