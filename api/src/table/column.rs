//! The vocabulary that printers are written in.

use serde_json::Value;

use super::Column;
use crate::object;

/// The columns of a kind and the function that fills them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Printer {
    pub(super) columns: &'static [Column],
    /// Makes exactly one cell a column, from the object and the time.
    pub(super) cells: fn(&Value, i64) -> Vec<Value>,
}

/// The first column of most kinds.
pub(super) const NAME: Column = Column {
    name: "Name",
    kind: "string",
    format: "name",
    description: "The name, unique among the objects of its kind in its namespace.",
    priority: 0,
};

/// How long ago an object was created.
pub(super) const AGE: Column = text("Age", "The time since the object was created.");

/// A column of text.
pub(super) const fn text(name: &'static str, description: &'static str) -> Column {
    Column { name, kind: "string", format: "", description, priority: 0 }
}

/// A column of whole numbers.
pub(super) const fn number(name: &'static str, description: &'static str) -> Column {
    Column { name, kind: "integer", format: "", description, priority: 0 }
}

/// A column of text that only `-o wide` shows.
pub(super) const fn wide(name: &'static str, description: &'static str) -> Column {
    Column { name, kind: "string", format: "", description, priority: 1 }
}

/// Returns the number at a path, 0 when there is none.
pub(super) fn count(object: &Value, path: &[&str]) -> i64 {
    object::at(object, path).and_then(Value::as_i64).unwrap_or(0)
}

/// Returns the items of a list at a path.
pub(super) fn items<'a>(object: &'a Value, path: &[&str]) -> &'a [Value] {
    object::at(object, path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Returns the text at a path, or another when it is missing or empty.
pub(super) fn text_or<'a>(object: &'a Value, path: &[&str], otherwise: &'a str) -> &'a str {
    match object::str_at(object, path) {
        "" => otherwise,
        found => found,
    }
}

/// Whether the object is being deleted.
pub(super) fn is_deleted(object: &Value) -> bool {
    !object::str_at(object, &["metadata", "deletionTimestamp"]).is_empty()
}

/// Spells a label map as `a=b,c=d`, or `<none>`.
pub(super) fn labels(map: Option<&Value>) -> String {
    let pairs = map.and_then(Value::as_object).into_iter().flatten();
    let pairs: Vec<String> =
        pairs.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    if pairs.is_empty() { "<none>".to_owned() } else { pairs.join(",") }
}
