//! What one transaction does to the tables. Runs inside a redb write, so it sees the transactions before it in the batch.

use drover_api::mutants;
use redb::{ReadableTable, Table};

use super::read::{VersionsMut, build_event, newest};
use super::schema::{LOG, META, META_COMPACTED, META_REVISION, VERSIONS, Version, encode};
use super::storage_error;
use crate::{Changes, Compare, Error, Event, KeyValue, Operation, Revision, Transaction, TransactionResult};

/// The open tables of a write.
pub(crate) struct Tables<'a> {
    versions: VersionsMut<'a>,
    log: Table<'a, (u64, u32), &'static [u8]>,
    meta: Table<'a, &'static str, u64>,
    /// Newest revision, counting what this write added.
    pub(crate) revision: Revision,
    /// Oldest readable revision.
    pub(crate) compacted: Revision,
}

impl<'a> Tables<'a> {
    pub(crate) fn open(write: &'a redb::WriteTransaction) -> Result<Self, Error> {
        let versions = write.open_table(VERSIONS).map_err(storage_error)?;
        let log = write.open_table(LOG).map_err(storage_error)?;
        let meta = write.open_table(META).map_err(storage_error)?;
        let number = |name: &str| -> Result<u64, Error> {
            Ok(meta.get(name).map_err(storage_error)?.map_or(0, |number| number.value()))
        };
        let (mut revision, compacted) = (number(META_REVISION)?, number(META_COMPACTED)?);
        if drover_api::mutants::active("D03-revision-goes-back") {
            // Counts what is there instead of what has been.
            revision = log.last().map_err(storage_error)?.map_or(0, |(position, _)| position.value().0);
        }
        Ok(Self { versions, log, meta, revision, compacted })
    }

    /// Carries a transaction out when its preconditions hold. The changes are `None` when nothing changed.
    pub(crate) fn apply(&mut self, transaction: Transaction) -> Result<(TransactionResult, Option<Changes>), Error> {
        let current = self.compared(&transaction.compares)?;
        if !holds(&transaction.compares, &current) {
            return Ok((TransactionResult::Conflict { current, revision: self.revision }, None));
        }
        let revision = self.revision + 1;
        let mut operations = transaction.operations;
        operations.sort_by(|a, b| a.key().cmp(b.key()));
        let mut events = Vec::with_capacity(operations.len());
        for operation in operations {
            if let Some(event) = self.apply_operation(operation, revision)? {
                let position = u32::try_from(events.len()).expect("a transaction has fewer than 2^32 operations");
                self.log.insert((revision, position), event.current.key.as_ref()).map_err(storage_error)?;
                events.push(event);
            }
        }
        if events.is_empty() {
            return Ok((TransactionResult::Committed { revision: self.revision }, None));
        }
        self.revision = revision;
        Ok((TransactionResult::Committed { revision }, Some(Changes { revision, events })))
    }

    /// Writes the newest revision down; the last step of a write that changed it.
    pub(crate) fn store_revision(&mut self) -> Result<(), Error> {
        self.meta.insert(META_REVISION, self.revision).map_err(storage_error)?;
        Ok(())
    }

    /// Makes everything before `revision` unreadable. The rows go later, by [`Tables::purge`].
    pub(crate) fn compact(&mut self, revision: Revision) -> Result<(), Error> {
        self.compacted = revision;
        self.meta.insert(META_COMPACTED, revision).map_err(storage_error)?;
        Ok(())
    }

    /// Drops up to `limit` log entries, and the versions, that no readable revision can see. Returns how many went.
    pub(crate) fn purge(&mut self, limit: usize) -> Result<usize, Error> {
        let mut due = Vec::new();
        for entry in self.log.range(..=(self.compacted, u32::MAX)).map_err(storage_error)?.take(limit) {
            let (position, key) = entry.map_err(storage_error)?;
            due.push((position.value(), key.value().to_vec()));
        }
        for (position, key) in &due {
            self.purge_entry(key, position.0)?;
            self.log.remove(position).map_err(storage_error)?;
        }
        Ok(due.len())
    }

    /// The version at `revision`, which is not newer than the compaction, hides every older one of its key.
    fn purge_entry(&mut self, key: &[u8], revision: Revision) -> Result<(), Error> {
        let mut hidden = Vec::new();
        for row in self.versions.range((key, 0)..(key, revision)).map_err(storage_error)? {
            hidden.push(row.map_err(storage_error)?.0.value().1);
        }
        let removed = newest(&self.versions, key, revision)?.is_none();
        if removed {
            hidden.push(revision);
        }
        for revision in hidden {
            self.versions.remove((key, revision)).map_err(storage_error)?;
        }
        Ok(())
    }

    fn compared(&self, compares: &[Compare]) -> Result<Vec<Option<KeyValue>>, Error> {
        compares.iter().map(|compare| newest(&self.versions, &compare.key, Revision::MAX)).collect()
    }

    fn apply_operation(&mut self, operation: Operation, revision: Revision) -> Result<Option<Event>, Error> {
        let (key, value) = match operation {
            Operation::Put { key, value } => (key, Some(value)),
            Operation::Delete { key } => (key, None),
        };
        let previous = newest(&self.versions, &key, Revision::MAX)?;
        let version = match (value, &previous) {
            (Some(value), Some(previous)) => Version::Put { create_revision: previous.create_revision, value },
            (Some(value), None) => Version::Put { create_revision: revision, value },
            (None, Some(_)) => Version::Tombstone,
            (None, None) => return Ok(None),
        };
        let record = encode(&key, revision, &version);
        self.versions.insert((key.as_ref(), revision), record.as_slice()).map_err(storage_error)?;
        let previous = previous.filter(|_| !mutants::active("W03-deletion-without-state"));
        Ok(Some(build_event(key, revision, version, previous)))
    }
}

fn holds(compares: &[Compare], current: &[Option<KeyValue>]) -> bool {
    let overwrites = |compare: &Compare| compare.mod_revision == 0 && mutants::active("S03-create-overwrites");
    let checked = if mutants::active("S03-first-compare-only") { 1 } else { compares.len() };
    compares.iter().zip(current).take(checked).all(|(compare, current)| {
        compare.mod_revision == current.as_ref().map_or(0, |kv| kv.mod_revision) || overwrites(compare)
    })
}
