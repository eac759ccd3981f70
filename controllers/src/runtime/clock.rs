//! Time and randomness as arguments: the only module that reads a clock or a random generator.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

/// Tells the time of day. Delays use tokio's timer, which simulators pause.
pub trait Clock: Debug + Send + Sync {
    /// Returns the current instant.
    fn now(&self) -> Timestamp;
}

/// A source of jitter.
pub trait Random: Debug + Send + Sync {
    /// Returns a number in `[0, 1)`.
    fn unit(&self) -> f64;
}

/// The clock of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// The random generator of the thread.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn unit(&self) -> f64 {
        rand::random::<f64>()
    }
}

/// What controllers may know of the world besides the API.
#[derive(Debug, Clone)]
pub struct Environment {
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// Jitter.
    pub random: Arc<dyn Random>,
}

impl Environment {
    /// Returns the clock and the randomness of this machine.
    pub fn system() -> Self {
        Self { clock: Arc::new(SystemClock), random: Arc::new(SystemRandom) }
    }

    /// Returns the current instant.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Spreads a delay over 80 % to 120 % of itself, so that many keys do not come due together.
    pub fn jitter(&self, delay: Duration) -> Duration {
        delay.mul_f64(0.8 + 0.4 * self.random.unit())
    }
}

/// Cuts an instant to whole seconds: `metav1.Time` has no finer grain in Kubernetes.
pub fn whole_seconds(instant: Timestamp) -> Timestamp {
    Timestamp::from_second(instant.as_second()).unwrap_or(instant)
}
