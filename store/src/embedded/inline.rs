//! The writer without a thread: each call carries its own job out, so nothing happens but in a call.
//!
//! For simulations, which run in one thread: same steps, same bytes, no moment of the operating system's choice.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::shared::Shared;
use super::writer::{Job, Writer, until_it_panics};

/// The writer, for whoever calls.
#[derive(Debug)]
pub(crate) struct Inline {
    shared: Arc<Shared>,
    writer: Mutex<Writer>,
}

impl Inline {
    pub(crate) fn new(writer: Writer) -> Self {
        Self { shared: Arc::clone(&writer.shared), writer: Mutex::new(writer) }
    }

    /// Carries a job out and answers it. The caller has made sure that the store has not ended.
    pub(crate) fn serve(&self, job: Job) {
        // When the store ends by it, the shared state says so.
        let _step: ControlFlow<()> = until_it_panics(&self.shared, || self.writer().commit(vec![job]));
    }

    /// One round of maintenance, then everything that compaction left to remove.
    pub(crate) fn tick(&self) {
        let _step: ControlFlow<()> = until_it_panics(&self.shared, || {
            let mut writer = self.writer();
            writer.maintain()?;
            while writer.purging {
                writer.commit(Vec::new())?;
                if writer.space.is_full() {
                    // Removing may need room that is not there; the next round tries again.
                    break;
                }
            }
            ControlFlow::Continue(())
        });
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
