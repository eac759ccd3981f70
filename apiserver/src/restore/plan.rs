//! What a restore does to one key, and to all of them by kind. Pure.

use std::collections::BTreeMap;

use bytes::Bytes;
use drover_api::backup::Record;
use drover_store::{KeyValue, Operation, Revision};
use serde::{Deserialize, Serialize};

use crate::registry::ROOT;

/// A store that was restored into begins its revisions so far above the file's: more writes than the lost store can
/// have made after the backup (a day at 1,500 a second), and 16 such restores before revisions outgrow 31 bits, which
/// the revisions of memory-only objects need them to fit (`volatile`).
const HEADROOM: Revision = 1 << 27;

/// What changes, by kind.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Counts(BTreeMap<String, Count>);

/// What changes of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Count {
    /// Objects that are there again.
    pub(super) created: u64,
    /// Objects that are as they were.
    pub(super) changed: u64,
    /// Objects that the file does not have.
    pub(super) removed: u64,
}

/// What becomes of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Create,
    Change,
    Remove,
    Keep,
}

/// Decides what becomes of the lower one of two keys, or of both when they are the same; `None` when there is none.
pub(super) fn step(wanted: Option<&Record>, current: Option<&KeyValue>) -> Option<Step> {
    match (wanted, current) {
        (None, None) => None,
        (Some(_), None) => Some(Step::Create),
        (None, Some(_)) => Some(Step::Remove),
        (Some(wanted), Some(current)) => Some(match wanted.key.as_slice().cmp(&current.key) {
            std::cmp::Ordering::Less => Step::Create,
            std::cmp::Ordering::Greater => Step::Remove,
            // Writing what is there already would only tell every client of a change that is none.
            std::cmp::Ordering::Equal if wanted.value == current.value => Step::Keep,
            std::cmp::Ordering::Equal => Step::Change,
        }),
    }
}

/// The write that a step takes; `None` when there is nothing to write.
pub(super) fn operation(step: Step, wanted: Option<Record>, current: Option<KeyValue>) -> Option<Operation> {
    match step {
        Step::Create | Step::Change => {
            wanted.map(|record| Operation::Put { key: record.key.into(), value: record.value.into() })
        }
        Step::Remove => current.map(|current| Operation::Delete { key: current.key }),
        Step::Keep => None,
    }
}

/// The offset of revisions after a restore: as it is, unless the file knows revisions that this store has yet to reach.
pub(super) fn next_offset(offset: Revision, store_revision: Revision, file_revision: Revision) -> Revision {
    if file_revision <= store_revision + offset {
        return offset;
    }
    file_revision + HEADROOM - store_revision
}

impl Counts {
    pub(super) fn note(&mut self, step: Step, key: &[u8]) {
        let count = self.0.entry(kind_of(key)).or_default();
        match step {
            Step::Create => count.created += 1,
            Step::Change => count.changed += 1,
            Step::Remove => count.removed += 1,
            Step::Keep => {}
        }
        self.0.retain(|_, count| *count != Count::default());
    }

    #[cfg(test)]
    pub(super) fn of(&self, kind: &str) -> Count {
        self.0.get(kind).copied().unwrap_or_default()
    }
}

/// `deployments.apps` of `/registry/apps/deployments/…`.
fn kind_of(key: &[u8]) -> String {
    let key = String::from_utf8_lossy(key.get(ROOT.len()..).unwrap_or_default()).into_owned();
    let mut parts = key.split('/');
    match (parts.next().unwrap_or_default(), parts.next().unwrap_or_default()) {
        ("core", plural) => plural.to_owned(),
        (group, plural) => format!("{plural}.{group}"),
    }
}

/// The key of a step, for counting.
pub(super) fn key_of(step: Step, wanted: Option<&Record>, current: Option<&KeyValue>) -> Bytes {
    match step {
        Step::Create | Step::Change | Step::Keep => wanted.map(|record| Bytes::copy_from_slice(&record.key)),
        Step::Remove => current.map(|current| current.key.clone()),
    }
    .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &str, value: &str) -> Record {
        Record { key: key.into(), value: value.into() }
    }

    fn stored(key: &str, value: &str) -> KeyValue {
        KeyValue { key: key.to_owned().into(), value: value.to_owned().into(), create_revision: 1, mod_revision: 1 }
    }

    #[test]
    fn each_key_gets_the_one_step_that_makes_it_as_it_was() {
        let (a, b) = (record("a", "1"), record("b", "1"));
        for (wanted, current, expected) in [
            (None, None, None),
            (Some(&a), None, Some(Step::Create)),
            (None, Some(stored("a", "1")), Some(Step::Remove)),
            (Some(&a), Some(stored("a", "1")), Some(Step::Keep)),
            (Some(&a), Some(stored("a", "2")), Some(Step::Change)),
            (Some(&a), Some(stored("b", "1")), Some(Step::Create)),
            (Some(&b), Some(stored("a", "1")), Some(Step::Remove)),
        ] {
            assert_eq!(step(wanted, current.as_ref()), expected, "{wanted:?} {current:?}");
        }
    }

    #[test]
    fn revisions_go_on_and_leap_only_over_those_of_another_store() {
        assert_eq!(next_offset(0, 100, 60), 0, "the store's own file");
        assert_eq!(next_offset(7, 100, 107), 7);
        let offset = next_offset(0, 50, 5_000);
        assert!(offset + 50 > 5_000 + HEADROOM / 2, "{offset}");
        assert_eq!(next_offset(offset, 60, 5_000), offset, "the same file again");
    }

    #[test]
    fn changes_are_counted_by_kind() {
        let mut counts = Counts::default();
        counts.note(Step::Create, b"/registry/apps/deployments/default/a");
        counts.note(Step::Remove, b"/registry/core/pods/default/a");
        counts.note(Step::Keep, b"/registry/core/nodes/a");
        assert_eq!(counts.of("deployments.apps").created, 1);
        assert_eq!(counts.of("pods").removed, 1);
        assert_eq!(counts.0.len(), 2);
    }
}
