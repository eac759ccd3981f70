//! Which part answers what.
//!
//! Rare answers are boxed: a future is as large as its largest branch, and every request moves it a few times on its way.

use std::sync::Arc;

use drover_api::status::ApiError;

use super::{Front, Grant, Request, Response, json_response, text_response};
use crate::{
    administration::Administration,
    fence,
    metrics::Usage,
    request::{RequestInfo, User, method_not_allowed},
    rest,
    restore::Restores,
    reviews::Reviews,
    streams::Streams,
    tunnel,
};

impl Front {
    /// Hands an authorised request to the part that answers it.
    pub(super) async fn dispatch(&self, user: User, info: RequestInfo, request: Request) -> Result<Response, ApiError> {
        if let Some(name) = fence::named(&info) {
            return fence::answer(self.registry.durable(), &info, name).await;
        }
        if Administration::serves(&info) {
            return Box::pin(self.administration.answer(&info, &self.audit)).await;
        }
        if !info.is_resource {
            return self.dispatch_path(&info, &request);
        }
        if let Some(type_name) = Reviews::type_name(&info) {
            if info.verb != "create" {
                return Err(method_not_allowed());
            }
            let review = rest::read_body(type_name, request).await?;
            return Ok(json_response(201, &self.reviews.answer(&user, &info, review)?));
        }
        if Usage::serves(&info) {
            return Box::pin(self.usage.answer(&info)).await;
        }
        if is_token(&info) {
            if info.verb != "create" {
                return Err(method_not_allowed());
            }
            let order = rest::read_body("authentication.v1.TokenRequest", request).await?;
            return Box::pin(self.tokens.create(&self.registry, &user, &info, order)).await;
        }
        Ok((self.resources)(user, info, request).await)
    }

    /// Hands an authorised request that may last to the part that answers it.
    pub(super) async fn dispatch_stream(
        &self,
        user: User,
        info: RequestInfo,
        request: Request,
        grant: Arc<Grant>,
    ) -> Result<Response, ApiError> {
        if Streams::serves(&info) {
            return Box::pin(self.streams.answer(&info, request, grant)).await;
        }
        if Restores::serves(&info) {
            return Box::pin(self.restores.answer(&user, &info, request)).await;
        }
        if is_tunnel(&info) {
            return tunnel::upgrade(&self.streams.tunnels, &info, request);
        }
        Ok((self.resources)(user, info, request).await)
    }

    fn dispatch_path(&self, info: &RequestInfo, request: &Request) -> Result<Response, ApiError> {
        let readable = matches!(info.verb, "get" | "head");
        let numbers =
            || (info.path == "/metrics").then(|| text_response(200, self.requests.render() + &self.audit.render()));
        let constant = self.health.authenticated(info).or_else(|| self.tokens.answer(info)).or_else(numbers);
        let answer = match constant {
            Some(response) => Some(Ok(response)),
            None => self.discovery.answer(info, request.headers()),
        };
        match answer {
            Some(answer) if readable => answer,
            Some(_) => Err(method_not_allowed()),
            None => Err(no_such_path()),
        }
    }
}

fn is_token(info: &RequestInfo) -> bool {
    let core = (info.api_group.as_str(), info.api_version.as_str()) == ("", "v1");
    let resource = (info.resource.as_str(), info.subresource.as_str()) == ("serviceaccounts", "token");
    core && resource && info.tail.is_empty() && !info.namespace.is_empty()
}

fn is_tunnel(info: &RequestInfo) -> bool {
    let group = (info.api_group.as_str(), info.api_version.as_str()) == ("drover.dev", "v1alpha1");
    let resource = (info.resource.as_str(), info.subresource.as_str()) == ("nodes", "tunnel");
    group && resource && info.verb == "create" && info.tail.is_empty() && info.namespace.is_empty()
}

/// 404 for a path that nothing answers.
fn no_such_path() -> ApiError {
    ApiError::new(404, "NotFound", "the server could not find the requested resource")
}
