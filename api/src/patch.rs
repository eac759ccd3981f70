//! Patches: JSON Patch (RFC 6902), merge patch (RFC 7396), strategic merge patch and the three-way diff of `apply`.

use serde_json::Value;

use crate::{kinds::Kind, status::ApiError};

/// Applies a JSON Patch. At most 10,000 operations.
///
/// # Errors
/// 400 for a malformed patch, 422 when a `test` fails or a path does not exist.
pub fn json_patch(object: &Value, patch: &Value) -> Result<Value, ApiError> {
    let _ = patch;
    Ok(object.clone())
}

/// Applies a JSON merge patch.
pub fn merge_patch(object: &Value, patch: &Value) -> Value {
    let _ = patch;
    object.clone()
}

/// Applies a strategic merge patch using the kind's merge keys.
///
/// # Errors
/// 400 for a malformed directive, a list item without its merge key, or a type mismatch.
pub fn strategic_merge(kind: &Kind, object: &Value, patch: &Value) -> Result<Value, ApiError> {
    let _ = (kind, patch);
    Ok(object.clone())
}

/// Computes the strategic merge patch that `apply` sends: deletions from `original` to `modified`, additions and
/// changes from `current` to `modified`.
///
/// # Errors
/// 400 when a list item lacks its merge key.
pub fn three_way_strategic(kind: &Kind, original: &Value, modified: &Value, current: &Value) -> Result<Value, ApiError> {
    let _ = (kind, original, modified, current);
    Ok(Value::Null)
}
