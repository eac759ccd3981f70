//! The task that writes: takes what has gathered, chains it, hands it to the sink in one piece.

use std::{io, sync::Arc, time::Duration};

use async_trait::async_trait;
use drover_api::audit::Chain;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Counts, Record};

/// Lines of one write.
const BATCH: usize = 512;
/// Pause after a failed write: a full disk does not fill up less by being asked more often.
const PAUSE: Duration = Duration::from_secs(1);
/// What is still queued at the end gets so long.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Where lines go.
#[async_trait]
pub trait Sink: Send + std::fmt::Debug {
    /// Says where the lines go and how much room they may take, for the security report.
    fn describe(&self) -> Value;

    /// Opens what is there already and returns the end of its chain. Called again after each failed write.
    async fn open(&mut self) -> io::Result<Chain>;

    /// Appends whole lines, the last of which is number `sequence`: all of them, or none with an error.
    async fn append(&mut self, lines: &[u8], sequence: u64) -> io::Result<()>;
}

/// Writes until `shutdown`, then whatever is still queued.
pub(crate) async fn run(
    mut sink: Box<dyn Sink>,
    mut queue: mpsc::Receiver<Record>,
    counts: Arc<Counts>,
    shutdown: CancellationToken,
) {
    let patience = async {
        shutdown.cancelled().await;
        tokio::time::sleep(LAST_WORDS).await;
    };
    tokio::select! {
        () = write_all(&mut *sink, &mut queue, &counts, &shutdown) => {} // may be cut short: a torn line is found at the next start
        () = patience => tracing::warn!("the audit log did not take its last lines in time"), // cancel-safe: it only waits
    }
}

async fn write_all(
    sink: &mut dyn Sink,
    queue: &mut mpsc::Receiver<Record>,
    counts: &Counts,
    shutdown: &CancellationToken,
) {
    let mut chain = None;
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let taken = tokio::select! {
            taken = queue.recv_many(&mut batch, BATCH) => taken, // cancel-safe: documented so
            () = shutdown.cancelled(), if !queue.is_closed() => { // cancel-safe: a token stays cancelled
                queue.close();
                continue;
            }
        };
        if taken == 0 {
            return;
        }
        let lost = counts.untold();
        match write(sink, &mut chain, &batch, lost).await {
            Ok(head) => {
                counts.wrote(batch.len() as u64, lost, &head);
                chain = Some(head);
            }
            Err(error) => {
                tracing::warn!(%error, lost = batch.len(), "the audit log cannot be written");
                counts.lose(batch.len() as u64);
                chain = None;
                tokio::time::sleep(PAUSE).await;
            }
        }
        batch.clear();
    }
}

/// Writes one batch behind `chain`, or behind what the sink ends with.
async fn write(sink: &mut dyn Sink, chain: &mut Option<Chain>, batch: &[Record], lost: u64) -> io::Result<Chain> {
    let mut head = match chain.take() {
        Some(chain) => chain,
        None => sink.open().await?,
    };
    let mut lines = Vec::new();
    for (at, record) in batch.iter().enumerate() {
        let lost = if at == 0 { lost } else { 0 };
        lines.extend_from_slice(&head.append(record.event(), lost));
        lines.push(b'\n');
    }
    sink.append(&lines, head.sequence).await?;
    Ok(head)
}
