//! What a request may ask of the registry besides the object itself.

use drover_api::{
    labels::{FieldSelector, LabelSelector},
    status::ApiError,
};
use serde_json::Value;

use crate::request::User;

/// Options of a write.
#[derive(Debug, Clone, Default)]
pub struct WriteOptions {
    /// Who writes.
    pub user: User,
    /// Run the whole pipeline, store nothing.
    pub dry_run: bool,
    /// Texts for `Warning` headers, collected on the way.
    pub field_manager: String,
}

impl WriteOptions {
    /// Options of a server component that acts in its own name.
    pub fn of(user: User) -> Self {
        Self { user, ..Self::default() }
    }
}

/// What happens to the dependents of a deleted object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// They stay, without their owner.
    Orphan,
    /// They go after the object.
    Background,
    /// They go before the object.
    Foreground,
}

/// `DeleteOptions`.
#[derive(Debug, Clone, Default)]
pub struct DeleteOptions {
    /// `None`: the object's own.
    pub grace_period_secs: Option<i64>,
    /// Only if the object has this uid.
    pub uid: Option<String>,
    /// Only if the object has this resourceVersion.
    pub resource_version: Option<String>,
    /// `None`: Background.
    pub propagation: Option<Propagation>,
}

impl DeleteOptions {
    /// Reads a `DeleteOptions` object.
    ///
    /// # Errors
    /// 400 for values of the wrong type, a negative grace period, and an unknown policy.
    pub fn from_value(value: &Value) -> Result<Self, ApiError> {
        let text = |found: Option<&Value>, field: &str| match found {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(ApiError::bad_request(format!("DeleteOptions.{field} must be a string"))),
        };
        let grace = match value.get("gracePeriodSeconds") {
            None | Some(Value::Null) => None,
            Some(found) => match found.as_i64() {
                Some(seconds) => Some(seconds.max(0)),
                None => return Err(ApiError::bad_request("DeleteOptions.gracePeriodSeconds must be an integer")),
            },
        };
        let orphan = value.get("orphanDependents").and_then(Value::as_bool);
        let propagation = match text(value.get("propagationPolicy"), "propagationPolicy")? {
            Some(policy) => Some(Propagation::parse(&policy)?),
            None => orphan.map(|orphan| if orphan { Propagation::Orphan } else { Propagation::Background }),
        };
        let preconditions = value.get("preconditions");
        let precondition = |field: &str| text(preconditions.and_then(|found| found.get(field)), field);
        Ok(Self {
            grace_period_secs: grace,
            uid: precondition("uid")?,
            resource_version: precondition("resourceVersion")?,
            propagation,
        })
    }
}

impl Propagation {
    /// Reads `propagationPolicy`.
    ///
    /// # Errors
    /// 422 in Kubernetes' words for anything else.
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        match text {
            "Orphan" => Ok(Self::Orphan),
            "Background" => Ok(Self::Background),
            "Foreground" => Ok(Self::Foreground),
            other => Err(ApiError::new(
                422,
                "Invalid",
                format!(
                    "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Unsupported value: {other:?}: supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\""
                ),
            )),
        }
    }
}

/// What a list or watch asks for.
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    /// By labels.
    pub labels: LabelSelector,
    /// By fields.
    pub fields: FieldSelector,
    /// Both selectors as the client wrote them: a continue token is bound to them.
    pub selectors_text: String,
    /// `resourceVersion` as the client wrote it.
    pub resource_version: String,
    /// `resourceVersionMatch`.
    pub version_match: Option<VersionMatch>,
    /// 0: no limit.
    pub limit: usize,
    /// Token of an earlier page.
    pub continue_token: String,
}

/// `resourceVersionMatch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionMatch {
    /// That state exactly.
    Exact,
    /// That state or a newer one.
    NotOlderThan,
}

impl ListOptions {
    /// Reads `resourceVersion` as a number; `None` when absent.
    ///
    /// # Errors
    /// 400 when it is no decimal number of 64 bits.
    pub fn revision(&self) -> Result<Option<u64>, ApiError> {
        parse_revision(&self.resource_version)
    }
}

/// Reads a `resourceVersion`.
///
/// # Errors
/// 400 when it is no decimal number of 64 bits.
pub fn parse_revision(text: &str) -> Result<Option<u64>, ApiError> {
    if text.is_empty() {
        return Ok(None);
    }
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(revision) if digits => Ok(Some(revision)),
        _ => Err(ApiError::bad_request(format!("Invalid value: {text:?}: resourceVersion must be a decimal number"))),
    }
}
