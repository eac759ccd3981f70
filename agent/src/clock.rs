//! The clock that is passed in: wall time in production, the runtime's paused time in simulations.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use jiff::{SignedDuration, Timestamp};
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
        /// How far this clock is off.
        skew: Skew,
    },
}

/// How far one node's clock is off the others'. Cheap to clone; clones are the same skew.
#[derive(Debug, Clone, Default)]
pub struct Skew(Arc<AtomicI64>);

impl Skew {
    /// Makes the clock jump: from now on it is off by `offset`, ahead if positive. Timers do not notice, as on a real
    /// host, where they count by another clock.
    pub fn set(&self, offset: SignedDuration) {
        self.0.store(i64::try_from(offset.as_millis()).unwrap_or(0), Ordering::SeqCst);
    }

    /// How far the clock is off.
    pub fn get(&self) -> SignedDuration {
        SignedDuration::from_millis(self.0.load(Ordering::SeqCst))
    }
}

impl Clock {
    /// A clock that follows the tokio runtime, for simulations.
    pub fn runtime(epoch: Timestamp) -> Self {
        Self::Runtime { epoch, started: Instant::now(), skew: Skew::default() }
    }

    /// The same clock for another node, which may be off by `skew`. The host's clock cannot be.
    #[must_use]
    pub fn skewed(&self, skew: &Skew) -> Self {
        match self {
            Self::System => Self::System,
            Self::Runtime { epoch, started, skew: _ } => {
                Self::Runtime { epoch: *epoch, started: *started, skew: skew.clone() }
            }
        }
    }

    /// The present time.
    pub fn now(&self) -> Timestamp {
        match self {
            Self::System => Timestamp::now(),
            Self::Runtime { epoch, started, skew } => {
                let passed = SignedDuration::try_from(started.elapsed()).unwrap_or_default();
                epoch.checked_add(passed.saturating_add(skew.get())).unwrap_or(*epoch)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_clock_jumps_and_the_other_does_not() {
        let clock = Clock::runtime(Timestamp::UNIX_EPOCH);
        let skew = Skew::default();
        let other = clock.skewed(&skew);
        skew.set(SignedDuration::from_secs(-3));
        tokio::time::advance(std::time::Duration::from_secs(10)).await;
        assert_eq!((clock.now().as_second(), other.now().as_second()), (10, 7));
    }
}
