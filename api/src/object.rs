//! Reading and writing the parts that every object has: `kind`, `apiVersion`, `metadata`.
//!
//! Pure accessors over `serde_json::Value`; the API server, the tables and validation all read objects through them.

use serde_json::{Map, Value};

/// Returns the value at a dotted path of object keys (`["spec", "nodeName"]`), or `None` when any step is missing.
pub fn at<'a>(object: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(object, |value, key| value.get(key))
}

/// Returns the string at `path`, or `""` when it is missing or not a string.
pub fn str_at<'a>(object: &'a Value, path: &[&str]) -> &'a str {
    at(object, path).and_then(Value::as_str).unwrap_or_default()
}

/// Returns `metadata.name`, or `""`.
pub fn name(object: &Value) -> &str {
    str_at(object, &["metadata", "name"])
}

/// Returns `metadata.namespace`, or `""` for a cluster-scoped object.
pub fn namespace(object: &Value) -> &str {
    str_at(object, &["metadata", "namespace"])
}

/// Returns `metadata.uid`, or `""`.
pub fn uid(object: &Value) -> &str {
    str_at(object, &["metadata", "uid"])
}

/// Returns `metadata.resourceVersion`, or `""`.
pub fn resource_version(object: &Value) -> &str {
    str_at(object, &["metadata", "resourceVersion"])
}

/// Returns `metadata.labels` when it is an object.
pub fn labels(object: &Value) -> Option<&Map<String, Value>> {
    at(object, &["metadata", "labels"]).and_then(Value::as_object)
}

/// Returns `metadata` for writing, creating it when it is missing.
///
/// # Panics
/// Never for objects that came out of [`crate::decode::decode`], whose top level and metadata are JSON objects.
pub fn metadata_mut(object: &mut Value) -> &mut Map<String, Value> {
    object
        .as_object_mut()
        .expect("decode admits only JSON objects")
        .entry("metadata")
        .or_insert_with(|| Value::Object(Map::new()))
        .as_object_mut()
        .expect("decode admits only object metadata")
}

/// Serialises an object compactly with `kind`, `apiVersion` and `metadata` first.
///
/// Clients sniff the first bytes (kube-rs asserts on them), so the order is part of the wire format.
pub fn to_bytes(object: &Value) -> Vec<u8> {
    let Some(fields) = object.as_object() else {
        return object.to_string().into_bytes();
    };
    const FIRST: [&str; 3] = ["kind", "apiVersion", "metadata"];
    let mut out = Vec::with_capacity(512);
    out.push(b'{');
    let leading = FIRST.iter().filter_map(|key| fields.get_key_value(*key));
    let rest = fields.iter().filter(|(key, _)| !FIRST.contains(&key.as_str()));
    for (index, (key, value)) in leading.chain(rest).enumerate() {
        if index > 0 {
            out.push(b',');
        }
        serde_json::to_writer(&mut out, key).expect("writing a string into memory cannot fail");
        out.push(b':');
        serde_json::to_writer(&mut out, value).expect("writing a JSON value into memory cannot fail");
    }
    out.push(b'}');
    out
}
