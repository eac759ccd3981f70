//! Patches: JSON Patch (RFC 6902), merge patch (RFC 7396), strategic merge patch and the three-way diff of `apply`.
//!
//! All of them are functions over JSON documents; the result of each has yet to pass [`crate::decode::check`].

mod directives;
mod json;
mod keys;
mod lookup;
mod merge;
mod strategic;
#[cfg(test)]
mod tests;
mod three_way;

use serde_json::Value;

use crate::{kinds::Kind, schema::FieldType, status::ApiError};

pub use json::{MAX_OPERATIONS, MAX_RESULT_BYTES};

/// Applies a JSON Patch of at most [`MAX_OPERATIONS`] operations.
///
/// # Errors
/// 400 for a malformed patch, 413 for too many operations or a result above [`MAX_RESULT_BYTES`], 422 when a `test`
/// fails, a path does not exist or the result would nest too deep.
pub fn json_patch(object: &Value, patch: &Value) -> Result<Value, ApiError> {
    json::apply(object, patch)
}

/// Applies a JSON merge patch.
pub fn merge_patch(object: &Value, patch: &Value) -> Value {
    merge::apply(object, patch)
}

/// Applies a strategic merge patch using the kind's merge keys.
///
/// # Errors
/// 400 for a malformed directive, a list item without its merge key, or a type mismatch.
pub fn strategic_merge(kind: &Kind, object: &Value, patch: &Value) -> Result<Value, ApiError> {
    strategic::apply(type_of(kind), object, patch)
}

/// Computes the strategic merge patch that `apply` sends: deletions from `original` to `modified`, additions and
/// changes from `current` to `modified`. `original` is `Null` when nothing was applied before.
///
/// The patch is `{}` exactly when applying it would change nothing.
///
/// # Errors
/// 400 when a list item lacks its merge key.
pub fn three_way_strategic(
    kind: &Kind,
    original: &Value,
    modified: &Value,
    current: &Value,
) -> Result<Value, ApiError> {
    three_way::strategic(type_of(kind), original, modified, current)
}

/// As [`three_way_strategic`] for objects without a schema: a JSON merge patch, in which lists are replaced.
pub fn three_way_merge(original: &Value, modified: &Value, current: &Value) -> Value {
    three_way::plain(original, modified, current)
}

fn type_of(kind: &Kind) -> FieldType {
    crate::schema::id_of(kind.type_name).map_or(FieldType::Any, FieldType::Message)
}
