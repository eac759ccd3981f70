//! Writes of the server's own that must outlast a store that is away for a while.

use std::time::Duration;

use drover_api::status::ApiError;
use tokio_util::sync::CancellationToken;

/// Between two tries.
const RETRY: Duration = Duration::from_millis(500);

/// Tries again while the answer is 503; gives that answer once the server leaves.
///
/// # Errors
/// Any other of `write`'s.
pub(super) async fn while_unavailable<F>(leaving: &CancellationToken, write: impl Fn() -> F) -> Result<(), ApiError>
where
    F: Future<Output = Result<(), ApiError>>,
{
    loop {
        match write().await {
            Err(error) if error.code == 503 && !leaving.is_cancelled() => {
                tracing::warn!("tried again: {}", error.message);
            }
            outcome => return outcome,
        }
        // Cancel-safe: a timer and a token hold nothing.
        tokio::select! {
            () = leaving.cancelled() => {}
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn unavailable() -> ApiError {
        ApiError::new(503, "ServiceUnavailable", "the store is unavailable")
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_is_away_is_waited_for_and_nothing_else() {
        let (leaving, tries) = (CancellationToken::new(), AtomicUsize::new(0));
        let third = || async {
            let tried = tries.fetch_add(1, Ordering::Relaxed);
            if tried < 2 { Err(unavailable()) } else { Ok(()) }
        };
        while_unavailable(&leaving, third).await.unwrap();
        assert_eq!(tries.load(Ordering::Relaxed), 3);
        let refused = while_unavailable(&leaving, || async { Err(ApiError::new(403, "Forbidden", "no")) }).await;
        assert_eq!(refused.unwrap_err().code, 403);
        let left = leaving.clone();
        tokio::spawn(async move { left.cancel() });
        assert_eq!(while_unavailable(&leaving, || async { Err(unavailable()) }).await.unwrap_err().code, 503);
    }
}
