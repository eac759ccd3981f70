//! Defaulting, as Kubernetes does it, one hook a kind.

use serde_json::Value;

use crate::kinds::Kind;

/// Fills in what the user left out. Idempotent; never overwrites.
pub fn apply(kind: &Kind, object: &mut Value) {
    let _ = (kind, object);
}
