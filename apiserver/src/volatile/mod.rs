//! The memory-only class: node heartbeats and Events, last value only, bounded (design decision 5).
//!
//! A [`Backend`] like the durable one, so that the cache and the registry treat both alike. Its revisions are
//! `(epoch << 32) + n`, where the epoch is the revision of a durable write made at each start: never reused, never
//! taken from a clock. Nothing in [`Volatile`] survives the process; [`kept`] says what does all the same, and
//! [`shared`] which of several servers has it.

pub(crate) mod kept;
pub(crate) mod shared;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Mutex,
};

use async_trait::async_trait;
use bytes::Bytes;
use drover_store::{
    Backend, ChangeStream, Changes, Compare, Error, Event, EventKind, KeyValue, Operation, Range, RangeResult,
    Revision, Transaction, TransactionResult,
};
use futures::StreamExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

/// Writes one epoch has room for before revisions of the next could collide.
const EPOCH_SHIFT: u32 = 32;
/// Batches kept for a feed that reconnects.
const LOG_BATCHES: usize = 1024;

/// What happens to a key prefix that is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overflow {
    /// The oldest write goes.
    EvictOldest,
    /// The new key is refused.
    Refuse,
}

/// A bound on the keys under a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// The keys meant.
    pub prefix: String,
    /// At most so many.
    pub keys_max: usize,
    /// What gives way.
    pub overflow: Overflow,
}

/// The store.
#[derive(Debug)]
pub struct Volatile {
    limits: Vec<Limit>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    revision: Revision,
    keys: BTreeMap<Bytes, KeyValue>,
    /// Live keys by age under each limit.
    ages: Vec<BTreeSet<(Revision, Bytes)>>,
    log: VecDeque<Changes>,
    log_floor: Revision,
    watchers: Vec<(Bytes, mpsc::UnboundedSender<Result<Changes, Error>>)>,
}

impl Volatile {
    /// Builds an empty store whose revisions start at `epoch << 32`.
    pub fn new(epoch: Revision, limits: Vec<Limit>) -> Self {
        let epoch = if drover_api::mutants::active("D09-revisions-start-over") { 0 } else { epoch };
        let revision = epoch << EPOCH_SHIFT;
        let ages = limits.iter().map(|_| BTreeSet::new()).collect();
        let state = State {
            revision,
            keys: BTreeMap::new(),
            ages,
            log: VecDeque::new(),
            log_floor: revision,
            watchers: Vec::new(),
        };
        Self { limits, state: Mutex::new(state) }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn limit_of(&self, key: &[u8]) -> Option<usize> {
        self.limits.iter().position(|limit| key.starts_with(limit.prefix.as_bytes()))
    }

    /// Returns how a transaction would fail by its preconditions, `None` when they hold.
    ///
    /// # Errors
    /// [`Error::Full`] when there is no room for it.
    fn examine(&self, transaction: &Transaction) -> Result<Option<TransactionResult>, Error> {
        let state = self.lock();
        if let Some(conflict) = state.conflict(&transaction.compares) {
            return Ok(Some(conflict));
        }
        self.make_room(&state, &mut transaction.operations.clone()).map(|()| None)
    }

    /// Adds the deletions that make room for the puts of `operations`.
    fn make_room(&self, state: &State, operations: &mut Vec<Operation>) -> Result<(), Error> {
        for (index, limit) in self.limits.iter().enumerate() {
            let fresh = operations.iter().filter(|operation| match operation {
                Operation::Put { key, .. } => self.limit_of(key) == Some(index) && !state.keys.contains_key(key),
                Operation::Delete { .. } => false,
            });
            let over = (state.ages[index].len() + fresh.count()).saturating_sub(limit.keys_max);
            if over == 0 {
                continue;
            }
            if limit.overflow == Overflow::Refuse {
                return Err(Error::Full(format!("{} holds {} keys, its limit", limit.prefix, limit.keys_max)));
            }
            let touched: BTreeSet<&Bytes> = operations.iter().map(Operation::key).collect();
            let evicted: Vec<Bytes> = state.ages[index]
                .iter()
                .map(|(_, key)| key.clone())
                .filter(|key| !touched.contains(key))
                .take(over)
                .collect();
            operations.extend(evicted.into_iter().map(|key| Operation::Delete { key }));
        }
        Ok(())
    }
}

impl State {
    fn conflict(&self, compares: &[Compare]) -> Option<TransactionResult> {
        let current = |compare: &Compare| self.keys.get(&compare.key).cloned();
        let holds = |compare: &Compare| current(compare).map_or(0, |found| found.mod_revision) == compare.mod_revision;
        if compares.iter().all(holds) {
            return None;
        }
        Some(TransactionResult::Conflict { current: compares.iter().map(current).collect(), revision: self.revision })
    }

    fn write(&mut self, operations: Vec<Operation>, limit_of: impl Fn(&[u8]) -> Option<usize>) {
        let revision = self.revision + 1;
        let mut events = Vec::new();
        for operation in operations {
            let previous = self.keys.get(operation.key()).cloned();
            if let (Some(previous), Some(limit)) = (&previous, limit_of(operation.key())) {
                self.ages[limit].remove(&(previous.mod_revision, previous.key.clone()));
            }
            match operation {
                Operation::Put { key, value } => {
                    let create_revision = previous.as_ref().map_or(revision, |found| found.create_revision);
                    let current = KeyValue { key: key.clone(), value, create_revision, mod_revision: revision };
                    if let Some(limit) = limit_of(&key) {
                        self.ages[limit].insert((revision, key.clone()));
                    }
                    self.keys.insert(key, current.clone());
                    events.push(Event { kind: EventKind::Put, current, previous });
                }
                Operation::Delete { key } => {
                    let Some(previous) = previous else { continue };
                    self.keys.remove(&key);
                    let create_revision = previous.create_revision;
                    let current = KeyValue { key, value: Bytes::new(), create_revision, mod_revision: revision };
                    events.push(Event { kind: EventKind::Delete, current, previous: Some(previous) });
                }
            }
        }
        if events.is_empty() {
            return;
        }
        events.sort_by(|left, right| left.current.key.cmp(&right.current.key));
        self.revision = revision;
        let changes = Changes { revision, events };
        self.watchers.retain(|(prefix, sender)| sender.send(Ok(select(&changes, prefix))).is_ok());
        self.log.push_back(changes);
        if self.log.len() > LOG_BATCHES {
            let dropped = self.log.pop_front();
            self.log_floor = dropped.map_or(self.log_floor, |changes| changes.revision);
        }
    }
}

#[async_trait]
impl Backend for Volatile {
    async fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, Error> {
        Ok(self.lock().keys.get(key).cloned())
    }

    async fn range(&self, range: Range) -> Result<RangeResult, Error> {
        let state = self.lock();
        if let Some(at) = range.at
            && at != state.revision
        {
            return Err(Error::Compacted { oldest: state.revision });
        }
        let limit = if range.limit == 0 { usize::MAX } else { range.limit };
        let mut items: Vec<KeyValue> = state
            .keys
            .range(range.prefix.clone()..)
            .map(|(_, found)| found)
            .take_while(|found| found.key.starts_with(&range.prefix))
            .filter(|found| found.key > range.after)
            .take(limit.saturating_add(1))
            .cloned()
            .collect();
        let more = items.len() > limit;
        items.truncate(limit);
        Ok(RangeResult { items, revision: state.revision, more })
    }

    async fn commit(&self, mut transaction: Transaction) -> Result<TransactionResult, Error> {
        let mut state = self.lock();
        if let Some(conflict) = state.conflict(&transaction.compares) {
            return Ok(conflict);
        }
        self.make_room(&state, &mut transaction.operations)?;
        state.write(transaction.operations, |key| self.limit_of(key));
        Ok(TransactionResult::Committed { revision: state.revision })
    }

    async fn changes(&self, prefix: &[u8], after: Revision) -> Result<ChangeStream, Error> {
        let mut state = self.lock();
        if after < state.log_floor {
            return Err(Error::Compacted { oldest: state.log_floor + 1 });
        }
        if after > state.revision {
            return Err(Error::Future { asked: after, newest: state.revision });
        }
        let (sender, receiver) = mpsc::unbounded_channel();
        let prefix = Bytes::copy_from_slice(prefix);
        let past: Vec<_> = state
            .log
            .iter()
            .filter(|changes| changes.revision > after)
            .map(|changes| Ok(select(changes, &prefix)))
            .collect();
        state.watchers.push((prefix, sender));
        Ok(futures::stream::iter(past).chain(UnboundedReceiverStream::new(receiver)).boxed())
    }

    async fn revision(&self) -> Result<Revision, Error> {
        Ok(self.lock().revision)
    }

    async fn compact(&self, _revision: Revision) -> Result<(), Error> {
        Ok(())
    }
}

fn select(changes: &Changes, prefix: &Bytes) -> Changes {
    let events = changes.events.iter().filter(|event| event.current.key.starts_with(prefix)).cloned().collect();
    Changes { revision: changes.revision, events }
}
