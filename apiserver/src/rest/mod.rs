//! The HTTP face of the registry: reads a request, calls one verb, writes the answer.
//!
//! Owns query parameters, media types and bodies of resource requests. May not decide what a verb means (that is
//! [`crate::registry`]) nor who may use it (that happened before [`route`]).

mod body;
mod media;
mod params;
mod read;
mod render;
mod scale;
mod stream;
mod subresource;
mod table;
#[cfg(test)]
mod tests;
mod write;

use std::sync::Arc;

use axum::{body::Body, response::Response};
use bytes::Bytes;
use drover_api::{
    kinds::{self, Durability, Kind},
    status::ApiError,
};
use http::Request;
use serde_json::Value;

pub use render::error_response;

use crate::{
    registry::Registry,
    request::{RequestInfo, User, method_not_allowed},
};

/// What the handlers need.
#[derive(Debug, Clone)]
pub struct State {
    /// Every object of the cluster.
    pub registry: Arc<Registry>,
}

/// One request, understood.
#[derive(Debug)]
struct Call {
    registry: Arc<Registry>,
    user: User,
    info: RequestInfo,
    kind: &'static Kind,
    accept: media::Accept,
    /// With its body read: a body on the wire cannot be shared between threads, and a call is.
    request: Request<Bytes>,
}

/// Answers an authorised resource request.
pub async fn route(state: Arc<State>, user: User, info: RequestInfo, request: Request<Body>) -> Response {
    let pretty = params::wants_pretty(&info, request.headers());
    match answer(&state, user, info, request).await {
        Ok(response) => response,
        Err(error) => render::error_response_with(&error, pretty),
    }
}

async fn answer(state: &State, user: User, info: RequestInfo, request: Request<Body>) -> Result<Response, ApiError> {
    let kind = kind_of(&info)?;
    let accept = media::negotiate(request.headers(), params::wants_pretty(&info, request.headers()))?;
    let (parts, body) = request.into_parts();
    let request = Request::from_parts(parts, body::read(body).await?);
    let call = Call { registry: Arc::clone(&state.registry), user, info, kind, accept, request };
    if call.info.subresource.is_empty() {
        if !kind.verbs.contains(&call.info.verb) {
            return Err(method_not_allowed());
        }
        // Writes are boxed, so that reads, which are most of the requests, need not move what only a write needs.
        return match call.info.verb {
            "get" => call.get().await,
            "list" => call.list().await,
            "watch" => call.watch().await,
            "create" if call.info.name.is_empty() => Box::pin(call.create()).await,
            "update" if !call.info.name.is_empty() => Box::pin(call.update()).await,
            "patch" if !call.info.name.is_empty() => Box::pin(call.patch()).await,
            "delete" => Box::pin(call.delete()).await,
            "deletecollection" => Box::pin(call.delete_collection()).await,
            _ => Err(method_not_allowed()),
        };
    }
    let Some(subresource) = kind.subresource(&call.info.subresource) else { return Err(not_served()) };
    if !subresource.verbs.contains(&call.info.verb) {
        return Err(method_not_allowed());
    }
    Box::pin(call.subresource()).await
}

/// Reads the body of a request as an object of a type of the schema: for kinds that are answered, not stored.
///
/// # Errors
/// 400, 413 and 415.
pub(crate) async fn read_body(type_name: &str, request: Request<Body>) -> Result<Value, ApiError> {
    let content_type = media::content_type(request.headers());
    let bytes = body::read(request.into_body()).await?;
    body::of_type(type_name, &content_type, &bytes)
}

/// Finds the kind and checks that the path has a namespace exactly when the kind does.
fn kind_of(info: &RequestInfo) -> Result<&'static Kind, ApiError> {
    let kind = kinds::by_resource(&info.api_group, &info.api_version, &info.resource)
        .filter(|kind| kind.durability != Durability::Virtual)
        .ok_or_else(not_served)?;
    let namespaced_path = !info.namespace.is_empty() && !is_namespace(kind);
    let whole_cluster = matches!(info.verb, "list" | "watch");
    let fits = if kind.namespaced { namespaced_path || whole_cluster } else { !namespaced_path };
    if !fits || !info.tail.is_empty() {
        return Err(not_served());
    }
    Ok(kind)
}

fn is_namespace(kind: &Kind) -> bool {
    kind.group.is_empty() && kind.plural == "namespaces"
}

/// 404 for a path that nothing is served at.
fn not_served() -> ApiError {
    let mut error = ApiError::new(404, "NotFound", "the server could not find the requested resource");
    error.details = serde_json::json!({});
    error
}

impl Call {
    /// The namespace of the objects meant: `""` for cluster-scoped kinds and for all namespaces.
    fn namespace(&self) -> &str {
        if self.kind.namespaced { &self.info.namespace } else { "" }
    }

    /// Namespace and name of the object meant.
    fn id(&self) -> (&str, &str) {
        (self.namespace(), &self.info.name)
    }
}
