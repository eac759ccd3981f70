//! Reads of one redb snapshot: a key, a range (also in the past), a stretch of history. Never blocks the writer.

use std::ops::Bound;

use bytes::Bytes;
use redb::{ReadTransaction, ReadableTable, Table};

use super::schema::{LOG, META, META_COMPACTED, META_REVISION, VERSIONS, Version, decode};
use super::storage_error;
use crate::{Changes, Error, Event, EventKind, KeyValue, Range, RangeResult, Revision};

/// Either a table being written or one of a snapshot.
pub(crate) trait Versions: ReadableTable<(&'static [u8], u64), &'static [u8]> {}
impl<T: ReadableTable<(&'static [u8], u64), &'static [u8]>> Versions for T {}

/// The table of versions inside a write.
pub(crate) type VersionsMut<'a> = Table<'a, (&'static [u8], u64), &'static [u8]>;

/// A consistent view of the store.
pub(crate) struct Snapshot {
    transaction: ReadTransaction,
    /// Newest revision in it.
    pub(crate) revision: Revision,
    /// Oldest revision that can be read.
    pub(crate) compacted: Revision,
}

impl Snapshot {
    pub(crate) fn new(transaction: ReadTransaction) -> Result<Self, Error> {
        let meta = transaction.open_table(META).map_err(storage_error)?;
        let number = |name: &str| -> Result<u64, Error> {
            Ok(meta.get(name).map_err(storage_error)?.map_or(0, |number| number.value()))
        };
        let (revision, compacted) = (number(META_REVISION)?, number(META_COMPACTED)?);
        Ok(Self { transaction, revision, compacted })
    }

    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, Error> {
        let versions = self.transaction.open_table(VERSIONS).map_err(storage_error)?;
        newest(&versions, key, Revision::MAX)
    }

    pub(crate) fn range(&self, range: &Range) -> Result<RangeResult, Error> {
        let at = match range.at {
            Some(at) if at > self.revision => return Err(Error::Future { asked: at, newest: self.revision }),
            Some(at) if at < self.compacted => return Err(Error::Compacted { oldest: self.compacted }),
            Some(at) => at,
            None => self.revision,
        };
        let versions = self.transaction.open_table(VERSIONS).map_err(storage_error)?;
        let (items, more) = scan(&versions, range, at)?;
        Ok(RangeResult { items, revision: self.revision, more })
    }

    /// Reads whole revisions after `after`, oldest first, until there is no more or about `max_bytes` are read.
    pub(crate) fn changes(&self, after: Revision, max_bytes: usize) -> Result<Vec<Changes>, Error> {
        if after < self.compacted {
            return Err(Error::Compacted { oldest: self.compacted });
        }
        let log = self.transaction.open_table(LOG).map_err(storage_error)?;
        let versions = self.transaction.open_table(VERSIONS).map_err(storage_error)?;
        let mut found: Vec<Changes> = Vec::new();
        let mut bytes = 0;
        for entry in log.range((after.saturating_add(1), 0)..).map_err(storage_error)? {
            let (position, key) = entry.map_err(storage_error)?;
            let (revision, _) = position.value();
            let same_revision = found.last().is_some_and(|changes| changes.revision == revision);
            if !same_revision && bytes >= max_bytes {
                break;
            }
            let event = event_at(&versions, key.value(), revision)?;
            bytes += event_bytes(&event);
            match found.last_mut() {
                Some(changes) if changes.revision == revision => changes.events.push(event),
                Some(_) | None => found.push(Changes { revision, events: vec![event] }),
            }
        }
        Ok(found)
    }
}

/// About how much memory an event takes.
pub(crate) fn event_bytes(event: &Event) -> usize {
    const FIXED: usize = 128;
    let previous = event.previous.as_ref().map_or(0, |previous| previous.value.len());
    FIXED + event.current.key.len() + event.current.value.len() + previous
}

/// Finds the state of `key` at revision `at`.
pub(crate) fn newest(versions: &impl Versions, key: &[u8], at: Revision) -> Result<Option<KeyValue>, Error> {
    let mut rows = versions.range((key, 0)..=(key, at)).map_err(storage_error)?;
    let Some(row) = rows.next_back() else { return Ok(None) };
    let (position, record) = row.map_err(storage_error)?;
    let (_, revision) = position.value();
    let version = decode(key, revision, record.value())?;
    Ok(version.into_key_value(Bytes::copy_from_slice(key), revision))
}

fn event_at(versions: &impl Versions, key: &[u8], revision: Revision) -> Result<Event, Error> {
    let lost = || Error::Broken(format!("the log names revision {revision} of a key that has none"));
    let record = versions.get((key, revision)).map_err(storage_error)?.ok_or_else(lost)?;
    let version = decode(key, revision, record.value())?;
    let previous = newest(versions, key, revision - 1)?;
    Ok(build_event(Bytes::copy_from_slice(key), revision, version, previous))
}

/// Puts an event together.
pub(crate) fn build_event(key: Bytes, revision: Revision, version: Version, previous: Option<KeyValue>) -> Event {
    match version {
        Version::Put { create_revision, value } => Event {
            kind: EventKind::Put,
            current: KeyValue { key, value, create_revision, mod_revision: revision },
            previous,
        },
        Version::Tombstone => Event {
            kind: EventKind::Delete,
            current: KeyValue { key, value: Bytes::new(), create_revision: 0, mod_revision: revision },
            previous,
        },
    }
}

/// Collects the live keys of `range` at revision `at`, and says whether the limit cut them.
fn scan(versions: &impl Versions, range: &Range, at: Revision) -> Result<(Vec<KeyValue>, bool), Error> {
    let start = if range.after.is_empty() || range.after < range.prefix {
        Bound::Included((range.prefix.as_ref(), 0))
    } else {
        Bound::Excluded((range.after.as_ref(), Revision::MAX))
    };
    let mut items = Vec::new();
    // The newest row so far of the key being walked over, not yet known to be its last one.
    let mut candidate = None;
    let rows = versions.range::<(&[u8], u64)>((start, Bound::Unbounded)).map_err(storage_error)?;
    for row in rows {
        let (position, record) = row.map_err(storage_error)?;
        let (key, revision) = position.value();
        if !key.starts_with(&range.prefix) {
            break;
        }
        if revision > at {
            continue;
        }
        let key = match candidate.take() {
            Some((candidate_key, _, _)) if candidate_key == key => candidate_key,
            Some((finished, mod_revision, record)) => {
                if !push_live(&mut items, range.limit, finished, mod_revision, &record)? {
                    return Ok((items, true));
                }
                Bytes::copy_from_slice(key)
            }
            None => Bytes::copy_from_slice(key),
        };
        candidate = Some((key, revision, record));
    }
    if let Some((key, revision, record)) = candidate {
        let fits = push_live(&mut items, range.limit, key, revision, &record)?;
        return Ok((items, !fits));
    }
    Ok((items, false))
}

/// Adds the row's key when it is alive. Returns false, adding nothing, when the limit is reached already.
fn push_live(
    items: &mut Vec<KeyValue>,
    limit: usize,
    key: Bytes,
    revision: Revision,
    record: &redb::AccessGuard<'_, &'static [u8]>,
) -> Result<bool, Error> {
    let Some(live) = decode(&key, revision, record.value())?.into_key_value(key, revision) else { return Ok(true) };
    if limit > 0 && items.len() == limit {
        return Ok(false);
    }
    items.push(live);
    Ok(true)
}
