//! What can go wrong between a plan and the API, and what the runner does about it.

use std::time::Duration;

use super::ObjectKey;

/// The result of a step that talks to the API.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A step that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API refused a request or could not be reached.
    #[error("cannot {verb} {kind} {key}")]
    Request {
        /// What was asked: `create`, `patch`, `delete`, …
        verb: &'static str,
        /// The kind of the object.
        kind: String,
        /// The object.
        key: ObjectKey,
        /// Why it failed.
        #[source]
        source: Box<kube::Error>,
    },
    /// The informer has not yet seen this controller's own last write.
    #[error("cache of {kind} is behind revision {revision}, written by this controller")]
    Stale {
        /// The kind of the cache.
        kind: String,
        /// The revision that has been written and not been seen.
        revision: u64,
    },
    /// An object that the API accepted cannot be understood.
    #[error("{key} cannot be used: {message}")]
    Invalid {
        /// The object.
        key: ObjectKey,
        /// What is wrong with it.
        message: String,
    },
    /// An object could not be written as JSON.
    #[error("cannot encode {key}")]
    Encode {
        /// The object.
        key: ObjectKey,
        /// Why it failed.
        #[source]
        source: serde_json::Error,
    },
}

/// What the runner does with the key of a failed pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// Try again after the key's exponential backoff.
    Retry,
    /// Try again after this long, because the failure will not pass sooner.
    RetryAfter(Duration),
    /// Nothing to do until the object changes.
    WaitForChange,
}

/// Bad input is looked at again this rarely: only a change of the object can help, a change of the rules might.
const REFUSED_RETRY: Duration = Duration::from_secs(30);

impl Error {
    /// Classifies the failure for the runner.
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Request { source, .. } => match &**source {
                kube::Error::Api(status) if status.code == 429 => Disposition::RetryAfter(Duration::from_secs(
                    status.details.as_ref().map_or(1, |details| u64::from(details.retry_after_seconds.max(1))),
                )),
                kube::Error::Api(status) if matches!(status.code, 400 | 403 | 405 | 422) => {
                    Disposition::RetryAfter(REFUSED_RETRY)
                }
                _ => Disposition::Retry,
            },
            Self::Stale { .. } => Disposition::Retry,
            Self::Invalid { .. } | Self::Encode { .. } => Disposition::WaitForChange,
        }
    }

    /// Returns the HTTP code and reason of the API's answer, when there was one.
    pub fn status(&self) -> Option<(u16, &str)> {
        match self {
            Self::Request { source, .. } => match &**source {
                kube::Error::Api(status) => Some((status.code, &status.reason)),
                _ => None,
            },
            Self::Stale { .. } | Self::Invalid { .. } | Self::Encode { .. } => None,
        }
    }

    /// Whether the object was changed, or replaced by another of the same name, since it was read.
    pub fn is_conflict(&self) -> bool {
        self.status().is_some_and(|(code, reason)| code == 409 && reason != "AlreadyExists")
    }

    /// Whether the object may be, or is known to be, another one than the cache showed when the write was planned: the
    /// server did not say what came of it, or refused it for the object's sake.
    pub fn leaves_doubt(&self) -> bool {
        let Self::Request { .. } = self else { return false };
        self.status().is_none_or(|(code, _)| matches!(code, 404 | 409 | 410 | 500..))
    }

    /// Whether a create met an object of the same name.
    pub fn is_already_exists(&self) -> bool {
        self.status().is_some_and(|(code, reason)| code == 409 && reason == "AlreadyExists")
    }

    /// Whether the object is gone.
    pub fn is_not_found(&self) -> bool {
        self.status().is_some_and(|(code, _)| code == 404)
    }

    /// Whether the object's namespace is being deleted, so that no create in it can succeed any more.
    pub fn is_namespace_terminating(&self) -> bool {
        let Self::Request { source, .. } = self else { return false };
        let kube::Error::Api(status) = &**source else { return false };
        let caused = status.details.iter().flat_map(|details| &details.causes);
        status.code == 403
            && (caused.into_iter().any(|cause| cause.reason == "NamespaceTerminating")
                || status.message.contains("because it is being terminated"))
    }
}

/// Writes an error with its causes, as one line for logs and events.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// Returns what the API said, without our own words around it: the text of events and conditions.
pub fn reason_text(error: &Error) -> String {
    match error {
        Error::Request { source, .. } => match &**source {
            kube::Error::Api(status) => status.message.clone(),
            other => other.to_string(),
        },
        Error::Stale { .. } | Error::Invalid { .. } | Error::Encode { .. } => chain(error),
    }
}
