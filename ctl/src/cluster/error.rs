//! Why a request failed, in the words of the API server where it had any.

use kube::core::Status;

/// A request that did not succeed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The server answered with a Status.
    #[error("{}", status_message(.0))]
    Api(Box<Status>),
    /// No answer: the server is down, the address is wrong, the certificate is not trusted.
    #[error("cannot reach the server {server}: {reason}")]
    Unreachable {
        /// The address in the kubeconfig.
        server: String,
        /// What the transport said.
        reason: String,
    },
    /// The answer was not what an API server sends.
    #[error("the server's answer is not understood: {0}")]
    Protocol(String),
}

impl Error {
    /// Translates what the transport reports.
    pub(crate) fn from_kube(server: &str, error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Error::Api(status),
            kube::Error::SerdeError(error) => Error::Protocol(error.to_string()),
            kube::Error::FromUtf8(error) => Error::Protocol(error.to_string()),
            other => Error::Unreachable { server: server.to_owned(), reason: root_cause(&other) },
        }
    }

    /// The HTTP code, 0 when there was no answer.
    pub(crate) fn code(&self) -> u16 {
        match self {
            Error::Api(status) => status.code,
            Error::Unreachable { .. } | Error::Protocol(_) => 0,
        }
    }

    /// Whether the object is not there.
    pub(crate) fn is_not_found(&self) -> bool {
        self.code() == 404
    }

    /// Whether somebody else wrote first.
    pub(crate) fn is_conflict(&self) -> bool {
        self.code() == 409
    }

    /// What the user can do about it.
    pub(crate) fn help(&self) -> Option<String> {
        let hint = match self {
            Error::Unreachable { reason, .. } if reason.contains("certificate") => {
                "the kubeconfig may belong to another cluster; see 'droverctl config view'"
            }
            Error::Unreachable { .. } => "is the server running? 'drover up' starts one; --kubeconfig names another",
            Error::Api(status) => match status.code {
                401 => "the credentials in the kubeconfig are not accepted; see 'droverctl config view'",
                403 if status.message.contains("cannot") => "ask for a Role that allows it, or use another --context",
                503 => "the server is starting or overloaded; try again",
                _ => return None,
            },
            Error::Protocol(_) => "is the address in the kubeconfig that of an API server?",
        };
        Some(hint.to_owned())
    }
}

fn status_message(status: &Status) -> String {
    if status.message.is_empty() {
        return format!("the server answered {} {}", status.code, status.reason);
    }
    status.message.clone()
}

/// The innermost cause: the outer ones only say that a request failed.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
