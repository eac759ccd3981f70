//! Request bodies: bounded, decoded, checked against the path.

use axum::body::Body;
use bytes::Bytes;
use drover_api::{
    decode::{self, Decoded, FieldValidation},
    kinds::Kind,
    object::name,
    protobuf,
    status::ApiError,
};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::Value;

use super::media;

/// Kubernetes' bound on a request body.
const BODY_MAX: usize = 3 << 20;
/// What bodies may be written in.
const ACCEPTED: &str = "application/json, application/vnd.kubernetes.protobuf";

/// Reads a whole body.
///
/// # Errors
/// 413 beyond 3 MiB, 400 when the connection breaks.
pub(super) async fn read(body: Body) -> Result<Bytes, ApiError> {
    match Limited::new(body, BODY_MAX).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(ApiError::new(413, "RequestEntityTooLarge", format!("Request entity too large: limit is {BODY_MAX}")))
        }
        Err(_) => Err(ApiError::bad_request("the request body ended early")),
    }
}

/// How a body is written.
enum Syntax {
    Json,
    Protobuf,
}

/// Reads the media type. YAML is refused: no client needs it on these verbs, and its aliases cost more than its syntax
/// is worth (A01).
///
/// # Errors
/// 415 for a media type that is not served.
fn syntax(content_type: &str) -> Result<Syntax, ApiError> {
    match content_type {
        "" | "application/json" => Ok(Syntax::Json),
        protobuf::MEDIA_TYPE => Ok(Syntax::Protobuf),
        _ => Err(media::unsupported(ACCEPTED)),
    }
}

/// Decodes a body as an object of `kind`.
///
/// # Errors
/// 400 and 415.
pub(super) fn object(
    kind: &Kind,
    content_type: &str,
    body: &[u8],
    validation: FieldValidation,
) -> Result<Decoded, ApiError> {
    match syntax(content_type)? {
        Syntax::Json => decode::decode(kind, body, validation),
        Syntax::Protobuf => protobuf::decode(kind, body),
    }
}

/// Decodes a body as an object of a type of the schema, for example `policy.v1.Eviction`.
///
/// # Errors
/// 400 and 415.
pub(super) fn of_type(type_name: &str, content_type: &str, body: &[u8]) -> Result<Value, ApiError> {
    let decoded = match syntax(content_type)? {
        Syntax::Json => decode::decode_type(type_name, body, FieldValidation::Ignore),
        Syntax::Protobuf => protobuf::decode_type(type_name, body),
    };
    decoded.map(|decoded| decoded.object)
}

/// Checks that a body names the object of the URL, or none.
///
/// # Errors
/// 400 when it names another.
pub(super) fn check_name(object: &mut Value, expected: &str) -> Result<(), ApiError> {
    if name(object).is_empty() {
        drover_api::object::metadata_mut(object).insert("name".to_owned(), expected.into());
    }
    if name(object) != expected {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({}) does not match the name on the URL ({expected})",
            name(object)
        )));
    }
    Ok(())
}
