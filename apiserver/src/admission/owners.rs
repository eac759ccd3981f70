//! Owner references decide what the garbage collector deletes: nobody deletes through them what they may not delete,
//! nor keeps what is not theirs from going (faults A26, C11).

use drover_api::{
    kinds::{self, Kind},
    object::{at, str_at},
    status::{ApiError, FieldError},
};
use serde_json::Value;

use super::{Effects, Operation, Request, Settings};
use crate::authz::Attributes;

pub(super) fn admit(_: &Settings, request: &Request<'_>, object: &mut Value, _: &mut Effects) -> Result<(), ApiError> {
    if request.operation == Operation::Delete {
        return Ok(());
    }
    let (new, old) = (owners(object), request.old.map(owners).unwrap_or_default());
    if new == old {
        return Ok(());
    }
    let scopes: Vec<FieldError> =
        new.iter().enumerate().filter_map(|(index, owner)| scope(request, index, owner)).collect();
    if !scopes.is_empty() {
        return Err(ApiError::invalid(request.kind, request.name, &scopes));
    }
    // A new object's owners are its author's to choose; those of an old one decide whether it stays.
    if request.old.is_some() && !may_delete(request) {
        let why = "cannot set an ownerRef on a resource you can't delete";
        return Err(ApiError::forbidden(request.kind, request.name, why));
    }
    for owner in
        new.iter().filter(|owner| blocks(owner) && !old.iter().any(|known| blocks(known) && same(known, owner)))
    {
        if !may_hold(request, owner) {
            let why = format!(
                "cannot set blockOwnerDeletion on owner {} {:?}: it needs the right to update it or its finalizers",
                str_at(owner, &["kind"]),
                str_at(owner, &["name"]),
            );
            return Err(ApiError::forbidden(request.kind, request.name, &why));
        }
    }
    Ok(())
}

fn owners(object: &Value) -> Vec<Value> {
    at(object, &["metadata", "ownerReferences"]).and_then(Value::as_array).cloned().unwrap_or_default()
}

fn blocks(owner: &Value) -> bool {
    at(owner, &["blockOwnerDeletion"]).and_then(Value::as_bool).unwrap_or(false)
}

fn same(one: &Value, other: &Value) -> bool {
    str_at(one, &["uid"]) == str_at(other, &["uid"])
}

fn kind_of(owner: &Value) -> Option<&'static Kind> {
    kinds::by_gvk(str_at(owner, &["apiVersion"]), str_at(owner, &["kind"]))
}

/// A cluster-wide object cannot be owned from within a namespace: which one would it be? And nothing owns itself.
fn scope(request: &Request<'_>, index: usize, owner: &Value) -> Option<FieldError> {
    let own_uid = request.old.map(|old| str_at(old, &["metadata", "uid"])).filter(|uid| !uid.is_empty());
    let (field, message) = if kind_of(owner).is_some_and(|kind| kind.namespaced) && !request.kind.namespaced {
        (
            "kind",
            format!("{:?}: cluster-scoped resource must not have a namespace-scoped owner", str_at(owner, &["kind"])),
        )
    } else if own_uid.is_some_and(|uid| uid == str_at(owner, &["uid"])) {
        ("uid", format!("{:?}: an object must not own itself", str_at(owner, &["uid"])))
    } else {
        return None;
    };
    Some(FieldError {
        reason: "FieldValueInvalid",
        field: format!("metadata.ownerReferences[{index}].{field}"),
        message: format!("Invalid value: {message}"),
    })
}

fn may_delete(request: &Request<'_>) -> bool {
    let attributes = Attributes {
        verb: "delete".to_owned(),
        api_group: request.kind.group.to_owned(),
        namespace: request.namespace.to_owned(),
        resource: request.kind.plural.to_owned(),
        name: request.name.to_owned(),
        ..Attributes::default()
    };
    request.world.allows(request.user, &attributes)
}

/// Whoever may change the owner could hold it back with a finalizer as well.
fn may_hold(request: &Request<'_>, owner: &Value) -> bool {
    let Some(kind) = kind_of(owner) else { return true };
    ["", "finalizers"].iter().any(|subresource| {
        let attributes = Attributes {
            verb: "update".to_owned(),
            api_group: kind.group.to_owned(),
            namespace: if kind.namespaced { request.namespace.to_owned() } else { String::new() },
            resource: kind.plural.to_owned(),
            subresource: (*subresource).to_owned(),
            name: str_at(owner, &["name"]).to_owned(),
            ..Attributes::default()
        };
        request.world.allows(request.user, &attributes)
    })
}
