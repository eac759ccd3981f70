//! POST, PUT, PATCH and DELETE of objects.

use axum::response::Response;
use bytes::Bytes;
use drover_api::{kinds::Kind, status::ApiError};
use http::StatusCode;
use serde_json::{Value, json};

use super::{Call, body, media, media::PatchType, params, render::with_warnings};
use crate::{
    audit::Named,
    cache::Object,
    registry::{DeleteOptions, Deleted, Part, Patch, WriteOptions},
};

impl Call {
    pub(super) async fn create(mut self) -> Result<Response, ApiError> {
        let options = self.write_options()?;
        let validation = params::field_validation(&self.info)?;
        let (content_type, bytes) = self.body()?;
        let decoded = body::object(self.kind, &content_type, &bytes, validation)?;
        let object = self.registry.create(self.kind, self.namespace(), decoded.object, &options).await?;
        let mut response = with_warnings(self.renderer()?.object(StatusCode::CREATED, &object), &decoded.warnings);
        response.extensions_mut().insert(Named(object.name().to_owned()));
        Ok(response)
    }

    pub(super) async fn update(self) -> Result<Response, ApiError> {
        self.update_part(Part::Main).await
    }

    pub(super) async fn update_part(mut self, part: Part) -> Result<Response, ApiError> {
        let options = self.write_options()?;
        let validation = params::field_validation(&self.info)?;
        let (content_type, bytes) = self.body()?;
        let mut decoded = body::object(self.kind, &content_type, &bytes, validation)?;
        body::check_name(&mut decoded.object, &self.info.name)?;
        let object = self.registry.update(self.kind, self.id(), part, decoded.object, &options).await?;
        Ok(with_warnings(self.renderer()?.object(StatusCode::OK, &object), &decoded.warnings))
    }

    pub(super) async fn patch(self) -> Result<Response, ApiError> {
        self.patch_part(Part::Main).await
    }

    pub(super) async fn patch_part(mut self, part: Part) -> Result<Response, ApiError> {
        let options = self.write_options()?;
        let validation = params::field_validation(&self.info)?;
        let patch = self.read_patch().await?;
        let (object, warnings) =
            self.registry.patch(self.kind, self.id(), part, (&patch, validation), &options).await?;
        Ok(with_warnings(self.renderer()?.object(StatusCode::OK, &object), &warnings))
    }

    pub(super) async fn read_patch(&mut self) -> Result<Patch, ApiError> {
        let patch_type = media::patch_type(self.request.headers())?;
        if self.info.query("force").is_some_and(|force| !force.is_empty()) {
            return Err(ApiError::new(
                422,
                "Invalid",
                "PatchOptions.meta.k8s.io \"\" is invalid: force: Forbidden: may not be specified for non-apply patch",
            ));
        }
        let bytes = self.body()?.1;
        let document: Value = serde_json::from_slice(&bytes)
            .map_err(|error| ApiError::bad_request(format!("error decoding patch: {error}")))?;
        match patch_type {
            PatchType::Json => Ok(Patch::Json(document)),
            PatchType::Merge | PatchType::Strategic if !document.is_object() => {
                Err(ApiError::bad_request("error decoding patch: it must be a JSON object"))
            }
            PatchType::Merge => Ok(Patch::Merge(document)),
            PatchType::Strategic => Ok(Patch::Strategic(document)),
        }
    }

    pub(super) async fn delete(mut self) -> Result<Response, ApiError> {
        let (deletion, options) = self.delete_options().await?;
        let deleted = self.registry.delete(self.kind, self.id(), &deletion, &options).await?;
        let renderer = self.renderer()?;
        match &deleted {
            Deleted::Removed(object) if !returns_removed(self.kind) => {
                Ok(renderer.value(StatusCode::OK, &success(self.kind, object)))
            }
            Deleted::Marked(object) | Deleted::Removed(object) => Ok(renderer.object(StatusCode::OK, object)),
        }
    }

    pub(super) async fn delete_collection(mut self) -> Result<Response, ApiError> {
        let selection = params::list_options(self.kind, &self.info)?;
        let (deletion, options) = self.delete_options().await?;
        let list =
            self.registry.delete_collection(self.kind, self.namespace(), &selection, &deletion, &options).await?;
        Ok(self.renderer()?.list(list))
    }

    pub(super) fn write_options(&self) -> Result<WriteOptions, ApiError> {
        Ok(WriteOptions {
            user: self.user.clone(),
            dry_run: params::dry_run(self.info.query_all("dryRun"))?,
            field_manager: params::field_manager(&self.info)?,
        })
    }

    async fn delete_options(&mut self) -> Result<(DeleteOptions, WriteOptions), ApiError> {
        let mut options = self.write_options()?;
        let (content_type, bytes) = self.body()?;
        let mut deletion = DeleteOptions::default();
        if !bytes.is_empty() {
            let value = body::of_type("meta.v1.DeleteOptions", &content_type, &bytes)?;
            deletion = DeleteOptions::from_value(&value)?;
            let dry_run = value.get("dryRun").and_then(Value::as_array).into_iter().flatten();
            options.dry_run |= params::dry_run(dry_run.filter_map(Value::as_str))?;
        }
        params::add_delete_options(&self.info, &mut deletion)?;
        Ok((deletion, options))
    }

    /// Reads the body, once; returns its media type with it.
    pub(super) fn body(&mut self) -> Result<(String, Bytes), ApiError> {
        let content_type = media::content_type(self.request.headers());
        Ok((content_type, std::mem::take(self.request.body_mut())))
    }
}

/// `Status: Success`, with the uid that clients wait for the end of.
fn success(kind: &Kind, object: &Object) -> Value {
    let mut details = json!({"name": object.name(), "kind": kind.plural, "uid": object.uid()});
    if !kind.group.is_empty() {
        details["group"] = kind.group.into();
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}

/// Kinds whose DELETE answers with the object even when it is gone, as in Kubernetes.
fn returns_removed(kind: &Kind) -> bool {
    let kinds = ["pods", "services", "serviceaccounts", "persistentvolumes", "persistentvolumeclaims"];
    kind.group.is_empty() && kinds.contains(&kind.plural)
}
