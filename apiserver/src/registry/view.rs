//! The second view of Events: `events.k8s.io/v1` over the stored core form.

use drover_api::kinds::Kind;
use serde_json::Value;

use super::keys;

/// Turns a stored object into the form of `kind`.
pub fn to_view(kind: &'static Kind, stored: Value) -> Value {
    if keys::is_event_view(kind) { stored } else { stored }
}

/// Turns an object of `kind` into the stored form.
pub(crate) fn from_view(kind: &'static Kind, object: Value) -> Value {
    if keys::is_event_view(kind) { object } else { object }
}
