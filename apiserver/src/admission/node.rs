//! A node's agent writes only the objects of its own node; what it may say in them, authorisation judges.

use drover_api::{object::str_at, status::ApiError};
use serde_json::Value;

use super::{Effects, Operation, Request, Settings};
use crate::authz;

const GROUP: &str = "system:nodes";
const USER_PREFIX: &str = "system:node:";
/// Where the agents' heartbeats are.
const LEASES: &str = "kube-node-lease";

pub(super) fn admit(
    settings: &Settings,
    request: &Request<'_>,
    object: &mut Value,
    _: &mut Effects,
) -> Result<(), ApiError> {
    if !request.user.in_group(GROUP) {
        return Ok(());
    }
    let Some(node) = request.user.name.strip_prefix(USER_PREFIX) else {
        return refuse(request, "unknown node for user");
    };
    // A node of such a name would write as its own what all others believe.
    if authz::PUBLISHED_LEASES.contains(&node) {
        return refuse(request, &format!("the name {node:?} is reserved"));
    }
    authz::restrict_node(settings.service_cidr, request, object)?;
    match (request.kind.group, request.kind.kind) {
        ("", "Node") => own_node(request, node),
        ("", "Pod") => own_pod(request, node),
        ("coordination.k8s.io", "Lease") if request.namespace != LEASES || request.name != node => {
            refuse(request, &format!("node {node:?} can only access its own lease in {LEASES}"))
        }
        _ => Ok(()),
    }
}

fn own_node(request: &Request<'_>, node: &str) -> Result<(), ApiError> {
    if request.name != node {
        return refuse(request, &format!("node {node:?} is not allowed to modify node {:?}", request.name));
    }
    Ok(())
}

fn own_pod(request: &Request<'_>, node: &str) -> Result<(), ApiError> {
    let Some(old) = request.old else {
        return refuse(request, &format!("node {node:?} is not allowed to create pods"));
    };
    let holder = str_at(old, &["spec", "nodeName"]);
    let allowed = request.operation == Operation::Delete || request.subresource == "status";
    if !allowed || holder != node {
        let what =
            format!("node {node:?} can only update the status of, or delete, pods with spec.nodeName set to itself");
        return refuse(request, &what);
    }
    Ok(())
}

fn refuse(request: &Request<'_>, why: &str) -> Result<(), ApiError> {
    Err(ApiError::forbidden(request.kind, request.name, why))
}
