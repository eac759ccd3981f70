//! The randomness that is passed in: the operating system's in production, a seeded stream in simulations.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rand::{RngCore as _, SeedableRng as _, rngs::StdRng};

/// Gives random values; cheap to clone. Clones of a seeded one draw from the same stream.
#[derive(Clone)]
pub enum Chance {
    /// The process's own generator, good for keys.
    System,
    /// A stream that a seed determines: the same draws in the same order give the same values.
    Seeded(Arc<Mutex<StdRng>>),
}

impl fmt::Debug for Chance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the generator's state: keys are drawn from it.
        f.write_str(match self {
            Self::System => "Chance::System",
            Self::Seeded(_) => "Chance::Seeded",
        })
    }
}

impl Chance {
    /// A stream of its own for a seed.
    pub fn seeded(seed: u64) -> Self {
        Self::Seeded(Arc::new(Mutex::new(StdRng::seed_from_u64(seed))))
    }

    /// Any number.
    pub fn number(&self) -> u64 {
        match self {
            Self::System => rand::random(),
            Self::Seeded(stream) => lock(stream).next_u64(),
        }
    }

    /// A number from 0 up to, but not including, 1.
    pub fn unit(&self) -> f64 {
        // The 53 bits that a double holds exactly.
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
        let unit = (self.number() >> 11) as f64 / (1u64 << 53) as f64;
        unit
    }

    /// Whether something happens that happens with this probability (0 to 1).
    pub fn happens(&self, probability: f64) -> bool {
        // Without a draw for the usual case, so that a fault which is off does not shift the stream.
        probability > 0.0 && self.unit() < probability
    }

    /// A delay spread over `low` to `high` times itself, so that many do not come due together.
    pub fn spread(&self, delay: Duration, low: f64, high: f64) -> Duration {
        delay.mul_f64(low + (high - low) * self.unit())
    }

    /// A secret key.
    pub fn key(&self) -> [u8; 32] {
        match self {
            Self::System => rand::random(),
            Self::Seeded(stream) => {
                let mut key = [0; 32];
                lock(stream).fill_bytes(&mut key);
                key
            }
        }
    }
}

fn lock(stream: &Mutex<StdRng>) -> MutexGuard<'_, StdRng> {
    stream.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_determines_every_draw() {
        let draws = |seed| {
            let chance = Chance::seeded(seed);
            (chance.number(), chance.key(), chance.spread(Duration::from_secs(1), 0.8, 1.2), chance.happens(0.5))
        };
        assert_eq!(draws(7), draws(7));
        assert_ne!(draws(7), draws(8));
    }

    #[test]
    fn units_stay_in_their_range_and_what_never_happens_draws_nothing() {
        let chance = Chance::seeded(1);
        assert!((0..1000).all(|_| (0.0..1.0).contains(&chance.unit())));
        let (once, other) = (Chance::seeded(2), Chance::seeded(2));
        assert!(!once.happens(0.0));
        assert_eq!(once.number(), other.number());
    }
}
