//! Claims get the default class; volumes and claims in use are protected from deletion.

use drover_api::{
    object::{at, metadata_mut},
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
    if let Some(class) =
        super::newest_default(request.world.list("storage.k8s.io", "storageclasses", ""), DEFAULT_CLASS)
    {
        claim["spec"]["storageClassName"] = class.into();
    }
}
