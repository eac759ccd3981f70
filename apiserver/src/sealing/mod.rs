//! Sealing at rest: what holds credentials reaches the store encrypted, and nothing else about it changes.
//!
//! [`Sealed`] is a [`Backend`] around the real one. It owns which values are sealed, with which key, and the change of
//! keys while the server runs; the keys themselves are kept by a [`KeyStore`] and never reach the store. A value that
//! cannot be opened is passed on as it is, so that the cache can name the object that it belongs to. Reads of it fail
//! with that name; it is never taken for absent. See `docs/secrets-at-rest.md`.

mod backend;
mod envelope;
mod keyring;
mod record;
mod report;
mod rotation;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock, Weak},
    time::Duration,
};

use bytes::Bytes;
use drover_store::Backend;
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use envelope::open;
pub(crate) use envelope::{Error as OpenError, key_id};
pub use keyring::{Key, KeyId, KeyStore, KeyStoreError, Keyring};
pub use report::{KeyReport, Report};
pub use rotation::RotationError;

use crate::registry::{Environment, SEALED};
use record::Record;

/// Pause before another try of a pass over the store that failed.
const PASS_PAUSE: Duration = Duration::from_secs(5);

/// The backend that seals.
pub struct Sealed {
    inner: Arc<dyn Backend>,
    keys: Arc<dyn KeyStore>,
    environment: Arc<dyn Environment>,
    state: RwLock<State>,
    /// For streams, which outlive the call that opens them.
    this: Weak<Self>,
    /// Wakes the pass that seals everything with the current key.
    wake: Notify,
}

/// What this server knows about the keys.
#[derive(Debug, Clone)]
struct State {
    keyring: Arc<Keyring>,
    record: Record,
    /// When the file was last read because of an unknown key.
    reloaded_at: Timestamp,
}

/// Why sealing cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The key file.
    #[error("cannot read the sealing keys")]
    Keys(#[source] KeyStoreError),
    /// The store.
    #[error("cannot read the record of sealing keys in the store")]
    Store(#[source] drover_store::Error),
    /// The store was sealed with a key that this server does not have.
    #[error(
        "the store is sealed with key {0}, which is not in pki/sealing.keys: copy that file from another server or from a backup"
    )]
    UnknownKey(KeyId),
    /// The record is not one that this cluster's servers wrote.
    #[error("the record of sealing keys in the store was changed or is damaged")]
    Record,
}

impl fmt::Debug for Sealed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Sealed").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl Sealed {
    /// Opens a store: the first server makes the first key and writes down which key is in use.
    ///
    /// # Errors
    /// [`Error`]: with a key missing, nothing is served rather than half of it.
    pub async fn open(
        inner: Arc<dyn Backend>,
        keys: Arc<dyn KeyStore>,
        environment: Arc<dyn Environment>,
    ) -> Result<Arc<Self>, Error> {
        let (keyring, record) = record::ensure(&*inner, &*keys, &*environment).await?;
        let state = State { keyring: Arc::new(keyring), record, reloaded_at: Timestamp::MIN };
        Ok(Arc::new_cyclic(|this| Self {
            inner,
            keys,
            environment,
            state: RwLock::new(state),
            this: Weak::clone(this),
            wake: Notify::new(),
        }))
    }

    /// Seals with the current key whatever is not yet: now, and after each change of keys, until `shutdown`.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        loop {
            let done = tokio::select! {
                () = shutdown.cancelled() => return, // cancel-safe: a token stays cancelled
                done = self.reseal() => done, // a pass that is dropped is taken up by the next one
            };
            let pause = match done {
                Ok(_) => Duration::MAX,
                Err(error) => {
                    tracing::warn!(%error, "cannot seal everything with the current key yet");
                    PASS_PAUSE
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return, // cancel-safe
                () = self.wake.notified() => {} // cancel-safe: a permit is kept
                () = tokio::time::sleep(pause) => {} // cancel-safe
            }
        }
    }

    fn state(&self) -> State {
        self.state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_state(&self, keyring: Keyring, record: Record) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        // A slower reader must not undo what a quicker one learned.
        if record.revision >= state.record.revision {
            state.record = record;
            state.keyring = Arc::new(keyring);
        }
    }

    /// Reads the record and the keys again.
    async fn reload(&self) -> Result<State, Error> {
        let (keyring, record) = record::read(&*self.inner, &*self.keys).await?.ok_or(Error::Record)?;
        self.set_state(keyring, record);
        Ok(self.state())
    }

    /// Reads the key file again, at most once a second: another server may have made a key.
    fn reload_keys(&self) {
        let now = self.environment.now();
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if now.duration_since(state.reloaded_at).as_secs() < 1 {
            return;
        }
        state.reloaded_at = now;
        match self.keys.load() {
            Ok(keyring) => state.keyring = Arc::new(keyring),
            Err(error) => tracing::error!(%error, "cannot read the sealing keys again"),
        }
    }

    fn seal(&self, state: &State, name: &[u8], value: &[u8]) -> Result<Bytes, Error> {
        let key = state.keyring.get(state.record.primary).ok_or(Error::UnknownKey(state.record.primary))?;
        let mut chance = [0; envelope::CHANCE_BYTES];
        self.environment.fill(&mut chance);
        Ok(envelope::seal(key, name, value, &chance).into())
    }

    /// Opens a value, reading the key file again for a key that another server may have made.
    fn open_value(&self, name: &[u8], stored: &[u8]) -> Result<Bytes, OpenError> {
        let opened = envelope::open(&self.state().keyring, name, stored);
        let opened = match opened {
            Err(OpenError::UnknownKey(_)) => {
                self.reload_keys();
                envelope::open(&self.state().keyring, name, stored)
            }
            other => other,
        };
        opened.map(Bytes::from)
    }
}

/// Whether the value of a store key is sealed.
fn is_sealed_name(name: &[u8]) -> bool {
    SEALED.iter().any(|prefix| name.starts_with(prefix.as_bytes()))
}

/// Values for the tests of other modules.
#[cfg(test)]
pub(crate) mod tests_support {
    use super::{Bytes, Environment, Key, envelope};

    /// A value that no server here can open.
    pub(crate) fn sealed_elsewhere(environment: &dyn Environment) -> Bytes {
        let key = Key::new([0xee; 32], environment.now());
        envelope::seal(&key, b"elsewhere", b"{}", &[1; envelope::CHANCE_BYTES]).into()
    }
}
