//! How long a watch that failed waits before it is begun anew.

use std::time::Duration;

use kube::runtime::utils::Backoff;
use tokio::time::Instant;

use crate::chance::Chance;

/// The first wait: a server that restarts is back within moments.
const FIRST: Duration = Duration::from_millis(250);
/// The longest: after an outage every node is back within this time.
const LONGEST: Duration = Duration::from_secs(10);

/// Doubling waits, spread by chance. Only time without failures begins them anew: a watch says that it begins before it
/// has reached the server.
pub(super) struct WatchBackoff {
    chance: Chance,
    next: Duration,
    failed_at: Option<Instant>,
}

impl WatchBackoff {
    pub(super) fn new(chance: Chance) -> Self {
        Self { chance, next: FIRST, failed_at: None }
    }
}

impl Iterator for WatchBackoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        if self.failed_at.is_some_and(|at| at.elapsed() > LONGEST * 2) {
            self.next = FIRST;
        }
        self.failed_at = Some(Instant::now());
        let wait = self.chance.spread(self.next, 0.5, 1.0);
        self.next = (self.next * 2).min(LONGEST);
        Some(wait)
    }
}

impl Backoff for WatchBackoff {
    fn reset(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waits_double_up_to_a_limit_and_begin_anew_after_a_quiet_time() {
        let mut backoff = WatchBackoff::new(Chance::seeded(1));
        let waits: Vec<_> = backoff.by_ref().take(10).collect();
        assert!(waits[0] <= FIRST && waits[0] >= FIRST / 2, "{waits:?}");
        assert!(waits[9] <= LONGEST && waits[9] >= LONGEST / 2, "{waits:?}");
        backoff.reset();
        assert!(backoff.next() > Some(FIRST), "the stream's own word does not count");
        tokio::time::advance(LONGEST * 3).await;
        assert!(backoff.next() <= Some(FIRST));
    }
}
