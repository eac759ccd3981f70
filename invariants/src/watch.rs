//! S4 and S5: a watch is the exact history, and with its list it is the state.
//!
//! From where it began, a watch delivers every change of what it asked for once, in order and with nothing that never
//! was; or it ends and says that it cannot. A bookmark promises that all up to its revision was delivered.

use std::collections::BTreeMap;

use crate::Violation;

/// What happened to an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It is now this; any text that tells versions apart, such as the JSON or its hash.
    Put(String),
    /// It is gone; the text is its last state.
    Delete(String),
}

/// One change in the history of a store, or of the part of it that a watch selects: an object that leaves the
/// selection is a [`Change::Delete`] there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its revision.
    pub revision: u64,
    /// `kind/namespace/name`.
    pub key: String,
    /// What happened.
    pub change: Change,
}

/// What a watch delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchItem {
    /// A change.
    Event(Entry),
    /// A bookmark: nothing up to this revision is missing.
    Bookmark(u64),
    /// The end with 410 Gone, which is always allowed and always the last.
    Expired,
}

/// A watch as a client saw it, over one or more connections.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WatchRecord {
    /// The revision it began after.
    pub from: u64,
    /// What came, in order.
    pub items: Vec<WatchItem>,
}

/// Compares a watch with the history, in order of revisions, of what it selects.
pub fn check_watch(name: &str, history: &[Entry], watch: &WatchRecord) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut expected = history.iter().filter(|entry| entry.revision > watch.from).peekable();
    let mut last = watch.from;
    for item in &watch.items {
        let message = match item {
            WatchItem::Expired => None,
            WatchItem::Bookmark(revision) => {
                let missed = expected.next_if(|entry| entry.revision <= *revision);
                last = last.max(*revision);
                missed.map(|entry| format!("bookmark {revision} came before {} at {}", entry.key, entry.revision))
            }
            WatchItem::Event(event) => judge(event, last, &mut expected),
        };
        if let WatchItem::Event(event) = item {
            last = last.max(event.revision);
        }
        if let Some(message) = message {
            violations.push(Violation::new("S4", name, message));
            // What follows a first mistake is its consequence.
            break;
        }
    }
    violations
}

fn judge<'a>(
    event: &Entry,
    last: u64,
    expected: &mut std::iter::Peekable<impl Iterator<Item = &'a Entry>>,
) -> Option<String> {
    let said = format!("{} at {}", event.key, event.revision);
    if event.revision <= last {
        return Some(format!("{said} came after revision {last}: twice, out of order or from the past"));
    }
    match expected.next() {
        Some(entry) if entry == event => None,
        Some(entry) if entry.revision < event.revision => {
            Some(format!("{said} came, {} at {} is missing", entry.key, entry.revision))
        }
        Some(entry) if entry.revision == event.revision => {
            Some(format!("{said} came as {:?} and was {:?}", event.change, entry.change))
        }
        _ => Some(format!("{said} never happened")),
    }
}

/// Rebuilds the state from a list (key to text) and the watch that began at its revision, and compares it with the
/// state that a later list showed at `revision`, up to which the watch must have delivered.
pub fn check_replica(
    name: &str,
    list: &BTreeMap<String, String>,
    watch: &WatchRecord,
    (revision, state): (u64, &BTreeMap<String, String>),
) -> Vec<Violation> {
    let mut replica = list.clone();
    for item in &watch.items {
        let WatchItem::Event(event) = item else { continue };
        match &event.change {
            _ if event.revision > revision => {}
            Change::Put(text) => drop(replica.insert(event.key.clone(), text.clone())),
            Change::Delete(_) => drop(replica.remove(&event.key)),
        }
    }
    let keys = replica.keys().chain(state.keys());
    let differs = keys.filter(|key| replica.get(*key) != state.get(*key));
    let mut keys: Vec<&String> = differs.collect();
    keys.sort();
    keys.dedup();
    keys.into_iter()
        .map(|key| {
            let message = format!(
                "{key} is {:?} by list and watch, {:?} by the list at {revision}",
                replica.get(key),
                state.get(key)
            );
            Violation::new("S5", name, message)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(revision: u64, key: &str) -> Entry {
        Entry { revision, key: key.to_owned(), change: Change::Put(format!("{key}@{revision}")) }
    }

    fn history() -> Vec<Entry> {
        let gone = Entry { revision: 5, key: "a".to_owned(), change: Change::Delete("a@3".to_owned()) };
        vec![put(1, "a"), put(2, "b"), put(3, "a"), put(4, "c"), gone]
    }

    fn check(items: impl IntoIterator<Item = WatchItem>) -> String {
        let watch = WatchRecord { from: 1, items: items.into_iter().collect() };
        check_watch("w", &history(), &watch).iter().map(ToString::to_string).collect()
    }

    fn all() -> Vec<WatchItem> {
        history().into_iter().skip(1).map(WatchItem::Event).collect()
    }

    #[test]
    fn only_the_exact_history_passes() {
        assert_eq!(check(all()), "");
        assert_eq!(check(all().into_iter().take(2)), "", "what has not come yet is no gap");
        assert_eq!(check(all().into_iter().take(2).chain([WatchItem::Expired])), "");
        assert_eq!(check(all().into_iter().chain([WatchItem::Bookmark(9)])), "");
        let without = |index: usize| {
            let mut items = all();
            items.remove(index);
            items
        };
        assert_eq!(check(without(1)), "S4 w: c at 4 came, a at 3 is missing");
        let twice = [all()[0].clone(), all()[0].clone()];
        assert_eq!(check(twice), "S4 w: b at 2 came after revision 2: twice, out of order or from the past");
        assert_eq!(check([all()[1].clone(), all()[0].clone()]), "S4 w: a at 3 came, b at 2 is missing");
        assert_eq!(check(all().into_iter().chain([WatchItem::Event(put(8, "x"))])), "S4 w: x at 8 never happened");
        assert_eq!(check([WatchItem::Bookmark(3)]), "S4 w: bookmark 3 came before b at 2");
        let mut blind = all();
        blind[3] = WatchItem::Event(Entry { revision: 5, key: "a".to_owned(), change: Change::Delete(String::new()) });
        assert!(check(blind).contains("came as"), "a deletion carries the last state");
    }

    #[test]
    fn a_list_and_its_watch_are_the_state() {
        let map = |pairs: &[&str]| -> BTreeMap<String, String> {
            pairs.iter().map(|text| (text[..1].to_owned(), (*text).to_owned())).collect()
        };
        let watch = WatchRecord { from: 1, items: all() };
        assert_eq!(check_replica("w", &map(&["a@1"]), &watch, (5, &map(&["b@2", "c@4"]))), []);
        assert_eq!(check_replica("w", &map(&["a@1"]), &watch, (3, &map(&["a@3", "b@2"]))), []);
        assert_eq!(check_replica("w", &map(&["a@1"]), &watch, (5, &map(&["a@3", "c@4"]))).len(), 2);
    }
}
