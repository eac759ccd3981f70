//! What a write may change: metadata the server owns, status against spec, generation. Pure.

use drover_api::{
    kinds::Kind,
    object::{at, metadata_mut, name, resource_version, str_at, uid},
    status::ApiError,
};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{
    environment::{Environment, format_time},
    update::Part,
};

/// Metadata that only the server writes.
const SERVER_OWNED: [&str; 5] =
    ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"];

/// Puts identity on a new object and drops what its author may not say.
///
/// # Errors
/// 400 when the object names another namespace or carries a resourceVersion.
pub(crate) fn prepare_create(
    kind: &Kind,
    namespace: &str,
    object: &mut Value,
    environment: &dyn Environment,
) -> Result<(), ApiError> {
    place(kind, namespace, object)?;
    if !resource_version(object).is_empty() {
        return Err(ApiError::bad_request("resourceVersion should not be set on objects to be created"));
    }
    let metadata = metadata_mut(object);
    for field in ["resourceVersion", "selfLink", "managedFields", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        metadata.remove(field);
    }
    metadata.remove("generation");
    metadata.insert("uid".to_owned(), environment.uid().into());
    metadata.insert("creationTimestamp".to_owned(), format_time(environment.now()).into());
    if kind.has_generation {
        metadata.insert("generation".to_owned(), 1.into());
    }
    initial_status(kind, object);
    Ok(())
}

/// Checks or fills in `metadata.namespace`.
///
/// # Errors
/// 400 when the object names another namespace than the request.
pub(crate) fn place(kind: &Kind, namespace: &str, object: &mut Value) -> Result<(), ApiError> {
    let stated = str_at(object, &["metadata", "namespace"]);
    if kind.namespaced {
        if !stated.is_empty() && stated != namespace {
            return Err(ApiError::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        metadata_mut(object).insert("namespace".to_owned(), namespace.into());
        return Ok(());
    }
    if !stated.is_empty() {
        return Err(ApiError::bad_request("namespace may not be set on a cluster-scoped object"));
    }
    metadata_mut(object).remove("namespace");
    Ok(())
}

/// Names an object from its `generateName`.
pub(crate) fn generate_name(object: &mut Value, environment: &dyn Environment) {
    /// Kubernetes' bounds: names of 63 characters, suffixes of five.
    const SUFFIX: usize = 5;
    const BASE_MAX: usize = 63 - SUFFIX;
    let base: String = str_at(object, &["metadata", "generateName"]).chars().take(BASE_MAX).collect();
    let generated = base + &environment.suffix(SUFFIX);
    metadata_mut(object).insert("name".to_owned(), generated.into());
}

/// The status that Kubernetes starts an object with; what the author wrote there is dropped (A27).
fn initial_status(kind: &Kind, object: &mut Value) {
    let Some(fields) = object.as_object_mut() else { return };
    match (kind.group, kind.kind) {
        // Agents register their node with a status.
        ("", "Node") => {}
        ("", "Pod") => _ = fields.insert("status".to_owned(), json!({"phase": "Pending", "qosClass": qos(fields)})),
        ("", "PersistentVolume" | "PersistentVolumeClaim") => {
            fields.insert("status".to_owned(), json!({"phase": "Pending"}));
        }
        ("", "Service") => _ = fields.insert("status".to_owned(), json!({"loadBalancer": {}})),
        ("", "Namespace") => {
            fields.insert("status".to_owned(), json!({"phase": "Active"}));
            let spec = fields.entry("spec").or_insert_with(|| json!({}));
            let finalizers = spec.get("finalizers").and_then(Value::as_array).cloned().unwrap_or_default();
            if !finalizers.contains(&json!("kubernetes")) {
                spec["finalizers"] = finalizers.into_iter().chain([json!("kubernetes")]).collect();
            }
        }
        _ if kind.subresources.contains(&"status") => {
            fields.insert("status".to_owned(), json!({}));
        }
        _ => {}
    }
}

/// Classifies a pod as Kubernetes does: Guaranteed, Burstable or BestEffort.
fn qos(pod: &Map<String, Value>) -> &'static str {
    let spec = pod.get("spec").unwrap_or(&Value::Null);
    let containers =
        ["containers", "initContainers"].iter().filter_map(|list| spec.get(list).and_then(Value::as_array)).flatten();
    let (mut any, mut guaranteed) = (false, true);
    for container in containers {
        for resource in ["cpu", "memory"] {
            let limit = at(container, &["resources", "limits", resource]);
            let request = at(container, &["resources", "requests", resource]);
            any |= limit.is_some() || request.is_some();
            guaranteed &= limit.is_some() && (request.is_none() || request == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// Carries over from `current` what this part of the object may not change.
///
/// # Errors
/// 409 when the object states another uid or resourceVersion than the current one.
pub(crate) fn prepare_update(kind: &Kind, part: Part, object: &mut Value, current: &Value) -> Result<(), ApiError> {
    let stated_uid = uid(object);
    if !stated_uid.is_empty() && stated_uid != uid(current) {
        let why =
            format!("Precondition failed: UID in precondition: {stated_uid}, UID in object meta: {}", uid(current));
        return Err(ApiError::conflict(kind, name(current), &why));
    }
    let stated_version = resource_version(object);
    let checked = !drover_api::mutants::active("S03-stale-update-wins");
    if !stated_version.is_empty() && stated_version != "0" && stated_version != resource_version(current) && checked {
        return Err(stale(kind, name(current)));
    }
    match part {
        Part::Main if drover_api::mutants::active("A27-status-through-main") => {}
        Part::Main => keep(object, current, "status", kind.subresources.contains(&"status")),
        Part::Status => {
            let status = object.get("status").cloned();
            let metadata = object.get("metadata").cloned().unwrap_or_default();
            *object = current.clone();
            keep_status_metadata(object, &metadata);
            set_or_remove(object, "status", status);
        }
        Part::Finalize => {
            let finalizers = at(object, &["spec", "finalizers"]).cloned();
            *object = current.clone();
            if let Some(spec) = object.get_mut("spec") {
                set_or_remove(spec, "finalizers", finalizers);
            }
        }
    }
    let source = current.get("metadata").cloned().unwrap_or_default();
    let metadata = metadata_mut(object);
    for field in SERVER_OWNED.into_iter().chain(["name", "namespace", "generateName"]) {
        match source.get(field) {
            Some(value) => _ = metadata.insert(field.to_owned(), value.clone()),
            None => _ = metadata.remove(field),
        }
    }
    metadata.insert("resourceVersion".to_owned(), source["resourceVersion"].clone());
    metadata.remove("selfLink");
    metadata.remove("managedFields");
    Ok(())
}

/// 409 for a write that was made from an older state.
pub(crate) fn stale(kind: &Kind, name: &str) -> ApiError {
    const WHY: &str = "the object has been modified; please apply your changes to the latest version and try again";
    ApiError::conflict(kind, name, WHY)
}

/// Counts a change of anything but metadata and status.
pub(crate) fn bump_generation(kind: &Kind, object: &mut Value, current: &Value) {
    let told = |value: &Value| {
        let mut value = value.clone();
        if let Some(fields) = value.as_object_mut() {
            fields.remove("metadata");
            fields.remove("status");
        }
        value
    };
    if kind.has_generation && told(object) != told(current) {
        increment_generation(object);
    }
}

/// Raises `metadata.generation` by one when it is kept.
pub(crate) fn increment_generation(object: &mut Value) {
    if let Some(generation) = at(object, &["metadata", "generation"]).and_then(Value::as_i64) {
        metadata_mut(object).insert("generation".to_owned(), (generation + 1).into());
    }
}

/// Whether removing the last finalizer completes the deletion of this object.
pub(crate) fn deletion_is_complete(kind: &Kind, object: &Value) -> bool {
    let metadata = |field: &str| at(object, &["metadata", field]);
    let none = |list: Option<&Value>| list.and_then(Value::as_array).is_none_or(Vec::is_empty);
    let graceless = metadata("deletionGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(0) == 0;
    let namespace = kind.group.is_empty() && kind.kind == "Namespace";
    metadata("deletionTimestamp").is_some()
        && graceless
        && (none(metadata("finalizers")) || drover_api::mutants::active("C12-finalizers-ignored"))
        && (!namespace || none(at(object, &["spec", "finalizers"])))
}

/// Sets `deletionTimestamp` and the grace period; a first mark counts as a new generation.
pub(crate) fn mark_deleted(object: &mut Value, at_time: Timestamp, grace_secs: i64) {
    let first = at(object, &["metadata", "deletionTimestamp"]).is_none();
    let metadata = metadata_mut(object);
    metadata.insert("deletionTimestamp".to_owned(), format_time(at_time).into());
    metadata.insert("deletionGracePeriodSeconds".to_owned(), grace_secs.into());
    if first {
        increment_generation(object);
    }
}

fn keep(object: &mut Value, current: &Value, field: &str, kept: bool) {
    if kept {
        set_or_remove(object, field, current.get(field).cloned());
    }
}

/// A status write may also change labels, annotations, finalizers and owners, as in Kubernetes.
fn keep_status_metadata(object: &mut Value, stated: &Value) {
    if !stated.is_object() {
        return;
    }
    let metadata = metadata_mut(object);
    for field in ["labels", "annotations", "finalizers", "ownerReferences"] {
        if let Some(value) = stated.get(field) {
            metadata.insert(field.to_owned(), value.clone());
        }
    }
}

fn set_or_remove(object: &mut Value, field: &str, value: Option<Value>) {
    let Some(fields) = object.as_object_mut() else { return };
    match value {
        Some(value) => _ = fields.insert(field.to_owned(), value),
        None => _ = fields.remove(field),
    }
}
