//! The cache against a backend that breaks off, forgets and floods.

use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use drover_store::{ChangeStream, Error, KeyValue, Operation, Range, RangeResult, Transaction, TransactionResult};
use futures::StreamExt;

use super::*;
use crate::{registry, registry::testing::kind, volatile::Volatile};

/// A backend whose streams break.
#[derive(Debug)]
struct Flaky {
    inner: Volatile,
    /// Changes that a stream delivers before it breaks; 0: it never does.
    items: AtomicUsize,
    /// How streams break.
    fault: Mutex<Error>,
    opened: AtomicUsize,
}

impl Flaky {
    fn new(items: usize) -> Arc<Self> {
        let fault = Mutex::new(Error::Unavailable("cut".to_owned()));
        let items = AtomicUsize::new(items);
        Arc::new(Self { inner: Volatile::new(1, Vec::new()), items, fault, opened: AtomicUsize::new(0) })
    }

    async fn put(&self, name: &str, value: usize) -> Revision {
        let stored = format!(
            r#"{{"kind":"ConfigMap","apiVersion":"v1","metadata":{{"name":"{name}"}},"data":{{"v":"{value}"}}}}"#
        );
        let key = registry::key(kind("", "configmaps"), "ns", name).into();
        self.write(Operation::Put { key, value: stored.into() }).await
    }

    async fn write(&self, operation: Operation) -> Revision {
        let transaction = Transaction { compares: Vec::new(), operations: vec![operation] };
        match self.inner.commit(transaction).await.expect("memory") {
            TransactionResult::Committed { revision } | TransactionResult::Conflict { revision, .. } => revision,
        }
    }
}

#[async_trait]
impl Backend for Flaky {
    async fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, Error> {
        self.inner.get(key).await
    }

    async fn range(&self, range: Range) -> Result<RangeResult, Error> {
        self.inner.range(range).await
    }

    async fn commit(&self, transaction: Transaction) -> Result<TransactionResult, Error> {
        self.inner.commit(transaction).await
    }

    async fn changes(&self, prefix: &[u8], after: Revision) -> Result<ChangeStream, Error> {
        self.opened.fetch_add(1, Ordering::Relaxed);
        let stream = self.inner.changes(prefix, after).await?;
        let items = self.items.load(Ordering::Relaxed);
        if items == 0 {
            return Ok(stream);
        }
        let fault = self.fault.lock().expect("not poisoned").clone();
        Ok(stream.take(items).chain(futures::stream::iter([Err(fault)])).boxed())
    }

    async fn revision(&self) -> Result<Revision, Error> {
        self.inner.revision().await
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.inner.compact(revision).await
    }
}

struct Fixture {
    cache: Arc<Cache>,
    shutdown: CancellationToken,
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Fixture {
    async fn start(backend: &Arc<Flaky>) -> Self {
        let cache = Arc::new(Cache::new(std::iter::once(kind("", "configmaps")), registry::prefix));
        let shutdown = CancellationToken::new();
        let backend: Arc<dyn Backend> = backend.clone();
        cache.start(backend, registry::ROOT, shutdown.clone()).await.expect("memory");
        Self { cache, shutdown }
    }

    fn configs(&self) -> &KindCache {
        self.cache.kind(kind("", "configmaps")).expect("cached")
    }

    fn watch(&self) -> Watcher {
        self.cache.watch(self.configs(), self.cache.applied(), Selection::default())
    }
}

fn told(changes: Vec<Change>) -> Vec<String> {
    let tell = |change| match change {
        Change::Added(object) => format!("+{}", object.to_value()["data"]["v"]),
        Change::Modified(object) => format!("~{}", object.to_value()["data"]["v"]),
        Change::Deleted(object) => format!("-{}", object.to_value()["data"]["v"]),
    };
    changes.into_iter().map(tell).collect()
}

async fn take(watcher: &mut Watcher, count: usize) -> Vec<String> {
    let mut all = Vec::new();
    while all.len() < count {
        all.extend(told(watcher.next().await.expect("an open watch")));
    }
    all
}

#[tokio::test(start_paused = true)]
async fn a_broken_stream_is_resumed_without_gap_or_repetition() {
    let backend = Flaky::new(2);
    let fixture = Fixture::start(&backend).await;
    let mut watcher = fixture.watch();
    let mut last = 0;
    for value in 0..9 {
        last = backend.put("a", value).await;
    }
    fixture.cache.wait_for(last).await.expect("resumed");
    let expected: Vec<String> =
        (0..9).map(|value| if value == 0 { "+\"0\"".to_owned() } else { format!("~\"{value}\"") }).collect();
    assert_eq!(take(&mut watcher, 9).await, expected);
    assert!(backend.opened.load(Ordering::Relaxed) > 4);
}

#[tokio::test(start_paused = true)]
async fn after_compaction_the_cache_is_right_and_its_watchers_must_list_again() {
    let backend = Flaky::new(1);
    *backend.fault.lock().expect("not poisoned") = Error::Compacted { oldest: 1 };
    let fixture = Fixture::start(&backend).await;
    let mut watcher = fixture.watch();
    backend.put("a", 1).await;
    backend.put("b", 2).await;
    let last = backend.put("c", 3).await;
    fixture.cache.wait_for(last).await.expect("rebuilt");
    assert_eq!(fixture.configs().snapshot().objects.len(), 3);
    let error = loop {
        match watcher.next().await {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.code, 410);
}

#[tokio::test]
async fn a_watcher_that_falls_off_the_ring_is_told_and_holds_nobody_up() {
    let backend = Flaky::new(0);
    let fixture = Fixture::start(&backend).await;
    let (mut slow, mut quick) = (fixture.watch(), fixture.watch());
    let mut seen = 0;
    for value in 0..snapshot::RING_EVENTS + 100 {
        let revision = backend.put("a", value).await;
        if value % 500 == 0 {
            fixture.cache.wait_for(revision).await.expect("in time");
            seen += take(&mut quick, value + 1 - seen).await.len();
        }
    }
    let last = backend.put("a", 0).await;
    fixture.cache.wait_for(last).await.expect("in time");
    take(&mut quick, snapshot::RING_EVENTS + 101 - seen).await;
    let error = slow.next().await.expect_err("the ring has moved on");
    assert_eq!((error.code, error.reason), (410, "Expired"));
}

#[tokio::test]
async fn a_bookmark_is_never_ahead_of_what_was_delivered() {
    let backend = Flaky::new(0);
    let fixture = Fixture::start(&backend).await;
    let mut watcher = fixture.watch();
    let before = fixture.cache.applied();
    let first = backend.put("a", 1).await;
    fixture.cache.wait_for(first).await.expect("in time");
    assert_eq!(watcher.delivered(), before, "the change is still to come");
    take(&mut watcher, 1).await;
    let other = backend.write(Operation::Put { key: "/registry/core/secrets/ns/s".into(), value: "{}".into() }).await;
    fixture.cache.wait_for(other).await.expect("in time");
    assert_eq!(watcher.delivered(), other, "other kinds move it on");
}

#[tokio::test]
async fn a_value_that_is_no_object_is_skipped() {
    let backend = Flaky::new(0);
    let fixture = Fixture::start(&backend).await;
    let key = registry::key(kind("", "configmaps"), "ns", "junk").into();
    backend.write(Operation::Put { key, value: "junk".into() }).await;
    let last = backend.put("a", 1).await;
    fixture.cache.wait_for(last).await.expect("in time");
    assert_eq!(fixture.configs().snapshot().objects.len(), 1);
}
