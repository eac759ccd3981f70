//! The newest committed changes in memory, so that a watcher that keeps up never touches the disk.

use std::collections::VecDeque;

use super::read::event_bytes;
use crate::{Changes, Revision};

/// So much memory at most for history that is on disk as well; the newest revision is always kept.
const MAX_BYTES: usize = 8 << 20;

/// A bounded run of consecutive revisions.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    changes: VecDeque<Changes>,
    bytes: usize,
    /// Everything after this revision is in `changes`.
    after: Revision,
}

impl Tail {
    /// Starts empty, at the store's newest revision.
    pub(crate) fn starting_at(revision: Revision) -> Self {
        Self { after: revision, ..Self::default() }
    }

    /// Adds the next revision, dropping the oldest ones beyond the bound.
    pub(crate) fn push(&mut self, changes: Changes) {
        self.bytes += changes_bytes(&changes);
        self.changes.push_back(changes);
        while self.bytes > MAX_BYTES && self.changes.len() > 1 {
            if let Some(oldest) = self.changes.pop_front() {
                self.bytes -= changes_bytes(&oldest);
                self.after = oldest.revision;
            }
        }
    }

    /// Copies up to `limit` revisions after `after`; `None` when some of them are no longer in memory.
    pub(crate) fn after(&self, after: Revision, limit: usize) -> Option<Vec<Changes>> {
        if after < self.after && !drover_api::mutants::active("W01-gap-behind-the-tail") {
            return None;
        }
        let known = self.changes.partition_point(|changes| changes.revision <= after);
        Some(self.changes.iter().skip(known).take(limit).cloned().collect())
    }
}

fn changes_bytes(changes: &Changes) -> usize {
    changes.events.iter().map(event_bytes).sum()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{Event, EventKind, KeyValue};

    fn changes(revision: Revision, bytes: usize) -> Changes {
        let current = KeyValue {
            key: Bytes::from_static(b"k"),
            value: Bytes::from(vec![0; bytes]),
            create_revision: revision,
            mod_revision: revision,
        };
        Changes { revision, events: vec![Event { kind: EventKind::Put, current, previous: None }] }
    }

    fn revisions(found: Option<Vec<Changes>>) -> Option<Vec<Revision>> {
        found.map(|found| found.iter().map(|changes| changes.revision).collect())
    }

    #[test]
    fn a_reader_that_is_up_to_date_gets_nothing() {
        let tail = Tail::starting_at(5);
        assert_eq!(revisions(tail.after(5, 10)), Some(vec![]));
    }

    #[test]
    fn history_before_the_tail_is_not_claimed_to_be_known() {
        let mut tail = Tail::starting_at(5);
        tail.push(changes(6, 0));
        assert_eq!(revisions(tail.after(4, 10)), None);
        assert_eq!(revisions(tail.after(5, 10)), Some(vec![6]));
    }

    #[test]
    fn memory_is_bounded_and_what_is_left_is_contiguous() {
        let mut tail = Tail::starting_at(0);
        for revision in 1..=20 {
            tail.push(changes(revision, 1 << 20));
        }
        assert_eq!(revisions(tail.after(0, 100)), None);
        assert_eq!(revisions(tail.after(17, 100)), Some(vec![18, 19, 20]));
        assert_eq!(revisions(tail.after(17, 2)), Some(vec![18, 19]));
        assert!(tail.bytes <= MAX_BYTES);
    }

    #[test]
    fn one_huge_revision_is_kept() {
        let mut tail = Tail::starting_at(0);
        tail.push(changes(1, MAX_BYTES * 2));
        assert_eq!(revisions(tail.after(0, 1)), Some(vec![1]));
    }
}
