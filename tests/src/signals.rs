//! How programs are told to end.

use anyhow::{Result, bail};
use tokio::signal::unix::{SignalKind, signal};

/// Waits for Ctrl-C or SIGTERM and says which it was. From the first poll on neither ends the process by itself.
///
/// # Errors
/// When the system does not let signals be handled.
pub async fn told_to_end() -> Result<&'static str> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    // Cancel-safe: signals.
    tokio::select! {
        _ = interrupt.recv() => Ok("interrupted"),
        _ = terminate.recv() => Ok("terminated"),
    }
}

/// Does something unless the program is told to end before: dropping what was begun takes it away again.
///
/// # Errors
/// Its own, or what the program was told.
pub async fn unless_told_to_end(work: impl Future<Output = Result<()>>) -> Result<()> {
    // Cancel-safe: what is dropped is done with.
    tokio::select! {
        outcome = work => outcome,
        told = told_to_end() => bail!(told?),
    }
}
