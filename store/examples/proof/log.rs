//! What happened, by revision: built from one complete watch, and checked to be a possible history of a store.

use std::collections::BTreeMap;

use bytes::Bytes;
use drover_store::{Changes, EventKind, KeyValue, Range, Revision};

/// Every state of every key.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) changes: Vec<Changes>,
    /// The states of each key, oldest first; `None` is its absence.
    keys: BTreeMap<Bytes, Vec<(Revision, Option<KeyValue>)>>,
}

impl Log {
    /// Builds the log. Says what no store may do: revisions that do not increase, events whose previous state is not
    /// the state before them, deletes of what is not there, create revisions that are wrong.
    pub(crate) fn build(changes: Vec<Changes>, faults: &mut Vec<String>) -> Self {
        let mut log = Self::default();
        let mut newest = 0;
        for change in &changes {
            let revision = change.revision;
            if revision <= newest {
                faults.push(format!("log: revision {revision} comes after {newest}"));
            }
            newest = newest.max(revision);
            for event in &change.events {
                let previous = log.state_of(&event.current.key, Revision::MAX).cloned();
                if event.previous != previous {
                    let key = &event.current.key;
                    faults.push(format!(
                        "log: event of {key:?} at {revision} says {:?} was before it, not {previous:?}",
                        event.previous
                    ));
                }
                let state = match event.kind {
                    EventKind::Put => Some(event.current.clone()),
                    EventKind::Delete => None,
                };
                let created = previous.as_ref().map_or(revision, |previous| previous.create_revision);
                let is_right = match &state {
                    Some(state) => state.mod_revision == revision && state.create_revision == created,
                    None => previous.is_some() && event.current.mod_revision == revision,
                };
                if !is_right {
                    faults.push(format!("log: impossible event at {revision}: {event:?} after {previous:?}"));
                }
                log.keys.entry(event.current.key.clone()).or_default().push((revision, state));
            }
        }
        log.changes = changes;
        log
    }

    /// The state of a key at a revision.
    pub(crate) fn state_of(&self, key: &Bytes, at: Revision) -> Option<&KeyValue> {
        let states = self.keys.get(key)?;
        let known = states.partition_point(|(revision, _)| *revision <= at);
        states[..known].last().and_then(|(_, state)| state.as_ref())
    }

    /// What a range read at `at` must hold, and whether there is more.
    pub(crate) fn listed(&self, range: &Range, at: Revision) -> (Vec<KeyValue>, bool) {
        let under = self.keys.range(range.prefix.clone()..).take_while(|(key, _)| key.starts_with(&range.prefix));
        let mut items: Vec<_> = under
            .filter(|(key, _)| **key > range.after || range.after.is_empty())
            .filter_map(|(key, _)| self.state_of(key, at).cloned())
            .collect();
        let more = range.limit > 0 && items.len() > range.limit;
        if more {
            items.truncate(range.limit);
        }
        (items, more)
    }

    /// The smallest revision from `floor` on at which the key was exactly `state`; `None` when there is none.
    pub(crate) fn first_with(&self, key: &Bytes, state: Option<&KeyValue>, floor: Revision) -> Option<Revision> {
        let nothing = Vec::new();
        let states = self.keys.get(key).unwrap_or(&nothing);
        let starts =
            std::iter::once((0, None)).chain(states.iter().map(|(revision, state)| (*revision, state.as_ref())));
        let ends = states.iter().map(|(revision, _)| revision - 1).chain(std::iter::once(Revision::MAX));
        starts
            .zip(ends)
            .find(|((_, found), end)| *found == state && *end >= floor)
            .map(|((start, _), _)| start.max(floor))
    }

    /// The changes of one revision, if it had any.
    pub(crate) fn at(&self, revision: Revision) -> Option<&Changes> {
        let position = self.changes.binary_search_by_key(&revision, |changes| changes.revision).ok()?;
        self.changes.get(position).filter(|changes| !changes.events.is_empty())
    }
}
