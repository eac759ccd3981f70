//! Which part answers what.

use drover_api::status::ApiError;

use super::{Front, Request, Response};
use crate::request::{RequestInfo, User, method_not_allowed};

impl Front {
    /// Hands an authorised request to the part that answers it.
    pub(super) async fn dispatch(&self, user: User, info: RequestInfo, request: Request) -> Result<Response, ApiError> {
        if !info.is_resource {
            return self.dispatch_path(&info, &request);
        }
        Ok((self.resources)(user, info, request).await)
    }

    fn dispatch_path(&self, info: &RequestInfo, request: &Request) -> Result<Response, ApiError> {
        let readable = matches!(info.verb, "get" | "head");
        let answer = match self.health.authenticated(info) {
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

/// 404 for a path that nothing answers.
fn no_such_path() -> ApiError {
    ApiError::new(404, "NotFound", "the server could not find the requested resource")
}
