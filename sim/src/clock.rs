//! Virtual time: a wall clock for each part that follows the paused runtime and can be wrong.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// When every simulation begins.
const EPOCH_SECOND: i64 = 1_767_225_600;

/// One part's wall clock; clones are the same clock.
#[derive(Debug, Clone)]
pub struct SimClock {
    started: Instant,
    offset_ms: Arc<AtomicI64>,
}

impl SimClock {
    /// Makes a clock that is right. Must be called within the simulated runtime, at its start.
    pub fn new() -> Self {
        Self { started: Instant::now(), offset_ms: Arc::default() }
    }

    /// Returns a clock of its own for another part, right again.
    pub fn another(&self) -> Self {
        Self { started: self.started, offset_ms: Arc::default() }
    }

    /// Puts the clock forward or back; 0 puts it right.
    pub fn set_offset_secs(&self, secs: i64) {
        self.offset_ms.store(secs.saturating_mul(1000), Ordering::Relaxed);
    }

    /// Returns how long the simulation has run, whatever the clock says.
    pub fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Returns what the clock says.
    pub fn time(&self) -> Timestamp {
        let elapsed = SignedDuration::try_from(self.started.elapsed()).unwrap_or(SignedDuration::MAX);
        let offset = SignedDuration::from_millis(self.offset_ms.load(Ordering::Relaxed));
        let epoch = Timestamp::from_second(EPOCH_SECOND).unwrap_or(Timestamp::UNIX_EPOCH);
        epoch.saturating_add(elapsed.saturating_add(offset)).unwrap_or(epoch)
    }
}

impl Default for SimClock {
    fn default() -> Self {
        Self::new()
    }
}

impl drover_controllers::runtime::Clock for SimClock {
    fn now(&self) -> Timestamp {
        self.time()
    }
}
