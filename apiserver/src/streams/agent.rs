//! Asking an agent: building its requests and reading its refusals.

use drover_api::status::ApiError;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde_json::Value;

use super::target::Target;
use crate::{
    front::{Body, Request},
    tunnel::Tunnels,
};

/// A `Status` is short; more than this is not one.
const STATUS_BYTES_MAX: usize = 64 << 10;

/// Builds `<method> /v1/<verb>/<namespace>/<pod>[/<container>]?uid=…&…`.
pub(crate) fn request(method: http::Method, path: &str, query: &[(&str, &str)], body: Body) -> Request {
    let query: Vec<String> = query.iter().map(|(key, value)| format!("{key}={}", encode(value))).collect();
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = format!("http://agent/v1/{path}?{}", query.join("&"))
        .parse()
        .expect("paths hold object names and queries are percent-encoded");
    request
}

/// Returns `<namespace>/<pod>/<container>` for a path.
pub(super) fn container_path(target: &Target) -> String {
    [&target.namespace, &target.pod, &target.container].map(|part| encode(part)).join("/")
}

/// Sends a request and returns the body of a good answer.
///
/// # Errors
/// The agent's own `Status`; 503 when it cannot be asked; 500 for an answer that makes no sense.
pub(crate) async fn ask(tunnels: &Tunnels, node: &str, request: Request) -> Result<Incoming, ApiError> {
    let response = tunnels.send(node, request).await?;
    let status = response.status();
    if status.is_success() {
        return Ok(response.into_body());
    }
    let bytes = Limited::new(response.into_body(), STATUS_BYTES_MAX).collect().await;
    let body: Value = bytes.ok().and_then(|body| serde_json::from_slice(&body.to_bytes()).ok()).unwrap_or_default();
    Err(refusal(status.as_u16(), &body))
}

/// Turns the agent's `Status` into an error of ours. Its code and text are shown, its reason only if it is a known one.
fn refusal(code: u16, status: &Value) -> ApiError {
    let message = status.get("message").and_then(Value::as_str).unwrap_or("the node's agent gave no reason");
    let reason = match code {
        400 => "BadRequest",
        404 => "NotFound",
        409 => "Conflict",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => return ApiError::internal(message),
    };
    let mut error = ApiError::new(code, reason, message);
    error.details = status.get("details").cloned().unwrap_or_default();
    error
}

/// Percent-encodes everything but RFC 3986's unreserved characters.
fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out += &format!("%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_cannot_leave_their_place_in_the_query() {
        let request = request(http::Method::GET, "logs/n/p/c", &[("command", "a&b=c d#é")], Body::empty());
        assert_eq!(request.uri(), "http://agent/v1/logs/n/p/c?command=a%26b%3Dc%20d%23%C3%A9");
    }
}
