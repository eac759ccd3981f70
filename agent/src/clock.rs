//! The clock that is passed in: wall time in production, the runtime's paused time in simulations.

use jiff::Timestamp;
use tokio::time::Instant;

/// Gives the present time; cheap to clone.
#[derive(Debug, Clone)]
pub enum Clock {
    /// The host's wall clock.
    System,
    /// Starts at a given moment and advances with the tokio runtime, which tests pause.
    Runtime {
        /// The moment that `started` stands for.
        epoch: Timestamp,
        /// When the clock was made.
        started: Instant,
    },
}

impl Clock {
    /// A clock that follows the tokio runtime, for simulations.
    pub fn runtime(epoch: Timestamp) -> Self {
        Self::Runtime { epoch, started: Instant::now() }
    }

    /// The present time.
    pub fn now(&self) -> Timestamp {
        match self {
            Self::System => Timestamp::now(),
            Self::Runtime { epoch, started } => {
                let passed = jiff::SignedDuration::try_from(started.elapsed()).unwrap_or_default();
                epoch.checked_add(passed).unwrap_or(*epoch)
            }
        }
    }
}
