//! The state of one kind at one moment: an ordered copy-on-write map and the recent events that led to it.

use std::{ops::Bound, sync::Arc, sync::OnceLock};

use drover_store::Revision;
use imbl::{OrdMap, Vector};

use super::object::Object;

/// Events kept for one kind; enough for a client that reconnects within minutes under heavy load.
pub(crate) const RING_EVENTS: usize = 8192;
/// Bytes of objects that the events of one kind may keep alive, so that large objects do not pin the heap.
pub(crate) const RING_BYTES: usize = 64 << 20;

/// One change of one object.
#[derive(Debug)]
pub struct Event {
    /// The revision of the change.
    pub revision: Revision,
    /// `namespace/name`, or `name` for a cluster-scoped kind.
    pub key: Arc<str>,
    /// The object after the change; `None` when it was removed.
    pub current: Option<Arc<Object>>,
    /// The object before the change; `None` when it was created.
    pub previous: Option<Arc<Object>>,
    gone: OnceLock<Arc<Object>>,
}

impl Event {
    /// Builds an event.
    pub fn new(revision: Revision, key: Arc<str>, current: Option<Arc<Object>>, previous: Option<Arc<Object>>) -> Self {
        Self { revision, key, current, previous, gone: OnceLock::new() }
    }

    /// Returns the last state before the change under the revision of the change, encoded once for all watchers.
    pub fn gone(&self) -> Option<&Arc<Object>> {
        let previous = self.previous.as_ref()?;
        if drover_api::mutants::active("W02-deletion-of-the-past") {
            return Some(previous);
        }
        Some(self.gone.get_or_init(|| Arc::new(previous.at_revision(self.revision))))
    }

    fn weight(&self) -> usize {
        self.current.as_ref().map_or(0, |object| object.bytes().len())
            + self.previous.as_ref().map_or(0, |object| object.bytes().len())
    }
}

/// A consistent view of one kind. Cloning costs nothing; writers never wait for readers.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Every object, in key order.
    pub objects: OrdMap<Arc<str>, Arc<Object>>,
    /// Objects whose newest state cannot be read, and why. `objects` may still hold an older state of them.
    pub unreadable: OrdMap<Arc<str>, Arc<str>>,
    /// Recent changes, oldest first. Every change after `floor` is here.
    events: Vector<Arc<Event>>,
    events_bytes: usize,
    /// Changes up to and including this revision may be missing from the events.
    pub floor: Revision,
    /// Every change of this kind up to and including this revision is applied.
    pub revision: Revision,
    /// Counts rebuilds; a watcher of an earlier epoch has missed history.
    pub epoch: u64,
}

impl Snapshot {
    /// Starts over from a listing that is complete at `revision`.
    pub fn rebuilt(&self, objects: OrdMap<Arc<str>, Arc<Object>>, revision: Revision) -> Self {
        let epoch = self.epoch + 1;
        let unreadable = OrdMap::new();
        Self { objects, unreadable, events: Vector::new(), events_bytes: 0, floor: revision, revision, epoch }
    }

    /// Notes an object whose newest state cannot be read. Watchers are not told that it is gone, because it is not.
    pub fn mark_unreadable(&mut self, key: Arc<str>, why: Arc<str>) {
        self.unreadable.insert(key, why);
    }

    /// Returns the first object under `prefix` that cannot be read, and why.
    pub fn unreadable_under(&self, prefix: &str) -> Option<(&str, &str)> {
        let (key, why) = self.unreadable.range::<_, str>((Bound::Included(prefix), Bound::Unbounded)).next()?;
        key.starts_with(prefix).then_some((&**key, &**why))
    }

    /// Applies one change; changes arrive in the order of their revisions.
    pub fn apply(&mut self, event: Event) {
        match &event.current {
            Some(object) => self.objects.insert(Arc::clone(&event.key), Arc::clone(object)),
            None => self.objects.remove(&event.key),
        };
        self.revision = event.revision;
        self.events_bytes += event.weight();
        self.events.push_back(Arc::new(event));
    }

    /// Forgets the oldest events beyond the bounds, whole revisions at a time.
    pub fn trim(&mut self, events_max: usize, bytes_max: usize) {
        while self.events.len() > events_max || self.events_bytes > bytes_max {
            let Some(oldest) = self.events.pop_front() else { return };
            self.events_bytes -= oldest.weight();
            if !drover_api::mutants::active("W01-drops-oldest-silently") {
                self.floor = oldest.revision;
            }
        }
        while self.events.front().is_some_and(|event| event.revision <= self.floor) {
            if let Some(event) = self.events.pop_front() {
                self.events_bytes -= event.weight();
            }
        }
    }

    /// Returns the events after `revision`, oldest first, or `None` when some of them are gone.
    pub fn events_after(&self, revision: Revision) -> Option<impl Iterator<Item = &Arc<Event>>> {
        if revision < self.floor {
            return None;
        }
        let start = match self.events.binary_search_by(|event| {
            if event.revision <= revision { std::cmp::Ordering::Less } else { std::cmp::Ordering::Greater }
        }) {
            Ok(start) | Err(start) => start,
        };
        Some(self.events.focus().narrow(start..).into_iter())
    }

    /// Returns the objects as they were at `revision`, by undoing later events, or `None` when that history is gone.
    pub fn objects_at(&self, revision: Revision) -> Option<OrdMap<Arc<str>, Arc<Object>>> {
        let later: Vec<&Arc<Event>> = self.events_after(revision)?.collect();
        let mut objects = self.objects.clone();
        for event in later.into_iter().rev() {
            match &event.previous {
                Some(object) => objects.insert(Arc::clone(&event.key), Arc::clone(object)),
                None => objects.remove(&event.key),
            };
        }
        Some(objects)
    }
}

/// Iterates over the entries whose key starts with `prefix` and comes after `after` (empty: from the start).
pub fn range<'a>(
    objects: &'a OrdMap<Arc<str>, Arc<Object>>,
    prefix: &'a str,
    after: &'a str,
) -> impl Iterator<Item = (&'a Arc<str>, &'a Arc<Object>)> {
    let start = if after.is_empty() { Bound::Included(prefix) } else { Bound::Excluded(after) };
    objects
        .range::<_, str>((start, Bound::Unbounded))
        .skip_while(move |(key, _)| &***key < prefix)
        .take_while(move |(key, _)| key.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::testing::kind;

    fn pod(name: &str, revision: Revision) -> Arc<Object> {
        let stored = format!(r#"{{"kind":"Pod","apiVersion":"v1","metadata":{{"name":"{name}"}}}}"#);
        Arc::new(Object::decode(kind("", "pods"), revision, stored.as_bytes()).expect("valid"))
    }

    fn put(snapshot: &mut Snapshot, key: &str, revision: Revision) {
        let previous = snapshot.objects.get(key).cloned();
        snapshot.apply(Event::new(revision, key.into(), Some(pod(key, revision)), previous));
    }

    fn delete(snapshot: &mut Snapshot, key: &str, revision: Revision) {
        let previous = snapshot.objects.get(key).cloned();
        snapshot.apply(Event::new(revision, key.into(), None, previous));
    }

    fn keys(objects: &OrdMap<Arc<str>, Arc<Object>>) -> Vec<String> {
        objects.iter().map(|(key, object)| format!("{key}@{}", object.revision)).collect()
    }

    #[test]
    fn any_revision_inside_the_ring_can_be_read_back() {
        let mut snapshot = Snapshot::default();
        put(&mut snapshot, "a", 1);
        put(&mut snapshot, "b", 2);
        put(&mut snapshot, "a", 3);
        delete(&mut snapshot, "b", 4);
        let at = |revision| snapshot.objects_at(revision).map(|objects| keys(&objects));
        assert_eq!(at(0), Some(vec![]));
        assert_eq!(at(2), Some(vec!["a@1".into(), "b@2".into()]));
        assert_eq!(at(3), Some(vec!["a@3".into(), "b@2".into()]));
        assert_eq!(at(9), Some(vec!["a@3".into()]));
    }

    #[test]
    fn trimming_forgets_whole_revisions_and_says_so() {
        let mut snapshot = Snapshot::default();
        put(&mut snapshot, "a", 1);
        put(&mut snapshot, "b", 2);
        put(&mut snapshot, "c", 2);
        put(&mut snapshot, "d", 3);
        snapshot.trim(2, usize::MAX);
        assert_eq!(snapshot.floor, 2, "half of revision 2 would be a gap");
        assert!(snapshot.events_after(1).is_none());
        assert_eq!(snapshot.events_after(2).map(Iterator::count), Some(1));
        assert!(snapshot.objects_at(1).is_none());
    }

    #[test]
    fn a_range_is_bounded_by_prefix_and_position() {
        let mut snapshot = Snapshot::default();
        for (revision, key) in (1..).zip(["a/x", "b/x", "b/y", "b/z", "b-c/x", "c/x"]) {
            put(&mut snapshot, key, revision);
        }
        let found =
            |prefix, after| range(&snapshot.objects, prefix, after).map(|(key, _)| key.to_string()).collect::<Vec<_>>();
        assert_eq!(found("b/", ""), ["b/x", "b/y", "b/z"]);
        assert_eq!(found("b/", "b/x"), ["b/y", "b/z"]);
        assert_eq!(found("b/", "a"), ["b/x", "b/y", "b/z"], "a position before the prefix cannot widen it");
        assert_eq!(found("", "b/z"), ["c/x"]);
    }
}
