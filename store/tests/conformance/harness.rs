//! A backend to test, its restart, and short words for what the cases do all the time.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use drover_store::embedded::Options;
use drover_store::{
    Backend, Changes, Compare, Error, Event, EventKind, KeyValue, Operation, Range, Retention, Revision, Transaction,
    TransactionResult,
};
use futures::StreamExt;

/// A backend under test.
#[async_trait]
pub(crate) trait Harness: Send {
    fn backend(&self) -> Arc<dyn Backend>;

    /// Stops the store and starts it again on the same data.
    async fn reopen(&mut self) -> Arc<dyn Backend>;
}

/// The embedded store in a temporary directory.
pub(crate) struct Embedded {
    dir: tempfile::TempDir,
    store: Arc<drover_store::Embedded>,
}

impl Embedded {
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Self::open(dir.path());
        Self { dir, store }
    }

    fn open(dir: &std::path::Path) -> Arc<drover_store::Embedded> {
        // The cases compact by themselves.
        let retention = Retention { keep_revisions: u64::MAX, interval: Duration::from_secs(3600) };
        drover_store::Embedded::open(dir, Options { retention, ..Options::default() }).unwrap()
    }
}

#[async_trait]
impl Harness for Embedded {
    fn backend(&self) -> Arc<dyn Backend> {
        Arc::clone(&self.store) as Arc<dyn Backend>
    }

    async fn reopen(&mut self) -> Arc<dyn Backend> {
        self.store.close();
        self.store = Self::open(self.dir.path());
        self.backend()
    }
}

/// Everything a case may wait for, generously: a missing event fails the test instead of hanging it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub(crate) fn put_op(key: &str, value: &str) -> Operation {
    Operation::Put { key: bytes(key), value: bytes(value) }
}

pub(crate) fn delete_op(key: &str) -> Operation {
    Operation::Delete { key: bytes(key) }
}

pub(crate) fn compare(key: &str, mod_revision: Revision) -> Compare {
    Compare { key: bytes(key), mod_revision }
}

pub(crate) fn under(prefix: &str) -> Range {
    Range { prefix: bytes(prefix), ..Range::default() }
}

pub(crate) async fn commit(
    backend: &dyn Backend,
    compares: Vec<Compare>,
    operations: Vec<Operation>,
) -> TransactionResult {
    backend.commit(Transaction { compares, operations }).await.unwrap()
}

/// Writes without preconditions.
pub(crate) async fn write(backend: &dyn Backend, operations: Vec<Operation>) -> Revision {
    committed(commit(backend, vec![], operations).await)
}

pub(crate) async fn put(backend: &dyn Backend, key: &str, value: &str) -> Revision {
    write(backend, vec![put_op(key, value)]).await
}

pub(crate) async fn delete(backend: &dyn Backend, key: &str) -> Revision {
    write(backend, vec![delete_op(key)]).await
}

pub(crate) fn committed(result: TransactionResult) -> Revision {
    match result {
        TransactionResult::Committed { revision } => revision,
        TransactionResult::Conflict { current, revision } => panic!("conflict at {revision} with {current:?}"),
    }
}

pub(crate) fn conflict(result: TransactionResult) -> (Vec<Option<KeyValue>>, Revision) {
    match result {
        TransactionResult::Conflict { current, revision } => (current, revision),
        TransactionResult::Committed { revision } => panic!("committed at {revision} where a conflict was due"),
    }
}

/// Keys and values under a prefix.
pub(crate) async fn pairs(backend: &dyn Backend, range: Range) -> Vec<(String, String)> {
    backend.range(range).await.unwrap().items.iter().map(pair).collect()
}

pub(crate) fn pair(kv: &KeyValue) -> (String, String) {
    (String::from_utf8_lossy(&kv.key).into_owned(), String::from_utf8_lossy(&kv.value).into_owned())
}

pub(crate) fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// A watch whose items are waited for with patience.
pub(crate) struct Watch(drover_store::WatchStream);

impl Watch {
    pub(crate) async fn open(backend: &dyn Backend, prefix: &str, after: Revision) -> Self {
        Self(backend.watch(prefix.as_bytes(), after).await.unwrap())
    }

    pub(crate) async fn next(&mut self) -> Result<Vec<Event>, Error> {
        let item =
            tokio::time::timeout(PATIENCE, self.0.next()).await.expect("an item of the watch within the patience");
        item.expect("a watch does not end without an error")
    }

    /// The next item as text: `+key=value` for a create, `~key=value (old)` for a change, `-key (old)` for a delete.
    pub(crate) async fn text(&mut self) -> String {
        let events = self.next().await.unwrap();
        events.iter().map(describe).collect::<Vec<_>>().join(" ")
    }
}

fn describe(event: &Event) -> String {
    let (key, value) = pair(&event.current);
    match (event.kind, &event.previous) {
        (EventKind::Put, None) => format!("+{key}={value}"),
        (EventKind::Put, Some(previous)) => format!("~{key}={value} ({})", pair(previous).1),
        (EventKind::Delete, Some(previous)) => format!("-{key} ({})", pair(previous).1),
        (EventKind::Delete, None) => format!("-{key} of nothing"),
    }
}

/// Collects changes up to and including revision `until`.
pub(crate) async fn changes_until(
    backend: &dyn Backend,
    prefix: &str,
    after: Revision,
    until: Revision,
) -> Vec<Changes> {
    let mut stream = backend.changes(prefix.as_bytes(), after).await.unwrap();
    let mut found = Vec::new();
    let mut at = after;
    while at < until {
        let item = tokio::time::timeout(PATIENCE, stream.next()).await.expect("changes within the patience");
        let changes = item.expect("changes do not end").unwrap();
        assert!(changes.revision > at, "revisions must increase, {} came after {at}", changes.revision);
        at = changes.revision;
        found.push(changes);
    }
    found
}

/// Waits until an opened watch fails, and says how.
pub(crate) async fn watch_error(backend: &dyn Backend, prefix: &str, after: Revision) -> Error {
    match backend.watch(prefix.as_bytes(), after).await {
        Err(error) => error,
        Ok(stream) => Watch(stream).next().await.expect_err("the watch should have failed"),
    }
}
