//! Ingresses get the default class.

use drover_api::{
    ingress::OLD_CLASS,
    object::{at, str_at},
    status::ApiError,
};
use serde_json::Value;

use super::{Effects, Operation, Request, Settings};

const GROUP: &str = "networking.k8s.io";
const DEFAULT_CLASS: &str = "ingressclass.kubernetes.io/is-default-class";

/// An Ingress that names no class in either way gets the newest class marked as default.
pub(super) fn admit(_: &Settings, request: &Request<'_>, object: &mut Value, _: &mut Effects) -> Result<(), ApiError> {
    if request.operation != Operation::Create || !request.is_main(GROUP, "Ingress") {
        return Ok(());
    }
    let named = at(object, &["spec", "ingressClassName"]).is_some_and(|name| !name.is_null())
        || !str_at(object, &["metadata", "annotations", OLD_CLASS]).is_empty();
    let classes = || request.world.list(GROUP, "ingressclasses", "");
    if let Some(class) = (!named).then(classes).and_then(|classes| super::newest_default(classes, DEFAULT_CLASS)) {
        object["spec"]["ingressClassName"] = class.into();
    }
    Ok(())
}
