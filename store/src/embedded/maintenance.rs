//! What the writer does between commits: compact when it is due, keep the data file in proportion to what is in it, and
//! get space back when the disk is full.

use std::ops::{ControlFlow, RangeInclusive};

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::disk::io_error;
use super::shared::closed;
use super::writer::{Job, Writer};
use super::{open_database, storage_error};
use crate::retention::{Retention, plan_compaction};
use crate::{Error, State};

/// Shrinking keeps readers waiting, so it rests this many times as long as it took.
const SHRINK_REST: u32 = 10;
/// A file that is only too large can wait longer than a full disk.
const TRIM_REST: u32 = 1000;
/// A smaller file is left as it is, and a larger one would keep its readers waiting for seconds.
const TRIM_BYTES: RangeInclusive<u64> = 8 << 20..=256 << 20;

impl Writer {
    /// One round: look for space when the disk is full, then compact when it is due. Failures count, and are tried again.
    pub(super) fn maintain(&mut self) -> ControlFlow<()> {
        if drover_api::mutants::active("D04-gives-up-after-an-error") && self.shared.health().maintenance_failures > 0 {
            return ControlFlow::Continue(());
        }
        let space =
            if self.space.is_full() { self.regain_space() } else { self.disk_reserve().and_then(|()| self.trim()) };
        let (newest, compacted) = {
            let health = self.shared.health();
            (health.revision, health.compacted)
        };
        // While the disk is full, history is worth less than room for writes.
        let keep_revisions = if self.space.is_full() { 0 } else { self.retention.keep_revisions };
        let retention = Retention { keep_revisions, ..self.retention };
        let mut step = ControlFlow::Continue(());
        let mut compaction = Ok(());
        if let Some(revision) = plan_compaction(&retention, newest, compacted) {
            let (reply, mut answer) = oneshot::channel();
            step = self.commit(vec![Job::Compact { revision, reply }]);
            compaction = answer.try_recv().unwrap_or_else(|_| Err(closed()));
        }
        let failure = compaction.and(space).err();
        let mut health = self.shared.health();
        match failure {
            None => {
                health.maintenance_failures = 0;
                health.maintenance_error = None;
            }
            Some(error) => {
                health.maintenance_failures += 1;
                tracing::warn!(error = %error, failures = health.maintenance_failures, "maintenance of the store failed");
                health.maintenance_error = Some(error.to_string());
            }
        }
        step
    }

    fn disk_reserve(&self) -> Result<(), Error> {
        self.disk.reserve().map_err(|err| io_error("reserve", &err))
    }

    /// Sets the reserve aside again, shrinking the data file for it when something in it was freed.
    fn regain_space(&mut self) -> Result<(), Error> {
        if self.disk_reserve().is_err() && self.freed && Instant::now() >= self.shrink_at {
            self.freed = false;
            let shrunk;
            (shrunk, self.shrink_at) = self.shrink(SHRINK_REST);
            shrunk?;
        }
        self.disk_reserve()?;
        self.space.leave_full();
        self.shared.health().state = State::Serving;
        tracing::info!("the store's disk has space again; all writes are accepted");
        Ok(())
    }

    /// Shrinks a data file that is half as large again as the last shrinking left it, when nothing was written since the
    /// last round. redb doubles a file of less than 4 GiB when it must grow, with the next write again, and gives nothing
    /// back by itself.
    fn trim(&mut self) -> Result<(), Error> {
        let bytes = self.space.file_bytes();
        let revision = self.shared.health().revision;
        let is_at_rest = std::mem::replace(&mut self.revision_at_round, revision) == revision && !self.purging;
        let is_due = TRIM_BYTES.contains(&bytes) && bytes >= self.trimmed_bytes.saturating_mul(3) / 2;
        if !is_at_rest || !is_due || Instant::now() < self.trim_at {
            return Ok(());
        }
        let shrunk;
        (shrunk, self.trim_at) = self.shrink(TRIM_REST);
        self.trimmed_bytes = self.space.file_bytes();
        tracing::debug!(bytes, trimmed = self.trimmed_bytes, "the data file was shrunk");
        shrunk
    }

    /// Shrinks, and says when to do so again at the earliest: after `rest` times as long as it took.
    fn shrink(&mut self, rest: u32) -> (Result<(), Error>, Instant) {
        let begun = Instant::now();
        let shrunk = self.cut();
        (shrunk, Instant::now() + begun.elapsed() * rest)
    }

    /// Moves the pages in use to the front of the file and cuts it. Reads wait meanwhile.
    fn cut(&mut self) -> Result<(), Error> {
        let shrunk = match self.shared.database_mut().as_mut() {
            Some(database) => database.compact().map_err(storage_error),
            None => return Err(closed()),
        };
        match shrunk {
            Ok(_shrunk) => Ok(()),
            Err(error) if self.space.failure().is_none() => {
                self.reopen()?;
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    /// Opens the database anew: after an error redb refuses to go on. Nothing acknowledged is lost by it.
    pub(super) fn reopen(&mut self) -> Result<(), Error> {
        let mut database = self.shared.database_mut();
        drop(database.take());
        *database = Some(open_database(&self.disk, &self.space, self.cache_bytes)?);
        drop(database);
        self.purging = true;
        self.space.enter_full();
        self.shared.health().state = State::Full;
        Ok(())
    }
}
