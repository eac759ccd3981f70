//! Deterministic pod names: a create sent twice is refused by its own first success.

use sha2::{Digest, Sha256};

/// The letters Kubernetes uses for generated names: no vowels, so no words; no digits that look like letters.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
/// Generated names fit a label: 63 characters with the five of the suffix.
const STEM_MAX: usize = 58;

/// Returns what every pod name of a set starts with.
pub(super) fn stem(set_name: &str) -> String {
    let mut stem = format!("{set_name}-");
    stem.truncate(STEM_MAX);
    stem
}

/// Returns the name of the pod in a slot of a ReplicaSet.
pub fn pod_name(set_name: &str, set_uid: &str, slot: u32) -> String {
    let mut identity = format!("{set_uid}/{slot}");
    if drover_api::mutants::active("C05-random-names") {
        identity += &rand::random::<u64>().to_string();
    }
    let digest = Sha256::digest(identity);
    let suffix: String =
        digest.iter().take(5).map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()])).collect();
    stem(set_name) + &suffix
}
