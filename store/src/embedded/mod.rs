//! The embedded backend: a redb file in a directory of its own, one writer thread, history with compaction.
//!
//! Owns durability on one machine: a write is acknowledged after the sync that covers it, never before, and after a
//! failed sync nothing is acknowledged any more. May not be opened twice on one directory.

mod disk;
mod maintenance;
mod read;
mod schema;
mod shared;
mod space;
mod tail;
mod watch;
mod write;
mod writer;

use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use redb::{Database, ReadableDatabase, ReadableTable};
use tokio::sync::{Semaphore, oneshot};

pub use self::disk::{Directory, Disk};
use self::schema::{FORMAT, LOG, META, META_FORMAT, VERSIONS};
use self::shared::{Shared, closed};
use self::space::{Guarded, SpaceState};
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
    jobs: mpsc::Sender<Job>,
    queue: Arc<Semaphore>,
    writer: Mutex<Option<JoinHandle<()>>>,
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
        let space = Arc::new(SpaceState::default());
        let database = open_database(&disk, &space, options.cache_bytes)?;
        let (health, purging) = inspect(&database)?;
        if let Err(err) = disk.reserve() {
            tracing::warn!(error = %err, "no space can be set aside; the store accepts only deletes for now");
            space.enter_full();
        }
        let shared = Arc::new(Shared::new(database, health));
        let (jobs, inbox) = mpsc::channel();
        let writer = Writer {
            shared: Arc::clone(&shared),
            disk,
            space: Arc::clone(&space),
            jobs: inbox,
            retention: options.retention,
            cache_bytes: options.cache_bytes,
            purging,
            freed: true,
            shrink_at: Instant::now(),
            last_batch_len: 0,
            last_commit_took: Duration::ZERO,
        };
        let writer =
            spawn(writer, Arc::clone(&shared)).map_err(|err| Error::Broken(format!("writer thread: {err}")))?;
        let queue = Arc::new(Semaphore::new(QUEUE_KIB as usize));
        Ok(Arc::new(Self { shared, space, jobs, queue, writer: Mutex::new(Some(writer)) }))
    }

    /// Ends the store: waits for the writes handed in before, then gives files and lock up. Later calls fail.
    pub fn close(&self) {
        // The writer may have ended already, by a failure.
        drop(self.jobs.send(Job::Stop));
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            // It cannot panic: its loop catches panics.
            drop(writer.join());
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
        self.jobs.send(job).map_err(|_| self.ended())?;
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
        let shared = Arc::clone(&self.shared);
        blocking(move || shared.read(|snapshot| snapshot.range(&range))).await
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
            (oldest, _) if after < oldest => Err(Error::Compacted { oldest }),
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

/// Opens the data file on `disk`, making it when there is none.
fn open_database(disk: &Arc<dyn Disk>, space: &Arc<SpaceState>, cache_bytes: usize) -> Result<Database, Error> {
    let io_error = |err| disk::io_error("data file", &err);
    let file = match disk.open().map_err(io_error)? {
        Some(file) => file,
        None => {
            let file = Guarded::new(disk.create().map_err(io_error)?, Arc::clone(disk), Arc::clone(space));
            create_database(file)?;
            disk.publish().map_err(io_error)?;
            disk.open().map_err(io_error)?.ok_or_else(|| Error::Broken("the data file vanished".to_owned()))?
        }
    };
    let guarded = Guarded::new(file, Arc::clone(disk), Arc::clone(space));
    let database =
        Database::builder().set_cache_size(cache_bytes).create_with_backend(guarded).map_err(storage_error)?;
    match stored_format(&database)? {
        Some(FORMAT) => Ok(database),
        Some(other) => Err(Error::Broken(format!("data has format {other}, this version knows {FORMAT}"))),
        None => Err(Error::Broken("the data file is of something else".to_owned())),
    }
}

/// Fills a new file with empty tables.
fn create_database(file: Guarded) -> Result<(), Error> {
    let database = Database::builder().create_with_backend(file).map_err(storage_error)?;
    let write = database.begin_write().map_err(transaction_error)?;
    write.open_table(VERSIONS).map_err(storage_error)?;
    write.open_table(LOG).map_err(storage_error)?;
    write.open_table(META).map_err(storage_error)?.insert(META_FORMAT, FORMAT).map_err(storage_error)?;
    write.commit().map_err(storage_error)
}

fn stored_format(database: &Database) -> Result<Option<u64>, Error> {
    let read = database.begin_read().map_err(transaction_error)?;
    let meta = match read.open_table(META) {
        Ok(meta) => meta,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(err) => return Err(storage_error(err)),
    };
    Ok(meta.get(META_FORMAT).map_err(storage_error)?.map(|format| format.value()))
}

/// Reads where the store stands, and whether compacted history was left behind by a crash.
fn inspect(database: &Database) -> Result<(Health, bool), Error> {
    let read = database.begin_read().map_err(transaction_error)?;
    let oldest =
        read.open_table(LOG).map_err(storage_error)?.first().map_err(storage_error)?.map(|(at, _)| at.value().0);
    let snapshot = read::Snapshot::new(read)?;
    let health = Health { revision: snapshot.revision, compacted: snapshot.compacted, ..Health::default() };
    Ok((health, oldest.is_some_and(|oldest| oldest <= snapshot.compacted)))
}

/// Starts the writer. Should it panic, on data that redb does not expect, the store ends instead of hanging.
fn spawn(writer: Writer, shared: Arc<Shared>) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("store-writer".to_owned()).spawn(move || {
        if std::panic::catch_unwind(AssertUnwindSafe(|| writer.run())).is_err() {
            let error = Error::Broken("the writer panicked".to_owned());
            shared.end(error.clone());
            shared.health().state = State::Broken { reason: error.to_string() };
        }
    })
}

/// Runs a read that may touch the disk at length away from the async threads.
async fn blocking<T: Send + 'static>(read: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(read).await.map_err(|err| Error::Broken(format!("read: {err}")))?
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
