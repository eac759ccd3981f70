//! What is served below an object: status, scale, finalize, binding, eviction.

use axum::response::Response;
use drover_api::{
    object::{at, str_at, uid},
    status::ApiError,
};
use http::StatusCode;
use serde_json::{Value, json};

use super::{Call, body, not_served, params};
use crate::registry::{Bind, DeleteOptions, Part};

impl Call {
    pub(super) async fn subresource(self) -> Result<Response, ApiError> {
        match (self.info.subresource.as_str(), self.info.verb) {
            ("status", "get") => self.get().await,
            ("status", "update") => self.update_part(Part::Status).await,
            ("status", "patch") => self.patch_part(Part::Status).await,
            ("finalize", "update") => self.update_part(Part::Finalize).await,
            ("scale", "get") => self.get_scale().await,
            ("scale", "update") => self.update_scale().await,
            ("scale", "patch") => self.patch_scale().await,
            ("binding", "create") => self.bind().await,
            ("eviction", "create") => self.evict().await,
            _ => Err(not_served()),
        }
    }

    async fn bind(mut self) -> Result<Response, ApiError> {
        let options = self.write_options()?;
        let (content_type, bytes) = self.body()?;
        let mut binding = body::of_type("core.v1.Binding", &content_type, &bytes)?;
        body::check_name(&mut binding, &self.info.name)?;
        let metadata = |field: &str| at(&binding, &["metadata", field]).and_then(Value::as_object).cloned();
        let bind = Bind {
            node: str_at(&binding, &["target", "name"]).to_owned(),
            uid: uid(&binding).to_owned(),
            annotations: metadata("annotations").unwrap_or_default(),
            labels: metadata("labels").unwrap_or_default(),
        };
        self.registry.bind(self.id(), &bind, &options).await?;
        Ok(self.renderer()?.value(StatusCode::CREATED, &created()))
    }

    async fn evict(mut self) -> Result<Response, ApiError> {
        let mut options = self.write_options()?;
        let (content_type, bytes) = self.body()?;
        let mut eviction = body::of_type("policy.v1.Eviction", &content_type, &bytes)?;
        body::check_name(&mut eviction, &self.info.name)?;
        let stated = eviction.get("deleteOptions").cloned().unwrap_or_default();
        let deletion = DeleteOptions::from_value(&stated)?;
        let dry_run = stated.get("dryRun").and_then(Value::as_array).into_iter().flatten();
        options.dry_run |= params::dry_run(dry_run.filter_map(Value::as_str))?;
        self.registry.evict(self.id(), &deletion, &options).await?;
        Ok(self.renderer()?.value(StatusCode::CREATED, &created()))
    }
}

/// The answer of a subresource that creates nothing one could read. kube-rs reads the code.
fn created() -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201})
}
