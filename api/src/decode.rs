//! Turning bytes into an object of a known kind, strictly.
//!
//! One pass over the body, guided by the type table: unknown and duplicate fields are found with their paths, every
//! value gets the type that the table names, times and numbers of quantities their canonical form, and nulls vanish.
//! Text that must mean something (a name, a quantity, an enum) is left to validation.

mod scalar;
#[cfg(test)]
pub(crate) mod tests;
mod walk;

use serde::de::DeserializeSeed as _;
use serde_json::Value;

use crate::{
    kinds::Kind,
    schema::{self, FieldType, TypeId},
    status::ApiError,
};
use walk::Walk;

/// How deep a body may nest.
///
/// Every client that reads JSON with `serde_json` stops at 128 levels, and a list or a watch event wraps an object in
/// a few more: an object that is admitted here can be read by everyone.
pub const MAX_DEPTH: usize = 100;

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
/// `apiVersion` and `kind` may be left out; they are set in the result, and so is `metadata`.
///
/// # Errors
/// 400 for malformed JSON, wrong types, wrong kind or apiVersion, nesting deeper than [`MAX_DEPTH`] levels, and with
/// [`FieldValidation::Strict`] for unknown or duplicate fields: `strict decoding error: unknown field "spec.foo"`.
pub fn decode(kind: &Kind, body: &[u8], validation: FieldValidation) -> Result<Decoded, ApiError> {
    Target::of_kind(kind)?.decode(body, validation)
}

/// Decodes a JSON body as a type of the table that is not the kind of its resource: `meta.v1.DeleteOptions`,
/// `policy.v1.Eviction`, `core.v1.Binding`, `autoscaling.v1.Scale`, `authentication.v1.TokenRequest`, …
///
/// `apiVersion` and `kind` may be left out. `meta.v1.DeleteOptions` may name any group and version.
///
/// # Errors
/// As [`decode`]; 500 for a type that the table does not have.
pub fn decode_type(type_name: &str, body: &[u8], validation: FieldValidation) -> Result<Decoded, ApiError> {
    Target::of_type(type_name)?.decode(body, validation)
}

/// Checks an object that was built by a patch in the same way as [`decode`] checks a body.
///
/// # Errors
/// As [`decode`], but 422 for unknown fields, as Kubernetes answers to patches.
pub fn check(kind: &Kind, object: Value, validation: FieldValidation) -> Result<Decoded, ApiError> {
    check_type(kind.type_name, object, validation)
}

/// As [`check`] for a type that is not the kind of its resource.
///
/// # Errors
/// As [`check`]; 500 for a type that the table does not have.
pub fn check_type(type_name: &str, object: Value, validation: FieldValidation) -> Result<Decoded, ApiError> {
    let target = Target::of_type(type_name)?;
    target.match_version_and_kind(&object)?;
    let mut walk = Walk::default();
    let decoded = walk.seed(target.ty()).deserialize(object);
    let object = decoded.map_err(|error| target.refuse(walk.problem.take().unwrap_or_else(|| error.to_string())))?;
    if !object.is_object() {
        return Err(target.refuse("the object is null"));
    }
    target.finish(object, walk.findings, validation).map_err(|strict| {
        ApiError::new(422, "Invalid", format!(" \"\" is invalid: patch: Invalid value: {}", strict.detail))
    })
}

/// Checks that an object says to be what it is taken for.
pub(crate) fn match_type(type_name: &str, object: &Value) -> Result<(), ApiError> {
    Target::of_type(type_name)?.match_version_and_kind(object)
}

/// What a body must turn out to be.
#[derive(Debug, Clone, Copy)]
struct Target<'a> {
    id: TypeId,
    /// The words of error messages.
    kind: &'a str,
    version: &'a str,
    /// What `apiVersion` must be; `None` where any will do.
    api_version: Option<&'a str>,
    has_metadata: bool,
}

/// Unknown or duplicate fields in a body that had to be without.
#[derive(Debug)]
struct StrictError {
    detail: String,
}

impl<'a> Target<'a> {
    fn of_kind(kind: &'a Kind) -> Result<Self, ApiError> {
        Self::of_type(kind.type_name)
    }

    fn of_type(type_name: &str) -> Result<Self, ApiError> {
        let id =
            schema::id_of(type_name).ok_or_else(|| ApiError::internal(format!("no type is called {type_name}")))?;
        let ty = id.resolve();
        let api_version = ty.package.api_version;
        let version = api_version.rsplit('/').next().unwrap_or(api_version);
        let has_metadata = ty.field("metadata").is_some();
        let any_version = ty.name == "DeleteOptions";
        Ok(Self { id, kind: ty.name, version, api_version: (!any_version).then_some(api_version), has_metadata })
    }

    fn ty(&self) -> FieldType {
        FieldType::Message(self.id)
    }

    fn decode(&self, body: &[u8], validation: FieldValidation) -> Result<Decoded, ApiError> {
        let mut walk = Walk::default();
        let mut deserializer = serde_json::Deserializer::from_slice(body);
        let object = match walk.seed(self.ty()).deserialize(&mut deserializer) {
            Ok(object) => object,
            Err(error) => return Err(self.explain(body, walk.problem.take(), &error)),
        };
        deserializer.end().map_err(|error| self.explain(body, None, &error))?;
        if !object.is_object() {
            return Err(self.refuse("the body is null"));
        }
        self.match_version_and_kind(&object)?;
        self.finish(object, walk.findings, validation).map_err(|strict| self.refuse(strict.detail))
    }

    /// Decides between malformed JSON, an object of another kind, and a value of the wrong type.
    fn explain(&self, body: &[u8], problem: Option<String>, error: &serde_json::Error) -> ApiError {
        let Some(problem) = problem else {
            let problem = format!("couldn't get version/kind; json parse error: {error}");
            let kind = self.kind;
            return ApiError::bad_request(format!(
                "the object provided is unrecognized (must be of type {kind}): {problem}"
            ));
        };
        // Another kind is the better explanation of a field that does not fit.
        if let Ok(object) = serde_json::from_slice::<Value>(body)
            && let Err(mismatch) = self.match_version_and_kind(&object)
        {
            return mismatch;
        }
        self.refuse(problem)
    }

    fn match_version_and_kind(&self, object: &Value) -> Result<(), ApiError> {
        let said = |key: &str| object.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        if let (Some(said), Some(expected)) = (said("apiVersion"), self.api_version)
            && said != expected
        {
            return Err(ApiError::bad_request(format!(
                "the API version in the data ({said}) does not match the expected API version ({expected})"
            )));
        }
        if let Some(said) = said("kind")
            && said != self.kind
        {
            let (version, kind) = (self.version, self.kind);
            return Err(ApiError::bad_request(format!(
                "{said} in version \"{version}\" cannot be handled as a {kind}: the kind in the data ({said}) does not match the expected kind ({kind})"
            )));
        }
        Ok(())
    }

    fn finish(
        &self,
        mut object: Value,
        findings: Vec<String>,
        validation: FieldValidation,
    ) -> Result<Decoded, StrictError> {
        if let Some(fields) = object.as_object_mut() {
            if let Some(api_version) = self.api_version {
                fields.insert("apiVersion".to_owned(), api_version.into());
            }
            fields.insert("kind".to_owned(), self.kind.into());
            if self.has_metadata {
                fields.entry("metadata").or_insert_with(|| Value::Object(serde_json::Map::new()));
            }
        }
        match validation {
            FieldValidation::Ignore => Ok(Decoded { object, warnings: Vec::new() }),
            FieldValidation::Warn => Ok(Decoded { object, warnings: findings }),
            FieldValidation::Strict if findings.is_empty() => Ok(Decoded { object, warnings: findings }),
            FieldValidation::Strict => {
                Err(StrictError { detail: format!("strict decoding error: {}", findings.join(", ")) })
            }
        }
    }

    fn refuse(&self, problem: impl std::fmt::Display) -> ApiError {
        let (kind, version) = (self.kind, self.version);
        ApiError::bad_request(format!("{kind} in version \"{version}\" cannot be handled as a {kind}: {problem}"))
    }
}
