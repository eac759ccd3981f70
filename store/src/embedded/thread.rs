//! The thread that writes: group commit, and maintenance between commits.
//!
//! It flushes at once when it is idle; whatever queued up while a commit was syncing shares the next one. Maintenance
//! runs on the same thread between commits, so it cannot stop while writes go on, and is tried again for ever.

use std::io;
use std::ops::ControlFlow;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::writer::{Job, Writer, until_it_panics};
use crate::Retention;

/// Bounds of one commit, so that it fits in the reserve and keeps its first writer waiting for milliseconds only.
const BATCH_MAX_JOBS: usize = 1024;
const BATCH_MAX_BYTES: usize = 4 << 20;
/// While the disk is full the writer looks for space this often.
const FULL_RETRY: Duration = Duration::from_secs(1);

/// A batch smaller than the last one waits for more for this part of what a commit takes, and no longer than this.
const PATIENCE_SHARE: u32 = 8;
const PATIENCE_MAX: Duration = Duration::from_millis(1);

/// What the thread is sent.
#[derive(Debug)]
enum Message {
    Job(Job),
    Stop,
}

/// The running thread.
#[derive(Debug)]
pub(crate) struct Handle {
    inbox: Sender<Message>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Handle {
    /// Starts the thread. Should it panic, on data that redb does not expect, the store ends instead of hanging.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn spawn(writer: Writer, retention: Retention) -> io::Result<Self> {
        let (inbox, messages) = mpsc::channel();
        let shared = Arc::clone(&writer.shared);
        let mut running = Running { writer, messages, retention, last_batch_len: 0, last_commit_took: Duration::ZERO };
        let thread = std::thread::Builder::new().name("store-writer".to_owned()).spawn(move || {
            // Nothing is left to do with the last step: after it the thread ends.
            let _last: ControlFlow<()> = until_it_panics(&shared, || running.run());
        })?;
        Ok(Self { inbox, thread: Mutex::new(Some(thread)) })
    }

    /// Hands a job over. When the thread has ended, the job's answer is that its channel closes.
    pub(crate) fn send(&self, job: Job) {
        drop(self.inbox.send(Message::Job(job)));
    }

    /// Waits for the jobs handed over before, and ends the thread.
    pub(crate) fn stop(&self) {
        // The thread may have ended already, by a failure.
        drop(self.inbox.send(Message::Stop));
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // It cannot panic: its panics are caught.
            drop(thread.join());
        }
    }
}

struct Running {
    writer: Writer,
    messages: Receiver<Message>,
    retention: Retention,
    /// How many jobs shared the last commit, and how long it took.
    last_batch_len: usize,
    last_commit_took: Duration,
}

impl Running {
    /// Works until told to stop, or until the disk fails.
    fn run(&mut self) -> ControlFlow<()> {
        let mut maintenance_at = Instant::now() + self.retention.interval;
        loop {
            let purging = self.writer.purging;
            let wait = if purging { Duration::ZERO } else { maintenance_at.saturating_duration_since(Instant::now()) };
            match self.messages.recv_timeout(wait) {
                Ok(first) => self.serve(first)?,
                Err(RecvTimeoutError::Timeout) if purging => self.writer.commit(Vec::new())?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return ControlFlow::Break(()),
            }
            let is_full = self.writer.space.is_full();
            if Instant::now() >= maintenance_at {
                self.writer.maintain()?;
                let pause = if self.writer.space.is_full() { FULL_RETRY } else { self.retention.interval };
                maintenance_at = Instant::now() + pause;
            } else if is_full {
                maintenance_at = maintenance_at.min(Instant::now() + FULL_RETRY);
            }
        }
    }

    /// Gathers what has queued up behind `first`, and commits it.
    fn serve(&mut self, first: Message) -> ControlFlow<()> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        let mut next = Some(first);
        let patience_ends = Instant::now() + self.last_commit_took.min(PATIENCE_MAX * PATIENCE_SHARE) / PATIENCE_SHARE;
        while let Some(message) = next {
            let Message::Job(job) = message else {
                // Everything queued before it is served; nothing can come after it.
                self.writer.commit(batch)?;
                return ControlFlow::Break(());
            };
            bytes += job.bytes();
            batch.push(job);
            let room = batch.len() < BATCH_MAX_JOBS && bytes < BATCH_MAX_BYTES;
            next = if room { self.messages.try_recv().ok() } else { None };
            if next.is_none() && room && batch.len() < self.last_batch_len {
                // The writers just answered are about to come again: without them every other commit would be a
                // lone one. A lone writer had a batch of one before, and never waits.
                let patience = patience_ends.saturating_duration_since(Instant::now());
                next = self.messages.recv_timeout(patience).ok();
            }
        }
        let begun = Instant::now();
        self.last_batch_len = batch.len();
        let step = self.writer.commit(batch);
        self.last_commit_took = begun.elapsed();
        step
    }
}
