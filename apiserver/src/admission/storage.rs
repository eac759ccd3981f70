//! Claims get the default class; volumes and claims in use are protected from deletion.

use drover_api::{
    object::{at, metadata_mut, str_at},
    status::ApiError,
};
use serde_json::{Value, json};

use super::{Effects, Operation, Request, Settings};

const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";

pub(super) fn admit(_: &Settings, request: &Request<'_>, object: &mut Value, _: &mut Effects) -> Result<(), ApiError> {
    if request.operation != Operation::Create {
        return Ok(());
    }
    if request.is_main("", "PersistentVolumeClaim") {
        protect(object, "kubernetes.io/pvc-protection");
        default_class(request, object);
    } else if request.is_main("", "PersistentVolume") {
        protect(object, "kubernetes.io/pv-protection");
    }
    Ok(())
}

fn protect(object: &mut Value, finalizer: &str) {
    let place = metadata_mut(object).entry("finalizers").or_insert_with(|| json!([]));
    if !place.is_array() {
        *place = json!([]);
    }
    if let Some(finalizers) = place.as_array_mut()
        && !finalizers.contains(&json!(finalizer))
    {
        finalizers.push(finalizer.into());
    }
}

/// A claim that names no class (not even `""`) gets the newest class marked as default.
fn default_class(request: &Request<'_>, claim: &mut Value) {
    if at(claim, &["spec", "storageClassName"]).is_some_and(|name| !name.is_null()) {
        return;
    }
    let classes =
        request.world.list("storage.k8s.io", "storageclasses", "").into_iter().map(|object| object.to_value());
    let is_default = |class: &Value| str_at(class, &["metadata", "annotations", DEFAULT_CLASS]) == "true";
    let age = |class: &Value| {
        let text = |field: &str| str_at(class, &["metadata", field]).to_owned();
        (text("creationTimestamp"), std::cmp::Reverse(text("name")))
    };
    if let Some(class) = classes.filter(is_default).max_by_key(age) {
        claim["spec"]["storageClassName"] = str_at(&class, &["metadata", "name"]).into();
    }
}
