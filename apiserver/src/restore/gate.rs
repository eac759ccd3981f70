//! The door to the store: closed on every server while a restore is applied, and the same revisions for all after it.

use std::sync::Arc;

use async_trait::async_trait;
use drover_store::{
    Backend, ChangeStream, Compare, Error, KeyValue, Operation, Range, RangeResult, Revision, Transaction,
    TransactionResult,
};
use tokio::sync::{Notify, watch};

use super::{
    MARKER, NEVER, changes,
    marker::{Known, Marker},
};

/// Tries of a write against changes of the marker that do not concern it, such as a confirmation.
const ATTEMPTS: usize = 4;

/// A backend that restores can close. Revisions are the store's plus an offset that only restores into a new store
/// change; every commit is bound to the marker as it was last seen, so that no server writes into another one's
/// restore.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(super) inner: Arc<dyn Backend>,
    pub(super) known: Arc<watch::Sender<Known>>,
    /// Wakes this server's finisher for a restore that began here.
    pub(super) eager: Notify,
}

impl Gate {
    /// Reads the marker. A restore that was cut short leaves the gate closed until [`super::finish`] completes it.
    ///
    /// # Errors
    /// The backend's, and [`Error::Broken`] when the marker cannot be read.
    pub(crate) async fn open(inner: Arc<dyn Backend>) -> Result<Arc<Self>, Error> {
        let known = Known::read(inner.get(MARKER.as_bytes()).await?.as_ref())?;
        Ok(Arc::new(Self { inner, known: Arc::new(watch::Sender::new(known)), eager: Notify::new() }))
    }

    pub(super) fn known(&self) -> Known {
        self.known.borrow().clone()
    }

    /// Takes in a newer state of the marker.
    pub(super) fn learn(&self, found: Option<&KeyValue>) -> Result<Known, Error> {
        let found = Known::read(found)?;
        self.known.send_if_modified(|known| {
            let newer = found.revision > known.revision;
            if newer {
                known.clone_from(&found);
            }
            newer
        });
        Ok(self.known())
    }

    /// Reads the marker from the store.
    pub(super) async fn refresh(&self) -> Result<Known, Error> {
        let found = self.inner.get(MARKER.as_bytes()).await?;
        self.learn(found.as_ref())
    }

    /// Replaces the marker when it still is as known; `false` when it is not.
    pub(super) async fn mark(&self, known: &Known, marker: Marker) -> Result<bool, Error> {
        let value = serde_json::to_vec(&marker).map_err(|error| Error::Broken(error.to_string()))?;
        let put = Operation::Put { key: MARKER.into(), value: value.into() };
        let transaction = Transaction { compares: vec![bound_to(known)], operations: vec![put] };
        match self.inner.commit(transaction).await? {
            TransactionResult::Committed { revision } => {
                self.known.send_if_modified(|known| {
                    let newer = revision > known.revision;
                    if newer {
                        *known = Known { marker, revision };
                    }
                    newer
                });
                Ok(true)
            }
            TransactionResult::Conflict { current, .. } => {
                self.learn(current.first().and_then(Option::as_ref))?;
                Ok(false)
            }
        }
    }

    /// Returns the marker when the gate is open. A closed one is looked at again, so that nobody stays out who missed
    /// the end of a restore.
    async fn open_state(&self) -> Result<Known, Error> {
        let known = self.known();
        let known = if known.is_closed() { self.refresh().await? } else { known };
        if known.is_closed() { Err(closed()) } else { Ok(known) }
    }
}

/// The precondition that no restore has begun or ended since `known`.
pub(super) fn bound_to(known: &Known) -> Compare {
    Compare { key: MARKER.into(), mod_revision: known.revision }
}

pub(super) fn closed() -> Error {
    Error::Unavailable("a backup is being restored".to_owned())
}

/// Moves the revisions of a key into the numbers that clients see.
pub(super) fn shown(mut found: KeyValue, offset: Revision) -> KeyValue {
    for revision in [&mut found.create_revision, &mut found.mod_revision] {
        // 0 means "before anything" and stays.
        if *revision > 0 {
            *revision += offset;
        }
    }
    found
}

/// Moves a revision of a precondition into the store's numbers.
fn stored(revision: Revision, offset: Revision) -> Revision {
    match revision {
        0 => 0,
        // From before a restore into this store: no key has it.
        revision => revision.checked_sub(offset).filter(|revision| *revision > 0).unwrap_or(NEVER),
    }
}

/// Refuses history of before the last restore.
fn check_floor(marker: &Marker, asked: Revision) -> Result<Revision, Error> {
    let floor = marker.floor + marker.offset;
    if marker.floor > 0 && asked < floor {
        return Err(Error::Compacted { oldest: floor });
    }
    // Without a restore the offset is 0.
    Ok(asked.saturating_sub(marker.offset))
}

/// The store's errors with the revisions that clients see.
pub(super) fn shown_error(error: Error, offset: Revision) -> Error {
    match error {
        Error::Compacted { oldest } => Error::Compacted { oldest: oldest + offset },
        Error::Future { asked, newest } => Error::Future { asked: asked + offset, newest: newest + offset },
        Error::Full(_) | Error::Unavailable(_) | Error::Locked(_) | Error::Broken(_) => error,
    }
}

#[async_trait]
impl Backend for Gate {
    async fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, Error> {
        let offset = self.open_state().await?.marker.offset;
        let found = self.inner.get(key).await.map_err(|error| shown_error(error, offset))?;
        // A restore may have begun on another server meanwhile; what was read then is of no state at all.
        self.open_state().await?;
        Ok(found.map(|found| shown(found, offset)))
    }

    async fn range(&self, range: Range) -> Result<RangeResult, Error> {
        let marker = self.open_state().await?.marker;
        let at = range.at.map(|at| check_floor(&marker, at)).transpose()?;
        let newest = at.is_none();
        let found = self.inner.range(Range { at, ..range }).await;
        let found = found.map_err(|error| shown_error(error, marker.offset))?;
        if newest {
            // A listing of everything shows whether it was taken in the middle of a restore that this server has not
            // heard of; any other is followed by a wait for the revision it was taken at.
            self.learn(found.items.iter().find(|item| item.key == MARKER))?;
        }
        self.open_state().await?;
        let items = found.items.into_iter().map(|item| shown(item, marker.offset)).collect();
        Ok(RangeResult { items, revision: found.revision + marker.offset, more: found.more })
    }

    async fn commit(&self, transaction: Transaction) -> Result<TransactionResult, Error> {
        let Transaction { compares, operations } = transaction;
        let mut known = self.open_state().await?;
        for _ in 0..ATTEMPTS {
            let offset = known.marker.offset;
            let translate = |compare: &Compare| Compare {
                key: compare.key.clone(),
                mod_revision: stored(compare.mod_revision, offset),
            };
            let mut bound: Vec<Compare> = compares.iter().map(translate).collect();
            bound.push(bound_to(&known));
            let sent = Transaction { compares: bound, operations: operations.clone() };
            match self.inner.commit(sent).await.map_err(|error| shown_error(error, offset))? {
                TransactionResult::Committed { revision } => {
                    return Ok(TransactionResult::Committed { revision: revision + offset });
                }
                TransactionResult::Conflict { mut current, revision } => {
                    let marker = current.pop().flatten();
                    if marker.as_ref().map_or(0, |marker| marker.mod_revision) == known.revision {
                        let current = current.into_iter().map(|found| found.map(|found| shown(found, offset)));
                        let current = current.collect();
                        return Ok(TransactionResult::Conflict { current, revision: revision + offset });
                    }
                    let floor = known.marker.floor;
                    known = self.learn(marker.as_ref())?;
                    // What the write was decided on may be of before the restore.
                    if known.is_closed() || known.marker.floor != floor {
                        return Err(closed());
                    }
                }
            }
        }
        Err(closed())
    }

    async fn changes(&self, prefix: &[u8], after: Revision) -> Result<ChangeStream, Error> {
        let marker = self.open_state().await?.marker;
        let after = check_floor(&marker, after)?;
        let stream = self.inner.changes(prefix, after).await.map_err(|error| shown_error(error, marker.offset))?;
        Ok(changes::guarded(stream, Arc::clone(&self.known), marker.offset))
    }

    async fn revision(&self) -> Result<Revision, Error> {
        let offset = self.open_state().await?.marker.offset;
        Ok(self.inner.revision().await? + offset)
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        let offset = self.open_state().await?.marker.offset;
        self.inner.compact(revision.saturating_sub(offset)).await
    }
}
