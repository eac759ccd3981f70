//! Errors of engine calls, with the class that decides what happens next.

/// What an engine call failed with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{operation}: {message}")]
pub struct EngineError {
    /// The class.
    pub kind: ErrorKind,
    /// The call: `create`, `start`, …
    pub operation: &'static str,
    /// The engine's own words.
    pub message: String,
}

/// The class of an engine error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// There is no such container, exec or volume.
    NotFound,
    /// The name is in use, or the object is in a state that forbids the call.
    Conflict,
    /// The image is not on this host.
    NoSuchImage,
    /// The container has no process.
    NotRunning,
    /// The registry refused or does not know the image.
    PullDenied,
    /// The engine rejects the request as malformed.
    Invalid,
    /// The engine cannot be reached.
    Unavailable,
    /// The engine did not answer in time; whether the call took effect is unknown.
    Timeout,
    /// Anything else the engine failed with.
    Failed,
}

impl EngineError {
    /// Makes an error.
    pub fn new(kind: ErrorKind, operation: &'static str, message: impl Into<String>) -> Self {
        Self { kind, operation, message: message.into() }
    }

    /// Whether the engine itself is at fault, so that trying another container would fail alike.
    pub fn is_engine_down(&self) -> bool {
        matches!(self.kind, ErrorKind::Unavailable | ErrorKind::Timeout)
    }
}
