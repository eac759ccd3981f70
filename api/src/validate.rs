//! Validation, worded as Kubernetes words it, one hook a kind.

use serde_json::Value;

use crate::{kinds::Kind, status::FieldError};

/// Checks a defaulted object that is to be created.
pub fn create(kind: &Kind, object: &Value) -> Vec<FieldError> {
    let _ = (kind, object);
    Vec::new()
}

/// Checks a defaulted object that is to replace `old`: [`create`]'s rules plus the immutable fields.
pub fn update(kind: &Kind, object: &Value, old: &Value) -> Vec<FieldError> {
    let _ = (kind, object, old);
    Vec::new()
}

/// Checks a write to the `status` subresource.
pub fn update_status(kind: &Kind, object: &Value, old: &Value) -> Vec<FieldError> {
    let _ = (kind, object, old);
    Vec::new()
}
