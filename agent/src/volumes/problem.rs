//! Errors on the way to a volume, as sentences that users see.

use crate::seams::VolumeError;

/// What is wrong, before it is known which volume it concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub message: String,
    /// Whether time alone can help.
    pub retry: bool,
}

impl Problem {
    /// Something that may be better soon.
    pub(super) fn passing(message: impl Into<String>) -> Self {
        Self { message: message.into(), retry: true }
    }

    /// Something that only a change of the manifest helps.
    pub(super) fn lasting(message: impl Into<String>) -> Self {
        Self { message: message.into(), retry: false }
    }

    /// A failed system call.
    pub(super) fn io(step: &str, error: &std::io::Error) -> Self {
        Self::passing(format!("{step}: {error}"))
    }

    /// The error for the life cycle, in kubelet's form.
    pub(super) fn of_volume(self, volume: &str) -> VolumeError {
        VolumeError {
            reason: "FailedMount".to_owned(),
            message: format!("MountVolume.SetUp failed for volume {volume:?} : {}", self.message),
            retry: self.retry,
        }
    }
}

/// Runs file work off the async threads.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|panic| Err(Problem::passing(format!("file work failed: {panic}"))))
}
