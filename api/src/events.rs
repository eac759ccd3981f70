//! The two views of an event: `v1` Event, in which events are stored, and `events.k8s.io/v1` Event.
//!
//! They say the same in different field names. What one view has and the other lacks does not exist: the conversion
//! loses nothing in either direction.

use serde_json::{Map, Value};

use crate::kinds::Kind;

/// Field names: in the stored form, in the other view.
const NAMES: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

/// Returns an object of `kind` in the form in which it is stored.
pub fn into_storage(kind: &Kind, object: Value) -> Value {
    match kind.stored_as {
        Some((api_version, _)) => rename(object, api_version, |(stored, shown)| (shown, stored)),
        None => object,
    }
}

/// Returns a stored object as `kind` shows it.
pub fn from_storage(kind: &Kind, object: Value) -> Value {
    match kind.stored_as {
        Some(_) => rename(object, &kind.api_version(), |(stored, shown)| (stored, shown)),
        None => object,
    }
}

type Pair = (&'static str, &'static str);

fn rename(object: Value, api_version: &str, direction: impl Fn(Pair) -> Pair) -> Value {
    let Value::Object(fields) = object else { return object };
    let mut renamed = Map::new();
    for (name, value) in fields {
        let found = NAMES.into_iter().map(&direction).find(|(from, _)| *from == name);
        renamed.insert(found.map_or(name, |(_, to)| to.to_owned()), value);
    }
    renamed.insert("apiVersion".to_owned(), api_version.into());
    Value::Object(renamed)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;
    use crate::{kinds, schema};

    fn kind(api_version: &str) -> &'static Kind {
        kinds::by_gvk(api_version, "Event").unwrap()
    }

    #[test]
    fn an_event_is_the_same_in_both_views() {
        let shown = json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "a"}, "note": "Started",
            "reason": "Started", "type": "Normal", "regarding": {"kind": "Pod", "name": "p"}, "action": "Start",
            "reportingController": "drover", "reportingInstance": "n1", "eventTime": "2024-01-01T00:00:00.000000Z",
            "series": {"count": 2, "lastObservedTime": "2024-01-01T00:00:00.000000Z"}, "deprecatedCount": 3,
        });
        let stored = into_storage(kind("events.k8s.io/v1"), shown.clone());
        assert_eq!(stored["apiVersion"], "v1");
        assert_eq!(stored["message"], "Started");
        assert_eq!(stored["involvedObject"]["name"], "p");
        assert_eq!(stored["reportingComponent"], "drover");
        assert_eq!(stored["count"], 3);
        assert_eq!(from_storage(kind("events.k8s.io/v1"), stored.clone()), shown);
        assert_eq!(from_storage(kind("v1"), stored.clone()), stored);
    }

    #[test]
    fn the_names_account_for_every_field_of_both_types() {
        let fields = |name: &str| -> BTreeSet<&str> {
            schema::by_name(name).unwrap().fields.iter().map(|field| field.name).collect()
        };
        let renamed: BTreeSet<&str> = fields("core.v1.Event")
            .into_iter()
            .map(|name| NAMES.iter().find(|(stored, _)| *stored == name).map_or(name, |(_, shown)| shown))
            .collect();
        assert_eq!(renamed, fields("events.v1.Event"));
    }
}
