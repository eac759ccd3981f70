//! One object as the cache keeps it: encoded once, shared by every get, list and watch.

use std::ops::Range;

use bytes::Bytes;
use drover_api::{kinds::Kind, labels::Fields};
use drover_store::Revision;
use serde_json::{Map, Value};

use super::selectable::Selectable;
use crate::sealing::{self, KeyId};

/// What precedes the members of `metadata` in every stored value.
const METADATA: &[u8] = b"\"metadata\":{";
/// The member that is spliced in.
const RESOURCE_VERSION: &[u8] = b"\"resourceVersion\":\"";

/// A stored object: its wire form with `resourceVersion` in place, and the few values that selectors read.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// Revision of the write that made this state; its `resourceVersion`.
    pub revision: Revision,
    bytes: Bytes,
    digits: Range<usize>,
    selectable: Selectable,
}

/// Why a stored value is not an object.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not JSON.
    #[error("stored value is not JSON")]
    Json(#[source] serde_json::Error),
    /// It is sealed, and opening it failed.
    #[error("stored value cannot be opened: its sealing key {0} is missing, or it was changed, moved or never sealed")]
    Sealed(KeyId),
    /// It has no `metadata` to splice into.
    #[error("stored value has no metadata")]
    Shape,
}

impl Object {
    /// Reads a stored value: JSON as `drover_api::object::to_bytes` writes it, without `resourceVersion`.
    ///
    /// # Errors
    /// [`Error`] when the value was not written by a server.
    pub fn decode(kind: &Kind, revision: Revision, stored: &[u8]) -> Result<Self, Error> {
        if let Some(id) = sealing::key_id(stored) {
            return Err(Error::Sealed(id));
        }
        let selectable = Selectable::of_json(kind, stored).map_err(Error::Json)?;
        let (bytes, digits) = splice(stored, revision).ok_or(Error::Shape)?;
        Ok(Self { revision, bytes, digits, selectable })
    }

    /// Encodes an object that is being written; returns it with the bytes that go into the store.
    /// Revision 0 (a dry run) leaves `resourceVersion` out. `value` must not hold one itself.
    ///
    /// # Errors
    /// [`Error::Shape`] for an object without metadata.
    pub fn encode(kind: &Kind, revision: Revision, value: &Value) -> Result<(Self, Bytes), Error> {
        let stored = Bytes::from(drover_api::object::to_bytes(value));
        let selectable = Selectable::of_value(kind, value);
        let (bytes, digits) =
            if revision == 0 { (stored.clone(), 0..0) } else { splice(&stored, revision).ok_or(Error::Shape)? };
        Ok((Self { revision, bytes, digits, selectable }, stored))
    }

    /// Returns the wire form: compact JSON, `kind` first.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Returns the same state under another `resourceVersion`: what a DELETED event shows.
    pub fn at_revision(&self, revision: Revision) -> Self {
        let digits = revision.to_string();
        let mut bytes = Vec::with_capacity(self.bytes.len() + digits.len());
        bytes.extend_from_slice(&self.bytes[..self.digits.start]);
        bytes.extend_from_slice(digits.as_bytes());
        bytes.extend_from_slice(&self.bytes[self.digits.end..]);
        let digits = self.digits.start..self.digits.start + digits.len();
        Self { revision, bytes: bytes.into(), digits, selectable: self.selectable.clone() }
    }

    /// Parses the whole object, `resourceVersion` included.
    pub fn to_value(&self) -> Value {
        serde_json::from_slice(&self.bytes).expect("decode parsed these bytes, and a spliced number keeps them JSON")
    }

    /// Returns what is stored: the whole object without `resourceVersion`.
    pub(crate) fn to_stored(&self) -> Bytes {
        let mut value = self.to_value();
        drover_api::object::metadata_mut(&mut value).remove("resourceVersion");
        drover_api::object::to_bytes(&value).into()
    }

    /// Returns the labels, the names and the fields that selectors may ask for.
    pub fn selectable(&self) -> &Selectable {
        &self.selectable
    }

    /// Returns `metadata.labels`.
    pub fn labels(&self) -> Option<&Map<String, Value>> {
        self.selectable.field("metadata.labels").and_then(Value::as_object)
    }

    /// Returns `metadata.name`.
    pub fn name(&self) -> &str {
        self.selectable.text("metadata.name")
    }

    /// Returns `metadata.namespace`, `""` for a cluster-scoped object.
    pub fn namespace(&self) -> &str {
        self.selectable.text("metadata.namespace")
    }

    /// Returns `metadata.uid`.
    pub fn uid(&self) -> &str {
        self.selectable.text("metadata.uid")
    }

    /// Whether `metadata.deletionTimestamp` is set.
    pub fn is_terminating(&self) -> bool {
        self.selectable.field("metadata.deletionTimestamp").is_some()
    }
}

/// Inserts the revision as the first member of `metadata`. Kind and apiVersion precede it and cannot hold the marker.
fn splice(stored: &[u8], revision: Revision) -> Option<(Bytes, Range<usize>)> {
    let at = memchr::memmem::find(stored, METADATA)? + METADATA.len();
    let digits = revision.to_string();
    let mut bytes = Vec::with_capacity(stored.len() + RESOURCE_VERSION.len() + digits.len() + 2);
    bytes.extend_from_slice(&stored[..at]);
    bytes.extend_from_slice(RESOURCE_VERSION);
    let start = bytes.len();
    bytes.extend_from_slice(digits.as_bytes());
    bytes.push(b'"');
    if stored.get(at) != Some(&b'}') {
        bytes.push(b',');
    }
    bytes.extend_from_slice(&stored[at..]);
    Some((bytes.into(), start..start + digits.len()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::registry::testing::kind;

    fn object(stored: &str) -> Object {
        Object::decode(kind("", "pods"), 7, stored.as_bytes()).expect("valid")
    }

    #[test]
    fn the_revision_is_spliced_into_metadata_and_can_be_replaced() {
        let pod = object(r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a","uid":"u"}}"#);
        assert_eq!(
            pod.bytes(),
            r#"{"kind":"Pod","apiVersion":"v1","metadata":{"resourceVersion":"7","name":"a","uid":"u"}}"#
        );
        assert_eq!(
            pod.at_revision(1234).bytes(),
            r#"{"kind":"Pod","apiVersion":"v1","metadata":{"resourceVersion":"1234","name":"a","uid":"u"}}"#
        );
        assert_eq!(pod.at_revision(1234).at_revision(7), pod);
    }

    #[test]
    fn a_marker_inside_the_data_is_left_alone() {
        let pod = object(r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"\"metadata\":{"},"metadata2":{}}"#);
        assert_eq!(pod.name(), "\"metadata\":{");
        assert_eq!(pod.to_value()["metadata"]["resourceVersion"], "7");
    }

    #[test]
    fn selectors_see_labels_and_the_fields_of_the_kind() {
        let pod = object(
            r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a","labels":{"x":"y"}},"spec":{"nodeName":"n","hostname":"h"},"status":{"phase":"Running"}}"#,
        );
        assert_eq!(pod.selectable().text("spec.nodeName"), "n");
        assert_eq!(pod.selectable().text("status.phase"), "Running");
        assert!(pod.selectable().field("spec.hostname").is_none());
        assert_eq!(pod.labels().and_then(|labels| labels.get("x")), Some(&json!("y")));
    }

    #[test]
    fn bytes_that_no_server_wrote_are_refused() {
        for junk in ["", "{", "[]", "{\"kind\":\"Pod\"}"] {
            assert!(Object::decode(kind("", "pods"), 1, junk.as_bytes()).is_err(), "{junk}");
        }
    }
}
