//! Backup and restore on memory and on the embedded store: consistent under writes, whole after any death, closed to
//! everybody meanwhile, and expired for whoever looked before.

mod death;
mod http;
mod servers;
mod state;
mod witness;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use async_trait::async_trait;
use drover_store::{
    Backend, ChangeStream, Embedded, Error as StoreError, KeyValue, Operation, Range, RangeResult, Revision,
    Transaction, TransactionResult, embedded,
};
use futures::TryStreamExt;

use super::{export::Export, gate::Gate, service::Restores};
use crate::{
    front::Body,
    registry::{ROOT, testing::Fixed, testing::Server},
    request::User,
};

/// The keys of objects and their values.
type State = BTreeMap<String, String>;

/// A store that dies with its process: after so many more commits, every call fails.
#[derive(Debug)]
struct Mortal {
    inner: Arc<dyn Backend>,
    /// Commits left; negative lives for ever.
    commits_left: AtomicI64,
    /// Whether the commit that is one too many happens all the same, without an answer.
    last_one_happens: bool,
}

impl Mortal {
    fn new(inner: Arc<dyn Backend>, last_one_happens: bool) -> Arc<Self> {
        Arc::new(Self { inner, commits_left: AtomicI64::new(-1), last_one_happens })
    }

    fn dies_after(&self, commits: i64) {
        self.commits_left.store(commits, Ordering::SeqCst);
    }

    fn check(&self) -> Result<(), StoreError> {
        if self.commits_left.load(Ordering::SeqCst) == 0 { Err(dead()) } else { Ok(()) }
    }
}

fn dead() -> StoreError {
    StoreError::Unavailable("the process is dead".to_owned())
}

#[async_trait]
impl Backend for Mortal {
    async fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, StoreError> {
        self.check()?;
        self.inner.get(key).await
    }

    async fn range(&self, range: Range) -> Result<RangeResult, StoreError> {
        self.check()?;
        self.inner.range(range).await
    }

    async fn commit(&self, transaction: Transaction) -> Result<TransactionResult, StoreError> {
        self.check()?;
        if self.commits_left.load(Ordering::SeqCst) < 0 {
            return self.inner.commit(transaction).await;
        }
        if self.commits_left.fetch_sub(1, Ordering::SeqCst) > 1 {
            return self.inner.commit(transaction).await;
        }
        if self.last_one_happens {
            self.inner.commit(transaction).await?;
        }
        Err(dead())
    }

    async fn changes(&self, prefix: &[u8], after: Revision) -> Result<ChangeStream, StoreError> {
        self.check()?;
        self.inner.changes(prefix, after).await
    }

    async fn revision(&self) -> Result<Revision, StoreError> {
        self.check()?;
        self.inner.revision().await
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.check()?;
        self.inner.compact(revision).await
    }
}

fn open(dir: &Path) -> Arc<Embedded> {
    let options = embedded::Options { reserve_bytes: 0, ..embedded::Options::default() };
    Embedded::open(dir, options).expect("a fresh directory")
}

/// A server without a front, behind a gate.
struct Fixture {
    gate: Arc<Gate>,
    server: Server,
    restores: Restores,
}

impl Fixture {
    async fn start(backend: Arc<dyn Backend>) -> Self {
        let gate = Gate::open(backend).await.expect("a store");
        super::finisher::finish(&gate, &Fixed::default()).await.expect("a store");
        let server = Server::start_on(gate.clone()).await;
        let restores = Restores {
            gate: Arc::clone(&gate),
            registry: Arc::clone(&server.registry),
            cluster: "c".to_owned(),
            environment: Arc::new(Fixed::default()),
        };
        Self { gate, server, restores }
    }

    async fn backup(&self) -> Vec<u8> {
        backup(&self.gate).await
    }

    /// Takes a file in and closes the gate.
    async fn stage(&self, file: &[u8]) -> Result<(), super::Error> {
        self.restores.stage_file(&User::new("admin", &[]), Body::from(file.to_vec())).await
    }

    async fn restore(&self, file: &[u8]) {
        self.stage(file).await.expect("a good file");
        super::finisher::finish(&self.gate, &Fixed::default()).await.expect("a store");
    }
}

async fn backup(gate: &Arc<Gate>) -> Vec<u8> {
    let header = drover_api::backup::Header {
        cluster: "c".to_owned(),
        taken_at: "2026-01-01T00:00:00Z".to_owned(),
        ..Default::default()
    };
    let export = Export::begin(Arc::clone(gate), header).await.expect("a store");
    let pieces: Vec<bytes::Bytes> = export.into_stream().try_collect().await.expect("a store");
    pieces.concat()
}

/// Everything that a backup is of, as the store has it.
async fn state(backend: &dyn Backend) -> State {
    let range = Range { prefix: ROOT.into(), ..Range::default() };
    let items = backend.range(range).await.expect("a store").items;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    items
        .iter()
        .filter(|item| super::is_ours_to_back_up(&item.key))
        .map(|item| (text(&item.key), text(&item.value)))
        .collect()
}

async fn put(backend: &dyn Backend, pairs: &[(&str, &str)]) -> Revision {
    let operation = |(key, value): &(&str, &str)| Operation::Put {
        key: format!("/registry/core/configmaps/{key}").into(),
        value: (*value).to_owned().into(),
    };
    commit(backend, pairs.iter().map(operation).collect()).await
}

async fn commit(backend: &dyn Backend, operations: Vec<Operation>) -> Revision {
    match backend.commit(Transaction { compares: Vec::new(), operations }).await.expect("a store") {
        TransactionResult::Committed { revision } | TransactionResult::Conflict { revision, .. } => revision,
    }
}
