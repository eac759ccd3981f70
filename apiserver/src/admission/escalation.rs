//! Nobody grants rights they do not have: asks authorisation about roles and bindings.

use drover_api::status::ApiError;
use serde_json::Value;

use super::{Effects, Operation, Request, Settings};

pub(super) fn admit(_: &Settings, request: &Request<'_>, object: &mut Value, _: &mut Effects) -> Result<(), ApiError> {
    if request.kind.group != "rbac.authorization.k8s.io" || request.operation == Operation::Delete {
        return Ok(());
    }
    request.world.check_escalation(request.user, request.kind.plural, object, request.old)
}
