//! What only an administrator may ask of one server: the state of its keys, and what `droverctl audit` looks at.
//!
//! Paths below `/drover/v1/`. They are no resources, so that a right to them is always a cluster-wide one, and no
//! built-in role but `cluster-admin` has it. Owns no state.

mod files;
#[cfg(test)]
mod tests;

use std::{path::PathBuf, sync::Arc};

use drover_api::status::ApiError;
use serde_json::{Value, json};

use crate::{
    audit::Audit,
    front::{REQUEST_TIMEOUT, Response, json_response},
    request::{RequestInfo, method_not_allowed},
    sealing::{RotationError, Sealed},
    tokens::LIFE_SECS_MAX,
};

const ROOT: &str = "/drover/v1/";
/// Store keys of Secrets, for objects that are named `namespace/name`.
const SECRETS: &str = "/registry/core/secrets/";

/// Answers administrators.
#[derive(Debug, Default)]
pub(crate) struct Administration {
    /// `None` where the store is not sealed: within a simulation.
    pub(crate) sealing: Option<Arc<Sealed>>,
    /// Whose files are looked at.
    pub(crate) data_dir: Option<PathBuf>,
    /// What the store is: `embedded`, `etcd`, …
    pub(crate) store: &'static str,
}

impl Administration {
    /// Whether a request is for this module.
    pub(crate) fn serves(info: &RequestInfo) -> bool {
        !info.is_resource && info.path.starts_with(ROOT)
    }

    /// Answers a request that was authorised.
    ///
    /// # Errors
    /// 404 for other paths, 405, and what changing keys may fail with.
    pub(crate) async fn answer(&self, info: &RequestInfo, audit: &Audit) -> Result<Response, ApiError> {
        let path = info.path.strip_prefix(ROOT).unwrap_or_default();
        let answer = match (info.verb, path) {
            ("get", "security-report") => self.report(audit).await,
            ("get", "sealing") => self.sealing()?.report().await.map(|report| json!(report)).map_err(refuse)?,
            ("post", "sealing/prepare") => key(self.sealing()?.prepare().await)?,
            ("post", "sealing/rotate") => key(self.sealing()?.rotate().await)?,
            ("post", "sealing/reseal") => json!({"written": self.sealing()?.reseal().await.map_err(refuse)?}),
            ("post", "sealing/retire") => {
                let id = argument(info, "key")?;
                self.sealing()?.retire(id).await.map_err(refuse)?;
                json!({"key": id})
            }
            ("post", "sealing/discard") => {
                let object = argument(info, "secret")?;
                self.sealing()?.discard(&format!("{SECRETS}{object}")).await.map_err(refuse)?;
                json!({"secret": object})
            }
            (_, "security-report" | "sealing") => return Err(method_not_allowed()),
            _ => return Err(ApiError::new(404, "NotFound", "the server could not find the requested resource")),
        };
        Ok(json_response(200, &answer))
    }

    fn sealing(&self) -> Result<&Sealed, ApiError> {
        self.sealing.as_deref().ok_or_else(|| ApiError::new(404, "NotFound", "this server's store is not sealed"))
    }

    /// Facts; `droverctl audit` judges them.
    async fn report(&self, audit: &Audit) -> Value {
        let sealing = match &self.sealing {
            None => Value::Null,
            Some(sealing) => match sealing.report().await {
                Ok(report) => json!(report),
                Err(error) => json!({"error": error.to_string()}),
            },
        };
        json!({
            "apiVersion": "drover.dev/v1alpha1",
            "kind": "SecurityReport",
            "files": self.data_dir.as_deref().map(files::modes).unwrap_or_default(),
            "processUid": files::process_uid(),
            "store": self.store,
            "sealing": sealing,
            "audit": audit.report(),
            "tlsVersions": crate::tls_versions(),
            "anonymousPaths": crate::health::CONSTANTS,
            "requestTimeoutSecs": REQUEST_TIMEOUT.as_secs(),
            "tokenLifeSecsMax": LIFE_SECS_MAX,
        })
    }
}

fn key(made: Result<crate::sealing::KeyId, RotationError>) -> Result<Value, ApiError> {
    made.map(|id| json!({"key": id.to_string()})).map_err(refuse)
}

fn argument<'a>(info: &'a RequestInfo, name: &str) -> Result<&'a str, ApiError> {
    let value = info.query(name).filter(|value| !value.is_empty());
    value.ok_or_else(|| ApiError::bad_request(format!("query parameter {name:?} is required")))
}

/// An administrator is told the whole chain of causes.
#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err takes")]
fn refuse(error: RotationError) -> ApiError {
    use std::error::Error as _;
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        message += &format!(": {error}");
        cause = error.source();
    }
    match error {
        RotationError::NoSuchKey(_) => ApiError::new(404, "NotFound", message),
        RotationError::InUse(_)
        | RotationError::Needed { .. }
        | RotationError::Unreadable(_)
        | RotationError::Readable(_) => ApiError::new(409, "Conflict", message),
        RotationError::Sealing(_) | RotationError::Store(_) | RotationError::Busy => {
            ApiError::new(503, "ServiceUnavailable", message)
        }
    }
}
