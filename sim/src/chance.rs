//! All randomness of a simulation, from one seed.
//!
//! Every part gets a fork of its own, so that what one part draws does not change what another one gets.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::{Rng, RngCore, SeedableRng, rngs::StdRng};

/// A seeded generator; clones share it.
#[derive(Clone, Debug)]
pub struct Chance(Arc<Mutex<StdRng>>);

impl Chance {
    /// Starts from a seed.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(StdRng::seed_from_u64(seed))))
    }

    /// Returns a generator for one part; the same label gives the same numbers in every run of a seed, as long as
    /// forks are made in the same order.
    pub fn fork(&self, label: &str) -> Self {
        // FNV-1a: stable across builds, unlike the standard library's hasher.
        let hash = label
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
        Self::new(self.lock().next_u64() ^ hash)
    }

    /// Returns a number below `bound`, which must not be 0.
    pub fn below(&self, bound: u64) -> u64 {
        self.lock().random_range(0..bound)
    }

    /// Returns a number from `low` to `high`, both included.
    pub fn between(&self, low: u64, high: u64) -> u64 {
        self.lock().random_range(low..=high)
    }

    /// Is true once in `n` times.
    pub fn one_in(&self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// Returns an index into something of `len` items, which must not be 0.
    pub fn index(&self, len: usize) -> usize {
        self.lock().random_range(0..len)
    }

    /// Returns a number in `[0, 1)`.
    pub fn unit(&self) -> f64 {
        self.lock().random()
    }

    /// Fills `bytes`.
    pub fn fill(&self, bytes: &mut [u8]) {
        self.lock().fill_bytes(bytes);
    }

    fn lock(&self) -> MutexGuard<'_, StdRng> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl drover_controllers::runtime::Random for Chance {
    fn unit(&self) -> f64 {
        Self::unit(self)
    }
}

#[cfg(test)]
mod tests {
    use super::Chance;

    #[test]
    fn a_fork_gives_the_same_numbers_whatever_other_forks_have_drawn() {
        let draw = |disturb: bool| {
            let chance = Chance::new(7);
            let other = chance.fork("other");
            let fork = chance.fork("part");
            if disturb {
                other.below(10);
            }
            (0..8).map(|_| fork.below(1000)).collect::<Vec<_>>()
        };
        assert_eq!(draw(false), draw(true));
    }
}
