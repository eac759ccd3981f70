//! Answers: streaming bodies, and errors as Kubernetes' Status objects.

use std::convert::Infallible;

use bytes::Bytes;
use futures::StreamExt as _;
use http::{Response, StatusCode, header::CONTENT_TYPE};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Any body of ours.
pub(super) type Body = BoxBody<Bytes, Infallible>;

/// Pieces on their way to the client. A client that reads slowly holds the engine back after this many.
const PIECES_LIMIT: usize = 16;

/// An error for the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub code: StatusCode,
    pub reason: &'static str,
    pub message: String,
}

impl Failure {
    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self { code: StatusCode::BAD_REQUEST, reason: "BadRequest", message: message.into() }
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self { code: StatusCode::NOT_FOUND, reason: "NotFound", message: message.into() }
    }

    pub(super) fn internal(message: impl Into<String>) -> Self {
        Self { code: StatusCode::INTERNAL_SERVER_ERROR, reason: "InternalError", message: message.into() }
    }

    pub(super) fn into_response(self) -> Response<Body> {
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code.as_u16(),
        });
        json_response(self.code, &status)
    }
}

pub(super) fn json_response(code: StatusCode, value: &serde_json::Value) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(value.to_string())).boxed());
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}

/// A body that is fed through a channel; the sender learns from `closed()` when the client is gone.
pub(super) fn stream_response(content_type: &'static str) -> (mpsc::Sender<Bytes>, Response<Body>) {
    let (pieces, receiver) = mpsc::channel(PIECES_LIMIT);
    let frames = ReceiverStream::new(receiver).map(|bytes| Ok(Frame::data(bytes)));
    // A StreamBody is a Stream as well, whose `boxed` is another.
    let mut response = Response::new(BodyExt::boxed(StreamBody::new(frames)));
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    (pieces, response)
}

/// The Status at the end of an exec or attach: how the command ended.
pub(super) fn exit_status(exit_code: i64) -> serde_json::Value {
    if exit_code == 0 {
        return json!({ "metadata": {}, "status": "Success" });
    }
    json!({
        "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
        "message": format!("command terminated with non-zero exit code: {exit_code}"),
        "details": { "causes": [{ "reason": "ExitCode", "message": exit_code.to_string() }] },
    })
}

/// The Status at the end of an exec or attach that failed for another reason.
pub(super) fn failed_status(message: &str) -> serde_json::Value {
    json!({ "metadata": {}, "status": "Failure", "reason": "InternalError", "message": message, "code": 500 })
}
