//! What readers, watchers and the writer share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use redb::{Database, ReadableDatabase};
use tokio::sync::watch;

use super::read::Snapshot;
use super::tail::Tail;
use super::transaction_error;
use crate::{Changes, Error, Health, Revision};

/// How far the store has got, and whether it has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Newest committed revision.
    pub(crate) revision: Revision,
    /// Why there will be no more.
    pub(crate) ended: Option<Error>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    /// Whether reads stay on the thread that asks, even long ones.
    inline: bool,
    /// Empty once the store is closed. Written to only to close or reopen it.
    database: RwLock<Option<Database>>,
    tail: Mutex<Tail>,
    progress: watch::Sender<Progress>,
    health: Mutex<Health>,
}

impl Shared {
    pub(crate) fn new(database: Database, health: Health, inline: bool) -> Self {
        let revision = health.revision;
        Self {
            inline,
            database: RwLock::new(Some(database)),
            tail: Mutex::new(Tail::starting_at(revision)),
            progress: watch::Sender::new(Progress { revision, ended: None }),
            health: Mutex::new(health),
        }
    }

    /// Runs `read` on a snapshot of the newest committed state.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&Snapshot) -> Result<T, Error>) -> Result<T, Error> {
        self.check()?;
        let database = self.database();
        let database = database.as_ref().ok_or_else(closed)?;
        let snapshot = Snapshot::new(database.begin_read().map_err(transaction_error)?)?;
        // redb shows a commit a moment before the writer announces it. Whoever asks for the newest revision after
        // this read must not be told an older one.
        self.announce(snapshot.revision);
        read(&snapshot)
    }

    /// [`Shared::read`] for a read that may touch the disk at length: away from the async threads.
    pub(crate) async fn read_at_length<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Snapshot) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        if self.inline {
            return self.read(read);
        }
        let shared = Arc::clone(self);
        let reading = tokio::task::spawn_blocking(move || shared.read(read));
        reading.await.map_err(|err| Error::Broken(format!("read: {err}")))?
    }

    /// Fails when the store has ended.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.progress.borrow().ended.clone().map_or(Ok(()), Err)
    }

    pub(crate) fn database(&self) -> RwLockReadGuard<'_, Option<Database>> {
        self.database.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn database_mut(&self) -> RwLockWriteGuard<'_, Option<Database>> {
        self.database.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Makes durable changes visible to watchers.
    pub(crate) fn publish(&self, changes: Vec<Changes>) {
        let Some(newest) = changes.last().map(|changes| changes.revision) else { return };
        {
            let mut tail = self.tail();
            changes.into_iter().for_each(|changes| tail.push(changes));
        }
        // Always wakes the watchers: a reader may have announced this revision before the tail had it.
        self.progress.send_modify(|progress| progress.revision = progress.revision.max(newest));
    }

    /// Ends the store: every call and every watch fails with `error` from now on.
    pub(crate) fn end(&self, error: Error) {
        self.progress.send_modify(|progress| {
            progress.ended.get_or_insert(error);
        });
    }

    fn announce(&self, revision: Revision) {
        self.progress.send_if_modified(|progress| {
            let newer = revision > progress.revision;
            progress.revision = progress.revision.max(revision);
            newer
        });
    }
}

pub(crate) fn closed() -> Error {
    Error::Unavailable("the store is closed".to_owned())
}
