//! Gives Docker's errors their class.

use bollard::errors::Error;

use crate::engine::{EngineError, ErrorKind};

/// Translates an error of a call.
pub(super) fn engine_error(operation: &'static str, error: &Error) -> EngineError {
    match error {
        Error::DockerResponseServerError { status_code, message } => {
            EngineError::new(classify(operation, *status_code, message), operation, message.trim())
        }
        Error::RequestTimeoutError => EngineError::new(ErrorKind::Timeout, operation, "the engine did not answer"),
        Error::DockerStreamError { error } => {
            EngineError::new(classify_stream(operation, error), operation, error.trim())
        }
        Error::SocketNotFoundError(path) => {
            EngineError::new(ErrorKind::Unavailable, operation, format!("no engine socket at {path}"))
        }
        Error::HyperResponseError { .. } | Error::HyperLegacyError { .. } | Error::IOError { .. } => {
            EngineError::new(ErrorKind::Unavailable, operation, chain(error))
        }
        other => EngineError::new(ErrorKind::Failed, operation, chain(other)),
    }
}

fn classify(operation: &str, status: u16, message: &str) -> ErrorKind {
    let lower = message.to_ascii_lowercase();
    match status {
        404 if operation == "create" && lower.contains("no such image") => ErrorKind::NoSuchImage,
        404 if operation == "pull" => ErrorKind::PullDenied,
        404 => ErrorKind::NotFound,
        409 if lower.contains("is not running") => ErrorKind::NotRunning,
        // Removal by two callers at once: the other one does it.
        409 if operation == "remove" && lower.contains("already in progress") => ErrorKind::NotFound,
        409 => ErrorKind::Conflict,
        400 => ErrorKind::Invalid,
        401 | 403 => ErrorKind::PullDenied,
        500 if operation == "pull" => classify_stream(operation, message),
        503 => ErrorKind::Unavailable,
        _ => ErrorKind::Failed,
    }
}

fn classify_stream(operation: &str, message: &str) -> ErrorKind {
    let lower = message.to_ascii_lowercase();
    let denied = ["denied", "unauthorized", "not found", "manifest unknown", "no basic auth"];
    if operation == "pull" && denied.iter().any(|word| lower.contains(word)) {
        return ErrorKind::PullDenied;
    }
    ErrorKind::Failed
}

/// An error with all its causes, as one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_answers_have_classes() {
        let table = [
            ("create", 409, "Conflict. The container name \"/x\" is already in use", ErrorKind::Conflict),
            ("create", 404, "No such image: web:1", ErrorKind::NoSuchImage),
            ("kill", 409, "Container ab is not running", ErrorKind::NotRunning),
            ("kill", 404, "No such container: ab", ErrorKind::NotFound),
            ("remove", 409, "removal of container ab is already in progress", ErrorKind::NotFound),
            ("create", 400, "invalid mount config", ErrorKind::Invalid),
            ("pull", 404, "pull access denied for x", ErrorKind::PullDenied),
            ("start", 500, "OCI runtime create failed", ErrorKind::Failed),
        ];
        for (operation, status, message, kind) in table {
            assert_eq!(classify(operation, status, message), kind, "{operation} {status} {message}");
        }
    }
}
