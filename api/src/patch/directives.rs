//! The words of a strategic merge patch that are not data.

use serde_json::{Map, Value};

use crate::status::ApiError;

pub(super) const PATCH: &str = "$patch";
pub(super) const RETAIN_KEYS: &str = "$retainKeys";
pub(super) const SET_ORDER: &str = "$setElementOrder/";
pub(super) const DELETE_FROM: &str = "$deleteFromPrimitiveList/";

/// What `$patch` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Directive {
    Merge,
    Replace,
    Delete,
}

/// Reads the directive of an object of a patch; without one it is merged.
pub(super) fn read(patch: &Map<String, Value>) -> Result<Directive, ApiError> {
    match patch.get(PATCH).map(|word| word.as_str()) {
        None | Some(Some("merge")) => Ok(Directive::Merge),
        Some(Some("replace")) => Ok(Directive::Replace),
        Some(Some("delete")) => Ok(Directive::Delete),
        Some(_) => {
            let shown: String = patch[PATCH].to_string().chars().take(64).collect();
            Err(ApiError::bad_request(format!("unknown patch type: {shown} in map")))
        }
    }
}

pub(super) fn is_directive(key: &str) -> bool {
    key == PATCH || key == RETAIN_KEYS || key.starts_with(SET_ORDER) || key.starts_with(DELETE_FROM)
}

/// Returns the data of a value that has nothing to be merged with: without directives, deleted items and nulls.
/// `None` when the value itself is a deletion.
pub(super) fn strip(value: &Value) -> Result<Option<Value>, ApiError> {
    match value {
        Value::Null => Ok(None),
        Value::Object(patch) => match read(patch)? {
            Directive::Delete => Ok(None),
            Directive::Merge | Directive::Replace => strip_object(patch).map(|fields| Some(Value::Object(fields))),
        },
        Value::Array(items) => strip_list(items).map(|items| Some(Value::Array(items))),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(Some(value.clone())),
    }
}

/// As [`strip`], of an object whose own directive has been obeyed.
pub(super) fn strip_object(patch: &Map<String, Value>) -> Result<Map<String, Value>, ApiError> {
    let mut fields = Map::new();
    for (key, value) in patch.iter().filter(|(key, _)| !is_directive(key)) {
        if let Some(value) = strip(value)? {
            fields.insert(key.clone(), value);
        }
    }
    Ok(fields)
}

/// As [`strip`], of a list. `{"$patch": "replace"}` alone is no item.
pub(super) fn strip_list(items: &[Value]) -> Result<Vec<Value>, ApiError> {
    let mut list = Vec::with_capacity(items.len());
    for item in items {
        let says_replace = item.get(PATCH).and_then(Value::as_str) == Some("replace");
        let is_bare = says_replace && item.as_object().is_some_and(|item| item.len() == 1);
        if item.is_null() {
            list.push(Value::Null);
        } else if let Some(item) = strip(item)?.filter(|_| !is_bare) {
            list.push(item);
        }
    }
    Ok(list)
}
