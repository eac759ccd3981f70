//! Request bodies: bounded, decoded, checked against the path.

use axum::body::Body;
use bytes::Bytes;
use drover_api::{
    decode::{self, Decoded, FieldValidation},
    kinds::Kind,
    object::name,
    status::ApiError,
};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::Value;

use super::media;

/// Kubernetes' bound on a request body.
const BODY_MAX: usize = 3 << 20;
/// What bodies may be written in.
const ACCEPTED: &str = "application/json";

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

/// Returns the JSON of a body in any accepted media type.
///
/// # Errors
/// 415 for a media type that is not served.
fn json(content_type: &str, body: Bytes) -> Result<Bytes, ApiError> {
    match content_type {
        "" | "application/json" | "application/x-www-form-urlencoded" => Ok(body),
        // YAML is refused here: no client needs it on these verbs, and its aliases cost more than its syntax is worth.
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
    body: Bytes,
    validation: FieldValidation,
) -> Result<Decoded, ApiError> {
    decode::decode(kind, &json(content_type, body)?, validation)
}

/// Decodes a body as an object of a type of the schema, for example `policy.v1.Eviction`.
///
/// # Errors
/// 400 and 415.
pub(super) fn of_type(type_name: &str, content_type: &str, body: Bytes) -> Result<Value, ApiError> {
    decode::decode_type(type_name, &json(content_type, body)?, FieldValidation::Ignore).map(|decoded| decoded.object)
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
