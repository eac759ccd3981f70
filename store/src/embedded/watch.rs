//! The stream of changes: each watcher pulls at its own pace, from memory while it keeps up and from disk when it does not.
//!
//! There is no queue per watcher, so a slow one costs nothing to the writer or to the others, and cannot lose anything:
//! it either reads the log on from where it was, or learns that it was compacted.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::stream::{self, StreamExt};
use tokio::sync::watch;

use super::shared::{Progress, Shared, closed};
use crate::{ChangeStream, Changes, Error, Revision};

/// So many revisions are taken from memory at once: enough to amortise the lock, few enough to hold it shortly.
const REVISIONS_AT_ONCE: usize = 256;
/// So many bytes are read from disk at once.
const BYTES_AT_ONCE: usize = 1 << 20;

pub(crate) fn stream(shared: Arc<Shared>, prefix: &[u8], after: Revision) -> ChangeStream {
    let watcher = Watcher {
        progress: shared.progress(),
        shared,
        prefix: prefix.to_vec(),
        delivered: after,
        fetched: VecDeque::new(),
    };
    stream::try_unfold(watcher, |mut watcher| async move {
        let changes = watcher.next().await?;
        Ok(Some((changes, watcher)))
    })
    .boxed()
}

struct Watcher {
    shared: Arc<Shared>,
    progress: watch::Receiver<Progress>,
    prefix: Vec<u8>,
    delivered: Revision,
    fetched: VecDeque<Changes>,
}

impl Watcher {
    async fn next(&mut self) -> Result<Changes, Error> {
        loop {
            if let Some(mut changes) = self.fetched.pop_front() {
                changes.events.retain(|event| event.current.key.starts_with(&self.prefix));
                self.delivered = changes.revision;
                return Ok(changes);
            }
            let progress = self.progress.borrow_and_update().clone();
            if progress.revision > self.delivered {
                self.fetched = self.fetch().await?.into();
            }
            if self.fetched.is_empty() {
                if let Some(error) = progress.ended {
                    return Err(error);
                }
                // Cancel-safe: nothing is taken out of the channel by waiting.
                self.progress.changed().await.map_err(|_| closed())?;
            }
        }
    }

    /// Reads on from where the watcher is. May find nothing in the instant before the writer has filled the tail.
    async fn fetch(&self) -> Result<Vec<Changes>, Error> {
        let again = Revision::from(drover_api::mutants::active("W02-store-delivers-twice"));
        let in_memory = self.shared.tail().after(self.delivered.saturating_sub(again), REVISIONS_AT_ONCE);
        if let Some(changes) = in_memory {
            return Ok(changes);
        }
        let after = self.delivered;
        self.shared.read_at_length(move |snapshot| snapshot.changes(after, BYTES_AT_ONCE)).await
    }
}
