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

/// Notices that the wall clock was set, by comparing it with one that only counts.
#[derive(Debug)]
pub struct JumpWatch {
    wall: Timestamp,
    counted: Instant,
}

/// What the two clocks may differ by between two looks.
const JUMP_MIN: SignedDuration = SignedDuration::from_secs(1);

impl JumpWatch {
    /// Begins to watch at `now`.
    pub fn new(now: Timestamp) -> Self {
        Self { wall: now, counted: Instant::now() }
    }

    /// Returns how far the clock was set since the last look, ahead if positive; zero if it was not.
    pub fn jump(&mut self, now: Timestamp) -> SignedDuration {
        let passed = SignedDuration::try_from(self.counted.elapsed()).unwrap_or_default();
        let jump = now.duration_since(self.wall).saturating_sub(passed);
        *self = Self::new(now);
        if jump.abs() < JUMP_MIN { SignedDuration::ZERO } else { jump }
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

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_set_is_told_from_one_that_runs() {
        let skew = Skew::default();
        let clock = Clock::runtime(Timestamp::UNIX_EPOCH).skewed(&skew);
        let mut watch = JumpWatch::new(clock.now());
        let mut jumps = Vec::new();
        for offset in [0, 90, 90, -5] {
            tokio::time::advance(std::time::Duration::from_secs(10)).await;
            skew.set(SignedDuration::from_secs(offset));
            jumps.push(watch.jump(clock.now()).as_secs());
        }
        assert_eq!(jumps, [0, 90, 0, -95]);
    }
}
