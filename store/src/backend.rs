//! The trait that every backend satisfies, and its values.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt, TryStreamExt};

/// The store's global version: strictly increasing, never reused. 0 means "before anything".
pub type Revision = u64;

/// One live key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    /// The key.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    /// Revision of the write that made the key.
    pub create_revision: Revision,
    /// Revision of the last write to the key.
    pub mod_revision: Revision,
}

/// A read of every key that starts with `prefix`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Range {
    /// Prefix of the keys wanted.
    pub prefix: Bytes,
    /// Keys up to and including this one are left out; empty starts at the beginning.
    pub after: Bytes,
    /// At most so many keys; 0 means all.
    pub limit: usize,
    /// The revision to read at; `None` means the newest.
    pub at: Option<Revision>,
}

/// What a range read found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeResult {
    /// In key order.
    pub items: Vec<KeyValue>,
    /// The store's revision at the time of the read (for `at: Some(r)`, still the newest one known).
    pub revision: Revision,
    /// Whether `limit` cut the result.
    pub more: bool,
}

/// A precondition on one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compare {
    /// The key.
    pub key: Bytes,
    /// Its `mod_revision` must equal this; 0 means that the key must not exist.
    pub mod_revision: Revision,
}

/// One write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Sets a key.
    Put {
        /// The key.
        key: Bytes,
        /// Its new value.
        value: Bytes,
    },
    /// Removes a key; removing a missing key is not an error and takes no revision of its own.
    Delete {
        /// The key.
        key: Bytes,
    },
}

impl Operation {
    /// The key it is about.
    pub fn key(&self) -> &Bytes {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => key,
        }
    }
}

/// Writes that happen together, or not at all, when every precondition holds. All get the same revision.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Transaction {
    /// Preconditions.
    pub compares: Vec<Compare>,
    /// Writes; no key twice.
    pub operations: Vec<Operation>,
}

/// How a transaction ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransactionResult {
    /// On disk.
    Committed {
        /// The revision of every write in it.
        revision: Revision,
    },
    /// A precondition failed; nothing was written.
    Conflict {
        /// The newest state of every compared key, in the order of `compares`.
        current: Vec<Option<KeyValue>>,
        /// The revision of that state.
        revision: Revision,
    },
}

/// What happened to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// It was created or changed.
    Put,
    /// It was removed.
    Delete,
}

/// One entry of history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The key after the event; for a delete, `value` is empty and `mod_revision` is the delete's revision.
    pub current: KeyValue,
    /// The key before the event, `None` for a create.
    pub previous: Option<KeyValue>,
}

/// All events of one revision arrive in one item, in key order. The stream ends with an error or never.
pub type WatchStream = BoxStream<'static, Result<Vec<Event>, Error>>;

/// One step of history, as [`Backend::changes`] delivers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// Everything up to and including this revision has now been delivered.
    pub revision: Revision,
    /// The events of this revision under the prefix, in key order; empty when it only touched other keys.
    pub events: Vec<Event>,
}

/// Revisions strictly increase. The stream ends with an error or never.
pub type ChangeStream = BoxStream<'static, Result<Changes, Error>>;

/// Versioned key-value storage with watch. An acknowledged write is on disk.
#[async_trait]
pub trait Backend: Send + Sync + fmt::Debug + 'static {
    /// Reads one key, linearizably.
    async fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, Error>;

    /// Reads the keys under a prefix, linearizably unless `at` is set.
    async fn range(&self, range: Range) -> Result<RangeResult, Error>;

    /// Writes when the preconditions hold.
    async fn commit(&self, transaction: Transaction) -> Result<TransactionResult, Error>;

    /// Streams every event under `prefix` with a revision greater than `after`, without gap or duplicate, and how far
    /// it has got when other keys change: a consumer that has seen [`Changes`] of revision R knows everything up to R,
    /// so it can wait for what [`Backend::revision`] says.
    ///
    /// # Errors
    /// [`Error::Compacted`] when history after `after` is gone, at once or as the stream's last item;
    /// [`Error::Future`] when `after` has not happened yet.
    async fn changes(&self, prefix: &[u8], after: Revision) -> Result<ChangeStream, Error>;

    /// [`Backend::changes`] without the progress: only the events.
    ///
    /// # Errors
    /// As [`Backend::changes`].
    async fn watch(&self, prefix: &[u8], after: Revision) -> Result<WatchStream, Error> {
        let changes = self.changes(prefix, after).await?;
        let events = changes.try_filter_map(|change| async move {
            let has_events = !change.events.is_empty();
            Ok(has_events.then_some(change.events))
        });
        Ok(events.boxed())
    }

    /// Returns the newest committed revision, linearizably.
    async fn revision(&self) -> Result<Revision, Error>;

    /// Drops history before `revision`: reads at and watches after older revisions fail from now on.
    async fn compact(&self, revision: Revision) -> Result<(), Error>;
}

/// Why the store could not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The history asked for was compacted; `oldest` is the oldest revision that can still be read.
    #[error("revision was compacted, oldest is {oldest}")]
    Compacted {
        /// Oldest readable revision.
        oldest: Revision,
    },
    /// The revision asked for has not happened yet.
    #[error("revision {asked} is in the future, newest is {newest}")]
    Future {
        /// The revision asked for.
        asked: Revision,
        /// The newest revision.
        newest: Revision,
    },
    /// No space left; deletes are still accepted.
    #[error("no space left: {0}")]
    Full(String),
    /// The backend cannot be reached; the write may or may not have happened.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// Another process holds the data directory.
    #[error("{0}")]
    Locked(String),
    /// The data on disk cannot be read, or the disk failed. The store acknowledges nothing any more.
    #[error("broken: {0}")]
    Broken(String),
}
