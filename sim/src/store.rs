//! The store under the simulated server: the shipping backend with faults in front of it, and a record of every write.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use drover_store::{
    Backend, ChangeStream, Error, KeyValue, Operation, Range, RangeResult, Revision, Transaction, TransactionResult,
};
use futures::StreamExt;
use tokio::time::Instant;

use crate::{
    faults::StoreTrouble,
    link::Point,
    wire::{Life, Wire},
};

/// How long a write to a slow disk takes.
const SLOW_WRITE: Duration = Duration::from_secs(2);

/// What is wrong with the store; shared by all lives of the server.
#[derive(Debug, Clone, Default)]
pub(crate) struct Troubles(Arc<Mutex<Option<(StoreTrouble, Instant)>>>);

impl Troubles {
    /// The store fails until `span` from now.
    pub(crate) fn begin(&self, trouble: StoreTrouble, span: Duration) {
        *self.lock() = Some((trouble, Instant::now() + span));
    }

    /// The store works again.
    pub(crate) fn heal(&self) {
        *self.lock() = None;
    }

    fn now(&self) -> Option<StoreTrouble> {
        self.lock().filter(|(_, end)| Instant::now() < *end).map(|(trouble, _)| trouble)
    }

    fn lock(&self) -> MutexGuard<'_, Option<(StoreTrouble, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One life of the server's access to the store.
#[derive(Debug)]
pub(crate) struct SimStore {
    inner: Arc<dyn Backend>,
    wire: Wire,
    life: Life,
    troubles: Troubles,
}

impl SimStore {
    /// Gives one life of the server its store.
    pub(crate) fn new(inner: Arc<dyn Backend>, wire: Wire, life: Life, troubles: Troubles) -> Self {
        Self { inner, wire, life, troubles }
    }

    /// A dead server does nothing more, a paused one nothing yet.
    async fn gate(&self) {
        if self.life.is_over() {
            self.life.hold::<()>().await;
        }
        while let Some(end) = self.wire.link(self.life.part, |link| link.paused(Instant::now())) {
            tokio::time::sleep_until(end).await;
        }
        if self.life.is_over() {
            self.life.hold::<()>().await;
        }
    }

    async fn crash<T>(&self, down: Duration) -> T {
        self.wire.crash(&self.life, down);
        self.life.hold().await
    }
}

fn only_deletes(transaction: &Transaction) -> bool {
    transaction.operations.iter().all(|operation| match operation {
        Operation::Delete { .. } => true,
        Operation::Put { .. } => false,
    })
}

#[async_trait]
impl Backend for SimStore {
    async fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, Error> {
        self.gate().await;
        self.inner.get(key).await
    }

    async fn range(&self, range: Range) -> Result<RangeResult, Error> {
        self.gate().await;
        self.inner.range(range).await
    }

    async fn commit(&self, transaction: Transaction) -> Result<TransactionResult, Error> {
        self.gate().await;
        let fate = self.wire.fate(self.life.part, true);
        let crash_at = |point: Point| fate.crash.filter(|(at, _)| *at == point).map(|(_, down)| down);
        if let Some(down) = crash_at(Point::Before) {
            return self.crash(down).await;
        }
        let trouble = self.troubles.now();
        match trouble {
            Some(StoreTrouble::Refuses) => return Err(Error::Unavailable("simulated".to_owned())),
            Some(StoreTrouble::Full) if !only_deletes(&transaction) => {
                return Err(Error::Full("simulated".to_owned()));
            }
            Some(StoreTrouble::Slow) => tokio::time::sleep(SLOW_WRITE).await,
            Some(StoreTrouble::Full | StoreTrouble::LosesReplies) | None => {}
        }
        self.gate().await;
        let result = self.inner.commit(transaction).await;
        if let Some(down) = crash_at(Point::AfterEffect).or_else(|| crash_at(Point::AfterReply)) {
            return self.crash(down).await;
        }
        if trouble == Some(StoreTrouble::LosesReplies) || fate.lose_reply {
            return Err(Error::Unavailable("simulated: the reply was lost".to_owned()));
        }
        result
    }

    async fn changes(&self, prefix: &[u8], after: Revision) -> Result<ChangeStream, Error> {
        self.gate().await;
        let stream = self.inner.changes(prefix, after).await?;
        let life = self.life.clone();
        // A dead server's watch says nothing more; its tasks must not spin on an error.
        let held = futures::stream::unfold((stream, life), |(mut stream, life)| async move {
            let item = stream.next().await;
            if life.is_over() {
                return life.hold().await;
            }
            item.map(|item| (item, (stream, life)))
        });
        Ok(held.boxed())
    }

    async fn revision(&self) -> Result<Revision, Error> {
        self.gate().await;
        self.inner.revision().await
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.gate().await;
        self.inner.compact(revision).await
    }
}
