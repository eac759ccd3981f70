//! Service account tokens: made on request, bound to objects, checked at every use.
//!
//! Owns the JWT format (ES256 only) and what makes a token valid. A token is as good as the objects it is bound to:
//! when its account, pod or secret is gone, so is the token.

mod claims;
mod issue;
mod jwt;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use drover_api::status::ApiError;
use http::{HeaderValue, header};
use serde_json::{Value, json};

pub(crate) use issue::LIFE_SECS_MAX;
pub use jwt::KeyError;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use jwt::verify_any;

use crate::{
    front::{Response, json_response},
    objects::Objects,
    registry::{Environment, Registry},
    request::{RequestInfo, User},
};
use jwt::Key;

/// Names this server in `iss`, and is the audience of tokens that ask for none: Kubernetes' default.
pub(crate) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// Makes and checks tokens.
pub(crate) struct Tokens {
    key: Key,
    objects: Arc<dyn Objects>,
    environment: Arc<dyn Environment>,
    /// `https://host:port`, for the discovery document.
    url: String,
}

/// A token that was found valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verified {
    pub(crate) user: User,
    /// The audiences that were asked for and that the token has.
    pub(crate) audiences: Vec<String>,
}

impl Tokens {
    /// Builds the service on a P-256 key in PKCS#8 PEM.
    ///
    /// # Errors
    /// When the key is not one.
    pub(crate) fn new(
        key_pem: &str,
        objects: Arc<dyn Objects>,
        environment: Arc<dyn Environment>,
        url: &str,
    ) -> Result<Self, KeyError> {
        Ok(Self { key: Key::from_pem(key_pem)?, objects, environment, url: url.to_owned() })
    }

    /// Checks a token for use with this API.
    pub(crate) fn authenticate(&self, token: &str) -> Option<User> {
        self.verify(token, &[ISSUER.to_owned()]).ok().map(|verified| verified.user)
    }

    /// Checks a token for any of `audiences`.
    ///
    /// # Errors
    /// What is wrong with it, in words that tell nothing secret.
    pub(crate) fn verify(&self, token: &str, audiences: &[String]) -> Result<Verified, &'static str> {
        let claims = self.key.verify(token).ok_or("the token is malformed or not signed by this server")?;
        let claims = claims::Claims::read(&claims).ok_or("the token is not a service account token")?;
        claims.check_time(self.environment.now().as_second())?;
        let audiences = claims.common_audiences(audiences).ok_or("the token is for another audience")?;
        claims.check_bound_objects(self.objects.as_ref())?;
        Ok(Verified { user: claims.user(), audiences })
    }

    /// Answers `POST …/serviceaccounts/{name}/token`.
    ///
    /// # Errors
    /// 404 without the account, 422 for a bad spec, 403 for a node that asks beyond its pods.
    pub(crate) async fn create(
        &self,
        registry: &Registry,
        user: &User,
        info: &RequestInfo,
        request: Value,
    ) -> Result<Response, ApiError> {
        issue::synchronise(registry).await?;
        let order = issue::plan(self.objects.as_ref(), user, info, &request)?;
        let answer = order.fulfil(&self.key, self.environment.as_ref(), request);
        Ok(json_response(201, &answer))
    }

    /// Answers the discovery documents of the issuer; `None` for other paths.
    pub(crate) fn answer(&self, info: &RequestInfo) -> Option<Response> {
        match info.path.as_str() {
            "/.well-known/openid-configuration" => Some(json_response(200, &self.configuration())),
            "/openid/v1/jwks" => {
                let mut response = json_response(200, &json!({"keys": [self.key.to_jwk()]}));
                let media_type = HeaderValue::from_static("application/jwk-set+json");
                response.headers_mut().insert(header::CONTENT_TYPE, media_type);
                Some(response)
            }
            _ => None,
        }
    }

    fn configuration(&self) -> Value {
        json!({
            "issuer": ISSUER,
            "jwks_uri": format!("{}/openid/v1/jwks", self.url),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        })
    }
}
