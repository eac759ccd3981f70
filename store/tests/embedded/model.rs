//! What the store should be: every state it ever had, by revision.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use drover_store::embedded::{Embedded, Options, SimulatedDisk};
use drover_store::{
    Backend, Changes, Error, Event, EventKind, KeyValue, Operation, Range, Retention, Revision, Transaction,
    TransactionResult,
};
use futures::StreamExt;

pub(crate) type Keys = BTreeMap<Bytes, KeyValue>;

/// Options of a store that compacts only when told to.
pub(crate) fn options() -> Options {
    let retention = Retention { keep_revisions: u64::MAX, interval: Duration::from_secs(3600) };
    Options { retention, reserve_bytes: 0, cache_bytes: 1 << 20 }
}

pub(crate) fn open(disk: &SimulatedDisk) -> Result<Arc<Embedded>, Error> {
    Embedded::open_on(Arc::new(disk.clone()), options())
}

/// A map with history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Model {
    pub(crate) states: BTreeMap<Revision, Keys>,
    pub(crate) compacted: Revision,
}

impl Default for Model {
    fn default() -> Self {
        Self { states: BTreeMap::from([(0, Keys::new())]), compacted: 0 }
    }
}

impl Model {
    pub(crate) fn revision(&self) -> Revision {
        *self.states.last_key_value().unwrap().0
    }

    pub(crate) fn keys(&self) -> &Keys {
        self.states.last_key_value().unwrap().1
    }

    /// Carries a transaction out as the contract says.
    pub(crate) fn commit(&mut self, transaction: &Transaction) -> TransactionResult {
        let keys = self.keys();
        let current: Vec<_> = transaction.compares.iter().map(|compare| keys.get(&compare.key).cloned()).collect();
        let holds = transaction
            .compares
            .iter()
            .zip(&current)
            .all(|(compare, current)| compare.mod_revision == current.as_ref().map_or(0, |kv| kv.mod_revision));
        if !holds {
            return TransactionResult::Conflict { current, revision: self.revision() };
        }
        let revision = self.revision() + 1;
        let mut next = keys.clone();
        let mut changed = false;
        for operation in &transaction.operations {
            match operation {
                Operation::Put { key, value } => {
                    let create_revision = next.get(key).map_or(revision, |kv| kv.create_revision);
                    let kv =
                        KeyValue { key: key.clone(), value: value.clone(), create_revision, mod_revision: revision };
                    next.insert(key.clone(), kv);
                    changed = true;
                }
                Operation::Delete { key } => changed |= next.remove(key).is_some(),
            }
        }
        if changed {
            self.states.insert(revision, next);
        }
        TransactionResult::Committed { revision: self.revision() }
    }

    pub(crate) fn compact(&mut self, revision: Revision) {
        self.compacted = self.compacted.max(revision);
    }

    /// The changes after `after`, from the differences of the states.
    pub(crate) fn changes(&self, after: Revision) -> Vec<Changes> {
        let newer = self.states.range(after + 1..);
        newer
            .map(|(revision, keys)| Changes {
                revision: *revision,
                events: diff(&self.states[&(revision - 1)], keys, *revision),
            })
            .collect()
    }

    /// Compares everything that can be asked of a store with what it should answer.
    pub(crate) async fn check(&self, store: &Embedded) {
        assert_eq!(store.revision().await.unwrap(), self.revision(), "revision");
        for (revision, keys) in self.states.range(self.compacted..) {
            let range = Range { at: Some(*revision), ..Range::default() };
            let items = store.range(range).await.unwrap().items;
            assert_eq!(items, keys.values().cloned().collect::<Vec<_>>(), "state at {revision}");
        }
        assert_eq!(changes_after(store, self.compacted, self.revision()).await, self.changes(self.compacted));
        if let Some(before) = self.compacted.checked_sub(1) {
            let refused = Err(Error::Compacted { oldest: self.compacted });
            assert_eq!(store.range(Range { at: Some(before), ..Range::default() }).await, refused);
        }
    }
}

pub(crate) async fn changes_after(store: &Embedded, after: Revision, until: Revision) -> Vec<Changes> {
    let mut stream = store.changes(b"", after).await.unwrap();
    let mut found: Vec<Changes> = Vec::new();
    while found.last().map_or(after, |changes| changes.revision) < until {
        found.push(stream.next().await.unwrap().unwrap());
    }
    found
}

fn diff(before: &Keys, after: &Keys, revision: Revision) -> Vec<Event> {
    let all: std::collections::BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let event = |key: &Bytes| {
        let previous = before.get(key).cloned();
        match after.get(key) {
            Some(current) if current.mod_revision == revision => {
                Some(Event { kind: EventKind::Put, current: current.clone(), previous })
            }
            Some(_) => None,
            None => {
                let current =
                    KeyValue { key: key.clone(), value: Bytes::new(), create_revision: 0, mod_revision: revision };
                Some(Event { kind: EventKind::Delete, current, previous })
            }
        }
    };
    all.into_iter().filter_map(event).collect()
}
