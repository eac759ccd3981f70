//! Absolute bounds that keep one object from drowning the cluster.

use drover_api::{
    object::at,
    status::{ApiError, FieldError},
};
use serde_json::Value;

use super::{Effects, Operation, Request, Settings};

/// Far above what one workload can mean on the fleets Drover is for, far below what would drown the store.
const REPLICAS_MAX: i64 = 1_000_000;

pub(super) fn admit(_: &Settings, request: &Request<'_>, object: &mut Value, _: &mut Effects) -> Result<(), ApiError> {
    if request.kind.group != "apps" || request.operation == Operation::Delete || !request.subresource.is_empty() {
        return Ok(());
    }
    let replicas = at(object, &["spec", "replicas"]).and_then(Value::as_i64).unwrap_or(0);
    if replicas <= REPLICAS_MAX {
        return Ok(());
    }
    let error = FieldError {
        reason: "FieldValueInvalid",
        field: "spec.replicas".to_owned(),
        message: format!("Invalid value: {replicas}: must be less than or equal to {REPLICAS_MAX}"),
    };
    Err(ApiError::invalid(request.kind, request.name, &[error]))
}
