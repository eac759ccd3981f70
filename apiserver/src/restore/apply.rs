//! Makes the store hold what is staged. Safe to repeat, to be cut short anywhere, and to run on several servers at once.

use drover_store::{Operation, Transaction, TransactionResult};

use super::{
    Error,
    gate::{Gate, bound_to},
    marker::{Applying, Cause, Known, Marker, Restored},
    merge::Merge,
    plan::Counts,
    staging::{self, Reader},
};
use crate::{
    fence,
    registry::{Environment, format_time},
};

/// Writes to a transaction: half of what etcd takes by default.
const BATCH_WRITES: usize = 64;
/// Bytes to a transaction: as much as a piece of the upload.
const BATCH_BYTES: usize = 512 << 10;

/// Applies the restore that the marker names; `false` when another server has finished it meanwhile.
pub(super) async fn apply(gate: &Gate, known: &Known, environment: &dyn Environment) -> Result<bool, Error> {
    let Some(applying) = &known.marker.applying else { return Ok(false) };
    let Some(counts) = write_all(gate, known, applying).await? else { return Ok(false) };
    // Whatever is read from here on shows nothing but the restored state.
    let floor = gate.inner.revision().await?;
    let restored = Restored {
        cause: Cause::Backup,
        file: applying.file.clone(),
        by: applying.by.clone(),
        at: format_time(environment.now()),
        counts,
        confirmed: None,
    };
    let marker = Marker { offset: applying.offset, floor, staging: None, applying: None, restored: Some(restored) };
    if !gate.mark(known, marker).await? {
        return Ok(false);
    }
    tracing::warn!(
        backup.taken_at = %applying.file.taken_at, backup.revision = applying.file.revision, user = %applying.by,
        "the cluster was restored from a backup; nothing newer is deleted until it is confirmed"
    );
    tidy(gate, floor).await;
    Ok(true)
}

/// Writes what differs; `None` when the marker has changed under it.
async fn write_all(gate: &Gate, known: &Known, applying: &Applying) -> Result<Option<Counts>, Error> {
    let mut staged = Reader::new(gate.inner.clone(), applying.staged.clone(), applying.chunks);
    let mut merge = Merge::new(gate.inner.clone(), None);
    let mut batch = Batch::default();
    // A leader's next write would be of the state before: it must lead anew, and look anew.
    fence::raise_all(gate.inner.as_ref()).await?.into_iter().for_each(|operation| batch.push(operation));
    let mut wanted = None;
    loop {
        if wanted.is_none() {
            wanted = staged.next().await?;
        }
        let Some(operation) = merge.next(&mut wanted).await? else { break };
        let Some(operation) = operation else { continue };
        batch.push(operation);
        if batch.is_full() && !batch.write(gate, known).await? {
            return Ok(None);
        }
    }
    Ok(batch.write(gate, known).await?.then_some(merge.counts))
}

#[derive(Default)]
struct Batch {
    operations: Vec<Operation>,
    bytes: usize,
}

impl Batch {
    fn push(&mut self, operation: Operation) {
        self.bytes += match &operation {
            Operation::Put { key, value } => key.len() + value.len(),
            Operation::Delete { key } => key.len(),
        };
        self.operations.push(operation);
    }

    fn is_full(&self) -> bool {
        self.operations.len() >= BATCH_WRITES || self.bytes >= BATCH_BYTES
    }

    /// Writes what has gathered; `false` when the marker has changed.
    async fn write(&mut self, gate: &Gate, known: &Known) -> Result<bool, Error> {
        let Self { operations, .. } = std::mem::take(self);
        if operations.is_empty() {
            return Ok(true);
        }
        let transaction = Transaction { compares: vec![bound_to(known)], operations };
        Ok(matches!(gate.inner.commit(transaction).await?, TransactionResult::Committed { .. }))
    }
}

/// Gives back the space of the upload and of the history that nobody may read any more.
async fn tidy(gate: &Gate, floor: drover_store::Revision) {
    if let Err(error) = staging::clean(gate).await {
        tracing::warn!(%error, "what was staged for the restore is left for the next one to remove");
    }
    if let Err(error) = gate.inner.compact(floor).await {
        tracing::warn!(%error, "history of before the restore is left to the store's own compaction");
    }
}
