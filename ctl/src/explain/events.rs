//! Picking the events that matter.

use drover_api::object::{self, str_at};
use serde_json::Value;

/// Returns the events about an object, oldest first.
pub(crate) fn about<'a>(events: &'a [Value], uid: &str) -> Vec<&'a Value> {
    let mut found: Vec<&Value> =
        events.iter().filter(|event| str_at(event, &["involvedObject", "uid"]) == uid && !uid.is_empty()).collect();
    found.sort_by_key(|event| time(event).to_owned());
    found
}

/// Returns the newest of an object's events that has one of these reasons.
pub(crate) fn newest<'a>(events: &'a [Value], uid: &str, reasons: &[&str]) -> Option<&'a Value> {
    let is_one = |event: &&Value| reasons.contains(&str_at(event, &["reason"]));
    about(events, uid).into_iter().rev().find(is_one)
}

/// When an event was last seen, as the API spells it.
pub(crate) fn time(event: &Value) -> &str {
    let candidates = [
        str_at(event, &["series", "lastObservedTime"]),
        str_at(event, &["lastTimestamp"]),
        str_at(event, &["eventTime"]),
        str_at(event, &["metadata", "creationTimestamp"]),
    ];
    candidates.into_iter().find(|time| !time.is_empty()).unwrap_or_default()
}

/// The message of an event on one line.
pub(super) fn message(event: &Value) -> String {
    one_line(object::str_at(event, &["message"]))
}

/// Joins lines and cuts what nobody reads.
pub(super) fn one_line(text: &str) -> String {
    let joined = text.split_whitespace().collect::<Vec<_>>().join(" ");
    // It becomes a part of a sentence of ours.
    let joined = joined.trim_end_matches('.');
    let mut cut: String = joined.chars().take(400).collect();
    if cut.len() < joined.len() {
        cut.push('…');
    }
    cut
}
