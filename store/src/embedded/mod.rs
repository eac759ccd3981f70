//! The embedded backend: a redb file in a directory of its own, one writer, history with compaction.
//!
//! Owns durability on one machine: a write is acknowledged after the sync that covers it, never before, and after a
//! failed sync nothing is acknowledged any more. May not be opened twice on one directory.

mod disk;
mod inline;
mod maintenance;
mod open;
mod read;
mod schema;
mod shared;
mod simulated;
mod space;
mod tail;
mod thread;
mod watch;
mod write;
mod writer;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::{Semaphore, oneshot};

pub use self::disk::{Directory, Disk};
use self::inline::Inline;
use self::open::{open_database, open_writer};
use self::shared::{Shared, closed};
pub use self::simulated::{Failure, SimulatedDisk, Unsynced};
use self::space::SpaceState;
use self::writer::{Job, Writer};
use crate::{
    Backend, ChangeStream, Error, Health, KeyValue, Operation, Range, RangeResult, Retention, Revision, State,
    Transaction, TransactionResult,
};

/// Writers wait beyond so many KiB of queued writes.
const QUEUE_KIB: u32 = 64 * 1024;

/// How an embedded store behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// How much history is kept.
    pub retention: Retention,
    /// Space set aside so that deletes and compaction still work on a full disk; 0 sets none aside.
    pub reserve_bytes: u64,
    /// Memory for pages of the data file.
    pub cache_bytes: usize,
}

impl Default for Options {
    /// A reserve of several times the largest commit, and a page cache that holds the tables of some 10,000 objects:
    /// the API server keeps the objects themselves in memory, so the store is read mostly at its start.
    fn default() -> Self {
        Self { retention: Retention::default(), reserve_bytes: 32 << 20, cache_bytes: 32 << 20 }
    }
}

/// A store in a local directory. Dropping it waits for the writes that were handed in before.
#[derive(Debug)]
pub struct Embedded {
    shared: Arc<Shared>,
    space: Arc<SpaceState>,
    driver: Driver,
    queue: Arc<Semaphore>,
}

/// Who takes the writer's steps.
#[derive(Debug)]
enum Driver {
    /// A thread of its own, so that many writers share a sync.
    Thread(thread::Handle),
    /// Whoever calls.
    Inline(Inline),
}

impl Embedded {
    /// Opens the store in `dir`, making it when there is none.
    ///
    /// # Errors
    /// [`Error::Locked`] naming the process that has it open, [`Error::Full`], or [`Error::Broken`] when the directory
    /// or the data in it cannot be used.
    pub fn open(dir: &Path, options: Options) -> Result<Arc<Self>, Error> {
        let directory = Directory::lock(dir, options.reserve_bytes)?;
        Self::open_on(Arc::new(directory), options)
    }

    /// Opens the store on a given disk.
    ///
    /// # Errors
    /// As [`Embedded::open`], but for the lock, which is the disk's.
    pub fn open_on(disk: Arc<dyn Disk>, options: Options) -> Result<Arc<Self>, Error> {
        let writer = open_writer(disk, options, false)?;
        Self::start(writer, |writer| {
            let thread = thread::Handle::spawn(writer, options.retention);
            Ok(Driver::Thread(thread.map_err(|err| Error::Broken(format!("writer thread: {err}")))?))
        })
    }

    /// Opens the store on a given disk without a thread: every call does its work before it returns, and maintenance
    /// runs when [`Embedded::tick`] is called. For simulations; the steps are those that the thread takes.
    ///
    /// # Errors
    /// As [`Embedded::open_on`].
    pub fn open_inline(disk: Arc<dyn Disk>, options: Options) -> Result<Arc<Self>, Error> {
        let writer = open_writer(disk, options, true)?;
        Self::start(writer, |writer| Ok(Driver::Inline(Inline::new(writer))))
    }

    fn start(writer: Writer, drive: impl FnOnce(Writer) -> Result<Driver, Error>) -> Result<Arc<Self>, Error> {
        let (shared, space) = (Arc::clone(&writer.shared), Arc::clone(&writer.space));
        let queue = Arc::new(Semaphore::new(QUEUE_KIB as usize));
        Ok(Arc::new(Self { shared, space, driver: drive(writer)?, queue }))
    }

    /// One round of maintenance of a store opened by [`Embedded::open_inline`]: looks for space when the disk is full,
    /// compacts when it is due, removes what was compacted. The owner calls it every [`Retention::interval`], and every
    /// second while [`State::Full`]. Does nothing for a store with a thread, which does it by itself.
    pub fn tick(&self) {
        match &self.driver {
            Driver::Inline(inline) if self.shared.check().is_ok() => inline.tick(),
            Driver::Inline(_) | Driver::Thread(_) => {}
        }
    }

    /// Ends the store: waits for the writes handed in before, then gives files and lock up. Later calls fail.
    pub fn close(&self) {
        match &self.driver {
            Driver::Thread(thread) => thread.stop(),
            Driver::Inline(_) => {}
        }
        self.shared.end(closed());
        drop(self.shared.database_mut().take());
    }

    /// The store's state and counters.
    pub fn health(&self) -> Health {
        let mut health = self.shared.health().clone();
        health.syncs = self.space.syncs();
        health.file_bytes = self.space.file_bytes();
        if self.space.is_full() && health.state == State::Serving {
            health.state = State::Full;
        }
        health
    }

    async fn submit<T>(&self, job: Job, answer: oneshot::Receiver<Result<T, Error>>) -> Result<T, Error> {
        self.shared.check()?;
        match &self.driver {
            Driver::Thread(thread) => thread.send(job),
            Driver::Inline(inline) => inline.serve(job),
        }
        answer.await.map_err(|_| self.ended())?
    }

    fn ended(&self) -> Error {
        self.shared.check().err().unwrap_or_else(closed)
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.close();
    }
}

#[async_trait]
impl Backend for Embedded {
    async fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, Error> {
        // A few pages, nearly always in memory: cheaper here than on another thread.
        self.shared.read(|snapshot| snapshot.get(key))
    }

    async fn range(&self, range: Range) -> Result<RangeResult, Error> {
        self.shared.read_at_length(move |snapshot| snapshot.range(&range)).await
    }

    async fn commit(&self, transaction: Transaction) -> Result<TransactionResult, Error> {
        let bytes = transaction_bytes(&transaction);
        let kib = u32::try_from(bytes / 1024 + 1).unwrap_or(QUEUE_KIB).min(QUEUE_KIB);
        let permit = Arc::clone(&self.queue).acquire_many_owned(kib).await.map_err(|_| closed())?;
        let (reply, answer) = oneshot::channel();
        self.submit(Job::Commit { transaction, bytes, reply, permit }, answer).await
    }

    async fn changes(&self, prefix: &[u8], after: Revision) -> Result<ChangeStream, Error> {
        self.shared.read(|snapshot| match (snapshot.compacted, snapshot.revision) {
            (oldest, _) if after < oldest && !drover_api::mutants::active("W03-watch-from-the-compacted") => {
                Err(Error::Compacted { oldest })
            }
            (_, newest) if after > newest => Err(Error::Future { asked: after, newest }),
            (_, _) => Ok(()),
        })?;
        Ok(watch::stream(Arc::clone(&self.shared), prefix, after))
    }

    async fn revision(&self) -> Result<Revision, Error> {
        self.shared.check()?;
        Ok(self.shared.progress().borrow().revision)
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        self.submit(Job::Compact { revision, reply }, answer).await
    }
}

fn transaction_bytes(transaction: &Transaction) -> usize {
    transaction
        .operations
        .iter()
        .map(|operation| match operation {
            Operation::Put { key, value } => key.len() + value.len(),
            Operation::Delete { key } => key.len(),
        })
        .sum()
}

fn storage_error(err: impl Into<redb::Error>) -> Error {
    match err.into() {
        redb::Error::Io(err) => disk::io_error("data file", &err),
        other => Error::Broken(other.to_string()),
    }
}

fn transaction_error(err: redb::TransactionError) -> Error {
    storage_error(err)
}

/// Reads a version record; whether it is one does not matter here.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn decode_record(key: &[u8], revision: Revision, record: &[u8]) {
    if let Ok(version) = schema::decode(key, revision, record) {
        assert_eq!(schema::encode(key, revision, &version), record, "another record reads the same");
    }
}
