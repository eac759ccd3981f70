//! Objects live only in namespaces that exist and are not going away.

use drover_api::{
    kinds::{self, Kind},
    object::name,
    status::ApiError,
};
use drover_store::Compare;
use serde_json::{Value, json};

use super::{Effects, Operation, Request, Settings};
use crate::registry::key;

/// Namespaces that the cluster cannot be without.
const PERMANENT: [&str; 3] = ["default", "kube-system", "kube-public"];

pub(super) fn admit(
    _: &Settings,
    request: &Request<'_>,
    object: &mut Value,
    effects: &mut Effects,
) -> Result<(), ApiError> {
    if request.operation == Operation::Delete && request.is_main("", "Namespace") && PERMANENT.contains(&request.name) {
        return Err(ApiError::forbidden(request.kind, request.name, "this namespace may not be deleted"));
    }
    if request.operation != Operation::Create || !request.kind.namespaced {
        return Ok(());
    }
    let namespaces = namespaces()?;
    let Some(namespace) = request.world.get("", "namespaces", "", request.namespace) else {
        return Err(ApiError::not_found(namespaces, request.namespace));
    };
    if namespace.is_terminating() {
        return Err(terminating(request, name(object)));
    }
    // The namespace must still be as it was seen when the object is written, so that none is left behind in it.
    let key = key(namespaces, "", request.namespace);
    effects.compares.push(Compare { key: key.into(), mod_revision: namespace.revision });
    Ok(())
}

fn terminating(request: &Request<'_>, name: &str) -> ApiError {
    let namespace = request.namespace;
    let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
    let mut error = ApiError::forbidden(request.kind, name, &why);
    error.details["causes"] = json!([{
        "reason": "NamespaceTerminating",
        "message": format!("namespace {namespace} is being terminated"),
        "field": "metadata.namespace",
    }]);
    error
}

fn namespaces() -> Result<&'static Kind, ApiError> {
    kinds::by_resource("", "v1", "namespaces").ok_or_else(|| ApiError::internal("namespaces are not served"))
}
