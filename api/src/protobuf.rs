//! Reading request bodies in Kubernetes' protobuf form into the same documents that JSON bodies become.
//!
//! From kubectl 1.32 and client-go 0.32 on, typed writes are sent in this form and only in this form. The bytes are the
//! magic `k8s\0` and a `runtime.Unknown` that names apiVersion and kind around the object; the type table holds the
//! field numbers. Answers are never sent in it: every client also accepts JSON.

mod message;
#[cfg(test)]
mod tests;
mod wire;

use serde_json::{Map, Value};

use crate::{
    decode::{self, Decoded, FieldValidation},
    kinds::Kind,
    schema,
    status::ApiError,
};
use wire::{Problem, Reader};

/// The media type of such bodies.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

const MAGIC: &[u8] = b"k8s\0";

/// Decodes a body as an object of `kind`. Fields that the table does not have are dropped, as protobuf demands.
///
/// # Errors
/// 400 for bytes that are not of the form, and as [`decode::decode`].
pub fn decode(kind: &Kind, body: &[u8]) -> Result<Decoded, ApiError> {
    decode_type(kind.type_name, body)
}

/// Decodes a body as a type of the table that is not the kind of its resource, as [`decode::decode_type`] does.
///
/// # Errors
/// As [`decode()`].
pub fn decode_type(type_name: &str, body: &[u8]) -> Result<Decoded, ApiError> {
    let ty = schema::by_name(type_name).ok_or_else(|| ApiError::internal(format!("no type is called {type_name}")))?;
    let refuse = |problem: Problem| {
        ApiError::bad_request(format!("the object provided is unrecognized (must be of type {}): {problem}", ty.name))
    };
    let envelope = Envelope::read(body).map_err(refuse)?;
    let mut fields = Map::new();
    for (key, value) in [("apiVersion", envelope.api_version), ("kind", envelope.kind)] {
        fields.insert(key.to_owned(), value.into());
    }
    // Another version or kind is a better reason than a field that does not fit.
    decode::match_type(type_name, &Value::Object(fields.clone()))?;
    message::read(ty, envelope.object, 0, &mut fields).map_err(refuse)?;
    decode::check_type(type_name, Value::Object(fields), FieldValidation::Ignore)
}

/// A `runtime.Unknown`.
#[derive(Debug, Default)]
struct Envelope<'a> {
    api_version: &'a str,
    kind: &'a str,
    object: &'a [u8],
}

impl<'a> Envelope<'a> {
    fn read(body: &'a [u8]) -> Result<Self, Problem> {
        let bytes = body.strip_prefix(MAGIC).ok_or(Problem::Magic)?;
        let mut envelope = Self::default();
        let mut reader = Reader::new(bytes);
        while let Some((number, value)) = reader.next()? {
            match number {
                1 => {
                    let mut type_meta = Reader::new(value.bytes()?);
                    while let Some((number, value)) = type_meta.next()? {
                        match number {
                            1 => envelope.api_version = value.text()?,
                            2 => envelope.kind = value.text()?,
                            _ => {}
                        }
                    }
                }
                2 => envelope.object = value.bytes()?,
                3 | 4 if !value.bytes()?.is_empty() => return Err(Problem::Encoding),
                _ => {}
            }
        }
        Ok(envelope)
    }
}
