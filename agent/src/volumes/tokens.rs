//! Service account tokens: when to ask for a new one. Pure.

use jiff::{SignedDuration, Timestamp};

/// Which token of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct TokenKey {
    /// `None` is the API server itself.
    pub audience: Option<String>,
    pub expiration_secs: i64,
}

/// A token in use.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub value: String,
    pub refresh_at: Timestamp,
    pub expires_at: Timestamp,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Token(until {})", self.expires_at)
    }
}

/// When to replace a token: at 80 % of its life or after a day, as kubelet does, and a little before that, by chance
/// (0 to 1), so that the pods of a node do not ask all at once.
pub(super) fn refresh_at(issued: Timestamp, expires: Timestamp, chance: f64) -> Timestamp {
    let life_secs = expires.duration_since(issued).as_secs().max(0);
    let use_secs = (life_secs * 4 / 5).min(24 * 3600);
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "seconds of at most a day")]
    let early_secs = (use_secs as f64 * 0.05 * chance.clamp(0.0, 1.0)) as i64;
    issued.checked_add(SignedDuration::from_secs(use_secs - early_secs)).unwrap_or(expires)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_replaced_at_four_fifths_of_their_life() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let issued = at("2026-01-01T00:00:00Z");
        let table = [
            ("2026-01-01T01:00:00Z", 0.0, "2026-01-01T00:48:00Z"),
            ("2026-01-01T01:00:00Z", 1.0, "2026-01-01T00:45:36Z"),
            ("2026-02-01T00:00:00Z", 0.0, "2026-01-02T00:00:00Z"),
            ("2025-01-01T00:00:00Z", 0.5, "2026-01-01T00:00:00Z"),
        ];
        for (expires, chance, expected) in table {
            assert_eq!(refresh_at(issued, at(expires), chance), at(expected), "{expires} {chance}");
        }
    }
}
