//! PATCH: a change relative to whatever the object is.

use std::sync::Arc;

use drover_api::{
    decode::{self, FieldValidation},
    kinds::Kind,
    object::{name, namespace},
    patch,
    status::ApiError,
};
use serde_json::Value;

use super::{Part, Registry, WriteOptions};
use crate::cache::Object;

/// A parsed patch body.
#[derive(Debug, Clone, PartialEq)]
pub enum Patch {
    /// RFC 6902.
    Json(Value),
    /// RFC 7396.
    Merge(Value),
    /// Kubernetes' strategic merge patch.
    Strategic(Value),
}

impl Patch {
    /// Applies the patch to an object of `kind`.
    ///
    /// # Errors
    /// 400 or 422, see [`drover_api::patch`].
    pub fn apply(&self, kind: &Kind, object: &Value) -> Result<Value, ApiError> {
        match self {
            Self::Json(patch) => patch::json_patch(object, patch),
            Self::Merge(patch) => Ok(patch::merge_patch(object, patch)),
            Self::Strategic(patch) => patch::strategic_merge(kind, object, patch),
        }
    }
}

impl Registry {
    /// Patches (a part of) an object. Returns it with the texts for `Warning` headers.
    ///
    /// # Errors
    /// As [`update`](Self::update), and the patch's own.
    pub async fn patch(
        &self,
        kind: &'static Kind,
        id: (&str, &str),
        part: Part,
        (patch, validation): (&Patch, FieldValidation),
        options: &WriteOptions,
    ) -> Result<(Arc<Object>, Vec<String>), ApiError> {
        let warnings = std::sync::Mutex::new(Vec::new());
        let change = |current: &Value| {
            let patched = patch.apply(kind, current)?;
            same_identity(&patched, current)?;
            let decoded = decode::check(kind, patched, validation)?;
            *warnings.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = decoded.warnings;
            Ok(decoded.object)
        };
        let object = self.modify(kind, id, part, options, &change).await?;
        Ok((object, warnings.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)))
    }
}

/// A patch changes an object, it cannot turn it into another.
fn same_identity(patched: &Value, current: &Value) -> Result<(), ApiError> {
    if !patched.is_object() || !patched.get("metadata").is_none_or(Value::is_object) {
        return Err(ApiError::bad_request("the patched document is not an object"));
    }
    if name(patched) != name(current) {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({}) does not match the name on the URL ({})",
            name(patched),
            name(current)
        )));
    }
    if namespace(patched) != namespace(current) {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    Ok(())
}
