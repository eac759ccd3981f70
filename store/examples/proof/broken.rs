//! Stores with a planted fault: the positive control. A checker that does not report every one of them proves nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use drover_store::{
    Backend, ChangeStream, Changes, Error, EventKind, KeyValue, Range, RangeResult, Revision, Transaction,
    TransactionResult,
};
use futures::StreamExt;
use futures::stream;

/// What is wrong with the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    DropsAnEvent,
    DropsOneEventOfATransaction,
    DuplicatesAnEvent,
    SwapsTwoEvents,
    ForgetsThePreviousState,
    InventsAnEvent,
    HangsAWatch,
    HidesCompaction,
    ServesAStaleRead,
    ServesAStaleList,
    ListsWithoutAKey,
    TellsAnOldRevision,
    AcknowledgesWithoutWriting,
    ReusesARevision,
    IgnoresPreconditions,
    WritesTwice,
    WritesHalfATransaction,
    ConflictsForNothing,
    WritesAndSaysConflict,
}

impl Fault {
    /// All of them.
    pub(crate) const ALL: [Self; 19] = [
        Self::DropsAnEvent,
        Self::DropsOneEventOfATransaction,
        Self::DuplicatesAnEvent,
        Self::SwapsTwoEvents,
        Self::ForgetsThePreviousState,
        Self::InventsAnEvent,
        Self::HangsAWatch,
        Self::HidesCompaction,
        Self::ServesAStaleRead,
        Self::ServesAStaleList,
        Self::ListsWithoutAKey,
        Self::TellsAnOldRevision,
        Self::AcknowledgesWithoutWriting,
        Self::ReusesARevision,
        Self::IgnoresPreconditions,
        Self::WritesTwice,
        Self::WritesHalfATransaction,
        Self::ConflictsForNothing,
        Self::WritesAndSaysConflict,
    ];
}

/// The fault shows in one call, or one item, of so many.
const RARELY: u64 = 17;
/// A stale answer is so old.
const STALE_BY: Revision = 25;

/// A store that is right but for its fault.
#[derive(Debug)]
pub(crate) struct Broken {
    inner: Arc<dyn Backend>,
    fault: Fault,
    calls: AtomicU64,
}

impl Broken {
    pub(crate) fn new(inner: Arc<dyn Backend>, fault: Fault) -> Self {
        Self { inner, fault, calls: AtomicU64::new(0) }
    }

    /// Whether the fault is `fault`, and it is time for it to show.
    fn shows(&self, fault: Fault) -> bool {
        self.fault == fault && self.calls.fetch_add(1, Ordering::SeqCst) % RARELY == RARELY - 1
    }

    async fn past(&self, mut range: Range) -> Result<RangeResult, Error> {
        let newest = self.inner.revision().await?;
        range.at = Some(newest.saturating_sub(STALE_BY).max(1));
        self.inner.range(range).await
    }
}

#[async_trait]
impl Backend for Broken {
    async fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, Error> {
        if self.shows(Fault::ServesAStaleRead) {
            let prefix = bytes::Bytes::copy_from_slice(key);
            if let Ok(found) = self.past(Range { prefix, ..Range::default() }).await {
                return Ok(found.items.into_iter().next());
            }
        }
        self.inner.get(key).await
    }

    async fn range(&self, range: Range) -> Result<RangeResult, Error> {
        if range.at.is_none()
            && self.shows(Fault::ServesAStaleList)
            && let Ok(found) = self.past(range.clone()).await
        {
            return Ok(found);
        }
        let mut found = self.inner.range(range).await?;
        if self.shows(Fault::ListsWithoutAKey) {
            found.items.pop();
        }
        Ok(found)
    }

    async fn commit(&self, mut transaction: Transaction) -> Result<TransactionResult, Error> {
        if self.shows(Fault::AcknowledgesWithoutWriting) {
            return Ok(TransactionResult::Committed { revision: self.inner.revision().await? + 1 });
        }
        if self.shows(Fault::ConflictsForNothing) {
            let mut current = Vec::new();
            for compare in &transaction.compares {
                current.push(self.inner.get(&compare.key).await?);
            }
            return Ok(TransactionResult::Conflict { current, revision: self.inner.revision().await? });
        }
        if self.fault == Fault::IgnoresPreconditions {
            transaction.compares.clear();
        }
        if self.fault == Fault::WritesHalfATransaction {
            transaction.operations.truncate(1);
        }
        let again = self.shows(Fault::WritesTwice).then(|| transaction.clone());
        let result = self.inner.commit(transaction).await?;
        if let Some(again) = again {
            self.inner.commit(again).await?;
        }
        match result {
            TransactionResult::Committed { revision } if self.shows(Fault::ReusesARevision) => {
                Ok(TransactionResult::Committed { revision: revision - 1 })
            }
            TransactionResult::Committed { revision } if self.shows(Fault::WritesAndSaysConflict) => {
                Ok(TransactionResult::Conflict { current: vec![], revision })
            }
            TransactionResult::Committed { .. } | TransactionResult::Conflict { .. } => Ok(result),
        }
    }

    async fn changes(&self, prefix: &[u8], after: Revision) -> Result<ChangeStream, Error> {
        let opened = match self.inner.changes(prefix, after).await {
            Err(Error::Compacted { oldest }) if self.fault == Fault::HidesCompaction => {
                self.inner.changes(prefix, oldest).await
            }
            opened => opened,
        };
        let fault = self.fault;
        let state = (opened?, 0_u64, None::<Changes>);
        let bent = stream::unfold(state, move |(mut inner, mut count, mut held)| async move {
            if let Some(held) = held.take() {
                return Some((Ok(held), (inner, count, None)));
            }
            let mut changes = match inner.next().await? {
                Ok(changes) => changes,
                Err(error) => return Some((Err(error), (inner, count, None))),
            };
            count += u64::from(!changes.events.is_empty());
            if count % RARELY != RARELY - 1 || changes.events.is_empty() {
                return Some((Ok(changes), (inner, count, None)));
            }
            match fault {
                Fault::DropsAnEvent => changes.events.clear(),
                Fault::DropsOneEventOfATransaction => {
                    changes.events.pop();
                }
                Fault::DuplicatesAnEvent => held = Some(changes.clone()),
                Fault::SwapsTwoEvents => {
                    held = Some(changes);
                    changes = inner.next().await?.ok()?;
                }
                Fault::ForgetsThePreviousState => changes.events.iter_mut().for_each(|event| event.previous = None),
                Fault::InventsAnEvent => {
                    let mut invented = changes.events[0].clone();
                    invented.kind = EventKind::Delete;
                    changes.events.push(invented);
                }
                Fault::HangsAWatch => futures::future::pending().await,
                _other => {}
            }
            Some((Ok(changes), (inner, count, held)))
        });
        Ok(bent.boxed())
    }

    async fn revision(&self) -> Result<Revision, Error> {
        let newest = self.inner.revision().await?;
        Ok(if self.shows(Fault::TellsAnOldRevision) { newest.saturating_sub(STALE_BY) } else { newest })
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.inner.compact(revision).await
    }
}
