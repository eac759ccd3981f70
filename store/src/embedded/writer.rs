//! The writer's steps: a batch made durable and answered, compaction in it, and what to do when the disk is full or fails.
//!
//! Knows no thread and does not wait: `thread` and `inline` call the same steps, each at its own moments.

use std::ops::ControlFlow;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

use super::disk::Disk;
use super::shared::{Shared, closed};
use super::space::SpaceState;
use super::write::Tables;
use super::{storage_error, transaction_error};
use crate::retention::{Retention, plan_overdue_compaction};
use crate::{Changes, Error, Operation, Revision, State, Transaction, TransactionResult};

/// So many log entries at least go with each commit while compacted history is being removed; twice as many as the
/// commit adds when it adds more, so that removing gains on writing.
const PURGE_AT_ONCE: usize = 1000;

/// Something for the writer to do, and where the answer goes.
#[derive(Debug)]
pub(crate) enum Job {
    Commit { transaction: Transaction, bytes: usize, reply: Reply<TransactionResult>, permit: OwnedSemaphorePermit },
    Compact { revision: Revision, reply: Reply<()> },
}

impl Job {
    /// About how much it adds to a commit.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Commit { transaction: _, bytes, reply: _, permit: _ } => *bytes,
            Self::Compact { .. } => 0,
        }
    }
}

type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// An answer that waits for the commit.
enum Answer {
    Commit(Reply<TransactionResult>, Result<TransactionResult, Error>, OwnedSemaphorePermit),
    Compact(Reply<()>, Result<(), Error>),
}

impl Answer {
    /// The answer to a job that was not begun, to be overruled by the failure that prevented it.
    fn unserved(job: Job) -> Self {
        match job {
            Job::Commit { transaction: _, bytes: _, reply, permit } => Self::Commit(reply, Err(closed()), permit),
            Job::Compact { revision: _, reply } => Self::Compact(reply, Err(closed())),
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

/// What the steps work on.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) space: Arc<SpaceState>,
    pub(crate) retention: Retention,
    pub(crate) cache_bytes: usize,
    /// Whether compacted history is still to be removed.
    pub(crate) purging: bool,
    /// Whether anything was freed since the data file was last shrunk.
    pub(crate) freed: bool,
    /// Not before this is the data file shrunk again on a full disk.
    pub(crate) shrink_at: Instant,
    /// Not before this is it shrunk again only to keep it small.
    pub(crate) trim_at: Instant,
    /// How long the data file was after it was last shrunk to keep it small; 0 when it was not yet.
    pub(crate) trimmed_bytes: u64,
    /// The newest revision at the last round of maintenance.
    pub(crate) revision_at_round: Revision,
}

impl Writer {
    /// Makes a batch durable, then answers. Breaks when the store cannot go on.
    pub(super) fn commit(&mut self, batch: Vec<Job>) -> ControlFlow<()> {
        let mut answers = Vec::with_capacity(batch.len());
        let mut outcome = Outcome { purging: self.purging, ..Outcome::default() };
        let mut batch = batch.into_iter();
        match self.write(&mut batch, &mut answers, &mut outcome) {
            Ok(()) => {
                self.announce(outcome, answers);
                ControlFlow::Continue(())
            }
            Err(error) => {
                answers.extend(batch.map(Answer::unserved));
                self.fail(&error, outcome, answers)
            }
        }
    }

    /// Makes a durable batch known.
    fn announce(&mut self, outcome: Outcome, answers: Vec<Answer>) {
        self.record(&outcome, answers.len());
        self.shared.publish(outcome.changes);
        answers.into_iter().for_each(|answer| answer.send(None));
    }

    /// Writes a batch, each transaction seeing those before it, and syncs. Takes jobs out of `batch` as it serves them.
    fn write(
        &self,
        batch: &mut impl Iterator<Item = Job>,
        answers: &mut Vec<Answer>,
        outcome: &mut Outcome,
    ) -> Result<(), Error> {
        let database = self.shared.database();
        let database = database.as_ref().ok_or_else(closed)?;
        let write = database.begin_write().map_err(transaction_error)?;
        {
            let mut tables = Tables::open(&write)?;
            for job in batch {
                self.apply(job, &mut tables, outcome, answers)?;
            }
            self.compact_and_purge(&mut tables, outcome)?;
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
        Ok(())
    }

    /// Lets history go with the commit that makes it due, and rows of what was compacted before.
    fn compact_and_purge(&self, tables: &mut Tables<'_>, outcome: &mut Outcome) -> Result<(), Error> {
        let overdue = if self.space.is_full() {
            // A delete is itself history. On a full disk it goes at once, else deletes would fill the reserve.
            Some(tables.revision)
        } else {
            plan_overdue_compaction(&self.retention, tables.revision, tables.compacted)
        };
        if let Some(revision) = overdue.filter(|_| !outcome.changes.is_empty()) {
            tables.compact(revision)?;
            outcome.compacted = Some(revision);
            outcome.purging = true;
        }
        if outcome.purging {
            let added: usize = outcome.changes.iter().map(|changes| changes.events.len()).sum();
            let limit = PURGE_AT_ONCE.max(added * 2);
            outcome.purged = tables.purge(limit)?;
            outcome.purging = outcome.purged == limit;
        }
        Ok(())
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

    /// Goes on only when the reason is that there was no room. Then the disk says whether the batch is durable: redb
    /// cuts the file after the sync, and when that fails the commit fails though it stands.
    fn fail(&mut self, error: &Error, outcome: Outcome, answers: Vec<Answer>) -> ControlFlow<()> {
        let error = match self.space.failure() {
            Some(reason) => Error::Broken(reason.to_owned()),
            None => error.clone(),
        };
        let went_on = if matches!(error, Error::Full(_)) { self.reopen() } else { Err(error.clone()) };
        let went_on = went_on.and_then(|()| self.is_durable(&outcome));
        if went_on == Ok(true) {
            self.announce(outcome, answers);
            return ControlFlow::Continue(());
        }
        let goes_on = went_on.is_ok();
        let told = if goes_on { error.clone() } else { broken(&error) };
        if !goes_on {
            self.shared.end(told.clone());
            self.shared.health().state = State::Broken { reason: told.to_string() };
            tracing::error!(error = %told, "the store has failed and acknowledges nothing any more");
        }
        answers.into_iter().for_each(|answer| answer.send(Some(&told)));
        if goes_on { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }

    /// Whether the database, just reopened, holds the batch. A write of one is there as a whole or not at all.
    fn is_durable(&self, outcome: &Outcome) -> Result<bool, Error> {
        let known = {
            let health = self.shared.health();
            (health.revision, health.compacted)
        };
        let stored = self.shared.read(|snapshot| Ok((snapshot.revision, snapshot.compacted)))?;
        let written = (outcome.revision.max(known.0), outcome.compacted.unwrap_or(known.1));
        Ok(stored == written && stored != known)
    }
}

/// Takes steps. Should one panic, on data that redb does not expect, the store ends instead of hanging.
pub(crate) fn until_it_panics(shared: &Shared, steps: impl FnOnce() -> ControlFlow<()>) -> ControlFlow<()> {
    std::panic::catch_unwind(AssertUnwindSafe(steps)).unwrap_or_else(|_panic| {
        let error = Error::Broken("the writer panicked".to_owned());
        shared.end(error.clone());
        shared.health().state = State::Broken { reason: error.to_string() };
        ControlFlow::Break(())
    })
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
