//! Waiting for a condition.

use std::{fmt::Debug, time::Duration};

use anyhow::{Result, bail};
use tokio::time::{Instant, sleep};

/// One generous bound for everything: reaching it means that the condition never comes.
const BOUND: Duration = Duration::from_secs(120);

/// Asks again and again until `probe` returns `Ok(Ok(value))`; `Ok(Err(seen))` is "not yet, this is what I saw".
///
/// # Errors
/// When `probe` fails, or after two minutes, with what was seen last.
pub async fn eventually<T, S: Debug>(what: &str, mut probe: impl AsyncFnMut() -> Result<Result<T, S>>) -> Result<T> {
    let deadline = Instant::now() + BOUND;
    loop {
        let seen = match probe().await? {
            Ok(value) => return Ok(value),
            Err(seen) => seen,
        };
        if Instant::now() > deadline {
            bail!("{what} did not happen; last seen: {seen:?}");
        }
        sleep(Duration::from_millis(50)).await;
    }
}
