//! Second views of stored objects: `events.k8s.io/v1` over the core form of Events.

use drover_api::{events, kinds::Kind};
use serde_json::Value;

/// Turns a stored object into the form of `kind`.
pub fn to_view(kind: &'static Kind, stored: Value) -> Value {
    events::from_storage(kind, stored)
}

/// Turns an object of `kind` into the stored form.
pub(super) fn from_view(kind: &'static Kind, object: Value) -> Value {
    events::into_storage(kind, object)
}
