//! The one thread that writes: group commit, compaction, and what to do when the disk is full or fails.
//!
//! It flushes at once when it is idle; whatever queued up while a commit was syncing shares the next one. Maintenance
//! runs on the same thread between commits, so it cannot stop while writes go on, and is tried again for ever.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::disk::Disk;
use super::shared::{Shared, closed};
use super::space::SpaceState;
use super::write::Tables;
use super::{storage_error, transaction_error};
use crate::retention::Retention;
use crate::{Changes, Error, Operation, Revision, State, Transaction, TransactionResult};

/// Bounds of one commit, so that it fits in the reserve and keeps its first writer waiting for milliseconds only.
const BATCH_MAX_JOBS: usize = 1024;
const BATCH_MAX_BYTES: usize = 4 << 20;
/// So many log entries go with each commit while compacted history is being removed.
const PURGE_AT_ONCE: usize = 1000;
/// While the disk is full the writer looks for space this often.
const FULL_RETRY: Duration = Duration::from_secs(1);

/// A batch smaller than the last one waits for more for this part of what a commit takes, and no longer than this.
const PATIENCE_SHARE: u32 = 8;
const PATIENCE_MAX: Duration = Duration::from_millis(1);
/// Something for the writer to do, and where the answer goes.
#[derive(Debug)]
pub(crate) enum Job {
    Commit { transaction: Transaction, bytes: usize, reply: Reply<TransactionResult>, permit: OwnedSemaphorePermit },
    Compact { revision: Revision, reply: Reply<()> },
    Stop,
}

type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// An answer that waits for the commit.
enum Answer {
    Commit(Reply<TransactionResult>, Result<TransactionResult, Error>, OwnedSemaphorePermit),
    Compact(Reply<()>, Result<(), Error>),
}

impl Answer {
    /// The answer to a job that was not begun, to be overruled by the failure that prevented it.
    fn unserved(job: Job) -> Option<Self> {
        match job {
            Job::Commit { transaction: _, bytes: _, reply, permit } => Some(Self::Commit(reply, Err(closed()), permit)),
            Job::Compact { revision: _, reply } => Some(Self::Compact(reply, Err(closed()))),
            Job::Stop => None,
        }
    }

    /// A caller that went away is told nothing; its write stands.
    fn send(self, failure: Option<&Error>) {
        match self {
            Self::Commit(reply, answer, _permit) => {
                drop(reply.send(failure.cloned().map_or(answer, Err)));
            }
            Self::Compact(reply, answer) => {
                drop(reply.send(failure.cloned().map_or(answer, Err)));
            }
        }
    }
}

/// What a batch did, once it is durable.
#[derive(Default)]
struct Outcome {
    changes: Vec<Changes>,
    revision: Revision,
    compacted: Option<Revision>,
    purged: usize,
    /// Whether there is more to purge.
    purging: bool,
}

pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) space: Arc<SpaceState>,
    pub(crate) jobs: Receiver<Job>,
    pub(crate) retention: Retention,
    pub(crate) cache_bytes: usize,
    /// Whether compacted history is still to be removed.
    pub(crate) purging: bool,
    /// Whether anything was freed since the data file was last shrunk.
    pub(crate) freed: bool,
    /// Not before this is the data file shrunk again.
    pub(crate) shrink_at: Instant,
    /// How many jobs shared the last commit, and how long it took.
    pub(crate) last_batch_len: usize,
    pub(crate) last_commit_took: Duration,
}

impl Writer {
    /// Works until told to stop, or until the disk fails.
    pub(crate) fn run(mut self) {
        let mut maintenance_at = Instant::now() + self.retention.interval;
        loop {
            let wait =
                if self.purging { Duration::ZERO } else { maintenance_at.saturating_duration_since(Instant::now()) };
            let step = match self.jobs.recv_timeout(wait) {
                Ok(first) => self.serve(first),
                Err(RecvTimeoutError::Timeout) if self.purging => self.commit(Vec::new()),
                Err(RecvTimeoutError::Timeout) => ControlFlow::Continue(()),
                Err(RecvTimeoutError::Disconnected) => ControlFlow::Break(()),
            };
            if step.is_break() {
                return;
            }
            if Instant::now() >= maintenance_at {
                if self.maintain().is_break() {
                    return;
                }
                let pause = if self.space.is_full() { FULL_RETRY } else { self.retention.interval };
                maintenance_at = Instant::now() + pause;
            } else if self.space.is_full() {
                maintenance_at = maintenance_at.min(Instant::now() + FULL_RETRY);
            }
        }
    }

    /// Gathers what has queued up behind `first`, and commits it.
    fn serve(&mut self, first: Job) -> ControlFlow<()> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        let mut next = Some(first);
        let patience_ends = Instant::now() + self.last_commit_took.min(PATIENCE_MAX * PATIENCE_SHARE) / PATIENCE_SHARE;
        while let Some(job) = next {
            match &job {
                Job::Commit { bytes: more, .. } => bytes += more,
                Job::Compact { .. } => {}
                Job::Stop => {
                    // Everything queued before it is served; nothing can come after it.
                    let _last: ControlFlow<()> = self.commit(batch);
                    return ControlFlow::Break(());
                }
            }
            batch.push(job);
            let room = batch.len() < BATCH_MAX_JOBS && bytes < BATCH_MAX_BYTES;
            next = if room { self.jobs.try_recv().ok() } else { None };
            if next.is_none() && room && batch.len() < self.last_batch_len {
                // The writers just answered are about to come again: without them every other commit would be a
                // lone one. A lone writer had a batch of one before, and never waits.
                let patience = patience_ends.saturating_duration_since(Instant::now());
                next = self.jobs.recv_timeout(patience).ok();
            }
        }
        let begun = Instant::now();
        self.last_batch_len = batch.len();
        let step = self.commit(batch);
        self.last_commit_took = begun.elapsed();
        step
    }

    /// Makes a batch durable, then answers. Breaks when the store cannot go on.
    pub(super) fn commit(&mut self, batch: Vec<Job>) -> ControlFlow<()> {
        let mut answers = Vec::with_capacity(batch.len());
        let mut batch = batch.into_iter();
        match self.write(&mut batch, &mut answers) {
            Ok(outcome) => {
                self.record(&outcome, answers.len());
                self.shared.publish(outcome.changes);
                answers.into_iter().for_each(|answer| answer.send(None));
                ControlFlow::Continue(())
            }
            Err(error) => {
                answers.extend(batch.filter_map(Answer::unserved));
                self.fail(&error, answers)
            }
        }
    }

    /// Writes a batch, each transaction seeing those before it, and syncs. Takes jobs out of `batch` as it serves them.
    fn write(&self, batch: &mut impl Iterator<Item = Job>, answers: &mut Vec<Answer>) -> Result<Outcome, Error> {
        let database = self.shared.database();
        let database = database.as_ref().ok_or_else(closed)?;
        let write = database.begin_write().map_err(transaction_error)?;
        let mut outcome = Outcome { purging: self.purging, ..Outcome::default() };
        {
            let mut tables = Tables::open(&write)?;
            for job in batch {
                self.apply(job, &mut tables, &mut outcome, answers)?;
            }
            if self.space.is_full() && !outcome.changes.is_empty() {
                // A delete is itself history. On a full disk it goes at once, else deletes would fill the reserve.
                tables.compact(tables.revision)?;
                outcome.compacted = Some(tables.revision);
                outcome.purging = true;
            }
            if outcome.purging {
                outcome.purged = tables.purge(PURGE_AT_ONCE)?;
                outcome.purging = outcome.purged == PURGE_AT_ONCE;
            }
            outcome.revision = tables.revision;
            if !outcome.changes.is_empty() {
                tables.store_revision()?;
            }
        }
        if outcome.changes.is_empty() && outcome.compacted.is_none() && outcome.purged == 0 {
            write.abort().map_err(storage_error)?;
        } else {
            write.commit().map_err(storage_error)?;
        }
        Ok(outcome)
    }

    fn apply(
        &self,
        job: Job,
        tables: &mut Tables<'_>,
        outcome: &mut Outcome,
        answers: &mut Vec<Answer>,
    ) -> Result<(), Error> {
        match job {
            Job::Commit { transaction, bytes: _, reply, permit } => {
                let refused = self.space.is_full() && grows(&transaction);
                let applied = if refused { Ok(Err(full())) } else { tables.apply(transaction).map(Ok) };
                let (answer, failure) = match applied {
                    Ok(Ok((result, changes))) => {
                        outcome.changes.extend(changes);
                        (Ok(result), Ok(()))
                    }
                    Ok(Err(refusal)) => (Err(refusal), Ok(())),
                    Err(failure) => (Err(failure.clone()), Err(failure)),
                };
                answers.push(Answer::Commit(reply, answer, permit));
                failure
            }
            Job::Compact { revision, reply } => {
                let future = Error::Future { asked: revision, newest: tables.revision };
                let answer = if revision > tables.revision { Err(future) } else { Ok(()) };
                let due = answer.is_ok() && revision > tables.compacted;
                answers.push(Answer::Compact(reply, answer));
                if due {
                    tables.compact(revision)?;
                    outcome.compacted = Some(revision);
                    outcome.purging = true;
                }
                Ok(())
            }
            Job::Stop => Ok(()),
        }
    }

    fn record(&mut self, outcome: &Outcome, batch_len: usize) {
        self.freed |= outcome.purged > 0;
        self.purging = outcome.purging;
        let mut health = self.shared.health();
        health.revision = outcome.revision;
        health.transactions += outcome.changes.len() as u64;
        if !outcome.changes.is_empty() {
            health.commits += 1;
            health.largest_batch = health.largest_batch.max(batch_len);
        }
        if let Some(compacted) = outcome.compacted {
            health.compacted = compacted;
            health.compactions += 1;
        }
        health.purging = self.purging;
        if self.space.is_full() && health.state == State::Serving {
            health.state = State::Full;
        }
    }

    /// Nothing of the batch is durable. Goes on only when the reason is that it did not fit.
    fn fail(&mut self, error: &Error, answers: Vec<Answer>) -> ControlFlow<()> {
        let error = match self.space.failure() {
            Some(reason) => Error::Broken(reason.to_owned()),
            None => error.clone(),
        };
        let goes_on = matches!(error, Error::Full(_)) && self.reopen().is_ok();
        let told = if goes_on { error.clone() } else { broken(&error) };
        if !goes_on {
            self.shared.end(told.clone());
            self.shared.health().state = State::Broken { reason: told.to_string() };
            tracing::error!(error = %told, "the store has failed and acknowledges nothing any more");
        }
        answers.into_iter().for_each(|answer| answer.send(Some(&told)));
        if goes_on { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }
}

fn full() -> Error {
    Error::Full("the store's disk is full, only deletes are accepted until there is space".to_owned())
}

fn broken(error: &Error) -> Error {
    match error {
        Error::Broken(_) => error.clone(),
        Error::Compacted { .. } | Error::Future { .. } | Error::Full(_) | Error::Unavailable(_) | Error::Locked(_) => {
            Error::Broken(error.to_string())
        }
    }
}

fn grows(transaction: &Transaction) -> bool {
    transaction.operations.iter().any(|operation| match operation {
        Operation::Put { .. } => true,
        Operation::Delete { .. } => false,
    })
}
