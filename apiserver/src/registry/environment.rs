//! Time, identity and chance, passed in so that the simulator can drive the server.

use std::fmt;

use jiff::Timestamp;
use rand::{Rng, RngCore};

/// Characters of generated names: no vowels and no look-alikes, so that chance spells no words.
const NAME_ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// What the registry may not find out by itself.
pub trait Environment: Send + Sync + fmt::Debug + 'static {
    /// The time of day.
    fn now(&self) -> Timestamp;

    /// Random bytes.
    fn fill(&self, bytes: &mut [u8]);

    /// A new object identity.
    fn uid(&self) -> String {
        let mut bytes = [0; 16];
        self.fill(&mut bytes);
        uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
    }

    /// A random name suffix of `length` characters.
    fn suffix(&self, length: usize) -> String {
        let mut bytes = vec![0; length];
        self.fill(&mut bytes);
        bytes.iter().map(|byte| char::from(NAME_ALPHABET[usize::from(*byte) % NAME_ALPHABET.len()])).collect()
    }

    /// A random number below `bound` (which must not be 0).
    fn below(&self, bound: u64) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes) % bound
    }
}

/// The real clock and generator.
#[derive(Debug, Clone, Copy, Default)]
pub struct System;

impl Environment for System {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn fill(&self, bytes: &mut [u8]) {
        rand::rng().fill_bytes(bytes);
    }

    fn below(&self, bound: u64) -> u64 {
        rand::rng().random_range(0..bound)
    }
}

/// Formats a time as Kubernetes does (`metav1.Time`): RFC 3339 in whole seconds.
pub fn format_time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
