//! The errors of the API, worded and coded as Kubernetes does (`metav1.Status`).

use serde_json::{Value, json};

use crate::kinds::Kind;

/// What went wrong with one field, in Kubernetes' words (`field.Error`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// Machine reason: `FieldValueRequired`, `FieldValueInvalid`, `FieldValueNotSupported`, `FieldValueForbidden`,
    /// `FieldValueDuplicate`, `FieldValueTooLong`, `FieldValueTypeInvalid`, `FieldValueNotFound`.
    pub reason: &'static str,
    /// Path such as `spec.template.spec.containers[0].image`.
    pub field: String,
    /// Message without the path: `Required value`, `Invalid value: -1: must be greater than or equal to 0`.
    pub message: String,
}

/// An answer other than success. Becomes a `Status` object on the wire.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// HTTP status code.
    pub code: u16,
    /// Machine reason: `NotFound`, `Conflict`, …
    pub reason: &'static str,
    /// What a person reads.
    pub message: String,
    /// `details`, or `Null`.
    pub details: Value,
}

impl ApiError {
    /// Builds an error without details.
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: Value::Null }
    }

    /// 404: `pods "x" not found`.
    pub fn not_found(kind: &Kind, name: &str) -> Self {
        Self::about(kind, name, 404, "NotFound", format!("{} \"{name}\" not found", kind.qualified_resource()))
    }

    /// 409 AlreadyExists: `pods "x" already exists`.
    pub fn already_exists(kind: &Kind, name: &str) -> Self {
        Self::about(
            kind,
            name,
            409,
            "AlreadyExists",
            format!("{} \"{name}\" already exists", kind.qualified_resource()),
        )
    }

    /// 409 Conflict: `Operation cannot be fulfilled on pods "x": …`.
    pub fn conflict(kind: &Kind, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} \"{name}\": {why}", kind.qualified_resource());
        Self::about(kind, name, 409, "Conflict", message)
    }

    /// 403 on an object: `pods "x" is forbidden: …`.
    pub fn forbidden(kind: &Kind, name: &str, why: &str) -> Self {
        let subject = if name.is_empty() {
            kind.qualified_resource()
        } else {
            format!("{} \"{name}\"", kind.qualified_resource())
        };
        Self::about(kind, name, 403, "Forbidden", format!("{subject} is forbidden: {why}"))
    }

    /// 422: `Pod "x" is invalid: …` with one cause a field. `errors` must not be empty.
    pub fn invalid(kind: &Kind, name: &str, errors: &[FieldError]) -> Self {
        let lines: Vec<String> = errors.iter().map(|error| format!("{}: {}", error.field, error.message)).collect();
        let list = if let [only] = lines.as_slice() { only.clone() } else { format!("[{}]", lines.join(", ")) };
        let subject =
            if kind.group.is_empty() { kind.kind.to_owned() } else { format!("{}.{}", kind.kind, kind.group) };
        let causes: Vec<Value> = errors
            .iter()
            .map(|error| json!({"reason": error.reason, "message": error.message, "field": error.field}))
            .collect();
        Self {
            code: 422,
            reason: "Invalid",
            message: format!("{subject} \"{name}\" is invalid: {list}"),
            details: json!({"name": name, "group": kind.group, "kind": kind.kind, "causes": causes}),
        }
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 410: the watch window or the continue token is gone.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// 500. The message is shown to the user: never put internal text with secrets in it.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(500, "InternalError", format!("Internal error occurred: {}", message.into()))
    }

    /// Returns the `Status` object of this error.
    pub fn to_status(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code,
        });
        if !self.details.is_null() {
            status["details"] = self.details.clone();
        }
        status
    }

    fn about(kind: &Kind, name: &str, code: u16, reason: &'static str, message: String) -> Self {
        let mut details = json!({"name": name, "kind": kind.plural});
        if !kind.group.is_empty() {
            details["group"] = kind.group.into();
        }
        Self { code, reason, message, details }
    }
}
