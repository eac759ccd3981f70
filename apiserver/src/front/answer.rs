//! Building responses.

use drover_api::status::ApiError;
use http::{HeaderValue, StatusCode, header};
use serde_json::Value;

use super::{Body, Response};

/// Answers with an object, `kind` first.
pub(crate) fn json(code: u16, object: &Value) -> Response {
    with_type(code, "application/json", drover_api::object::to_bytes(object))
}

/// Answers with plain text.
pub(crate) fn text(code: u16, text: impl Into<Body>) -> Response {
    with_type(code, "text/plain; charset=utf-8", text)
}

/// Answers with a `Status`, and `Retry-After` when the error says when to come back.
pub(crate) fn error(error: &ApiError) -> Response {
    let mut response = json(error.code, &error.to_status());
    if let Some(secs) = error.details.get("retryAfterSeconds").and_then(Value::as_u64) {
        response.headers_mut().insert(header::RETRY_AFTER, secs.into());
    }
    response
}

fn with_type(code: u16, media_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}
