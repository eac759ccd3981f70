//! Sees to it that a restore that has begun ends, whoever began it and whatever became of them.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{Error, apply, gate::Gate};
use crate::registry::Environment;

/// How long a server leaves a restore to the one that began it. Two that apply it at once only do the work twice.
const TAKE_OVER_AFTER: Duration = Duration::from_secs(10);
/// Pause after a failure of the store: objects can be neither read nor written meanwhile.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Completes a restore that was cut short; returns when there is none.
///
/// # Errors
/// The store's; the restore is as far as it got, and the gate stays closed.
pub(crate) async fn finish(gate: &Gate, environment: &dyn Environment) -> Result<(), Error> {
    loop {
        let known = gate.refresh().await?;
        if !known.is_closed() || apply::apply(gate, &known, environment).await? {
            return Ok(());
        }
    }
}

/// Completes restores, this server's own at once and others' when they take too long, until `shutdown`.
pub(crate) async fn run(gate: Arc<Gate>, environment: Arc<dyn Environment>, shutdown: CancellationToken) {
    let mut known = gate.known.subscribe();
    loop {
        // Cancel-safe: watches, a token, a timer; a permit that is taken is acted on.
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = known.wait_for(super::marker::Known::is_closed) => {}
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = known.wait_for(|known| !known.is_closed()) => continue,
            () = gate.eager.notified() => {}
            () = tokio::time::sleep(TAKE_OVER_AFTER) => {}
        }
        let finished = tokio::select! {
            // Cancel-safe: a restore may be cut short anywhere.
            () = shutdown.cancelled() => return,
            finished = finish(&gate, &*environment) => finished,
        };
        if let Err(error) = finished {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::error!(%error, cause, "a backup cannot be restored to its end; trying again");
            // Cancel-safe: a timer and a token.
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(RETRY_AFTER) => gate.eager.notify_one(),
            }
        }
    }
}
