//! The columns that `kubectl get` shows (`meta.k8s.io/v1` Table), one printer a kind.

use serde_json::Value;

use crate::kinds::Kind;

/// One column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Heading, for example `Ready`.
    pub name: &'static str,
    /// `string`, `integer`, `date`.
    pub kind: &'static str,
    /// `name` for the name column, else empty.
    pub format: &'static str,
    /// One sentence.
    pub description: &'static str,
    /// 0 always shown, 1 only with `-o wide`.
    pub priority: u8,
}

/// Returns the columns of a kind.
pub fn columns(kind: &Kind) -> Vec<Column> {
    let _ = kind;
    Vec::new()
}

/// Returns the cells of one object, one for each of [`columns`]. `now_secs` is Unix time, for ages.
pub fn cells(kind: &Kind, object: &Value, now_secs: i64) -> Vec<Value> {
    let _ = (kind, object, now_secs);
    Vec::new()
}
