//! GET: one object, a list, a watch.

use axum::response::Response;
use drover_api::status::ApiError;
use http::StatusCode;

use super::{Call, params, render::Renderer, stream, table::Include};
use crate::registry::parse_revision;

impl Call {
    pub(super) fn renderer(&self) -> Result<Renderer, ApiError> {
        Ok(Renderer {
            kind: self.kind,
            accept: self.accept,
            include: Include::read(&self.info)?,
            now_secs: self.registry.environment().now().as_second(),
        })
    }

    pub(super) async fn get(&self) -> Result<Response, ApiError> {
        let (namespace, name) = self.id();
        let object = match parse_revision(self.info.query("resourceVersion").unwrap_or_default())? {
            None => self.registry.get(self.kind, namespace, name).await?,
            Some(revision) => self.registry.get_since(self.kind, namespace, name, revision).await?,
        };
        Ok(self.renderer()?.object(StatusCode::OK, &object))
    }

    pub(super) async fn list(&self) -> Result<Response, ApiError> {
        let mut options = params::list_options(self.kind, &self.info)?;
        // A continue token is bound to its user too (A08).
        options.selectors_text = format!("{}&{}", self.user.name, options.selectors_text);
        let list = self.registry.list(self.kind, self.namespace(), &options).await?;
        Ok(self.renderer()?.list(list))
    }

    pub(super) async fn watch(&self) -> Result<Response, ApiError> {
        let options = params::watch_options(self.kind, &self.info, self.registry.environment())?;
        let watching = self.registry.watch(self.kind, self.namespace(), &options).await?;
        Ok(stream::response(self.renderer()?, watching))
    }
}
