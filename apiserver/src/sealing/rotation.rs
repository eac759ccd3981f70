//! Changing keys while the server runs: prepare, rotate, re-seal, retire. Each step may be cut short and run again.

use drover_store::{KeyValue, Operation, Range, Transaction, TransactionResult};

use super::{Error, KeyId, OpenError, Report, Sealed, envelope, record, record::Record};
use crate::registry::SEALED;

/// Values read at once by a pass; each may have a megabyte.
const PAGE: usize = 64;
/// Tries against other servers that change keys at the same moment.
const ATTEMPTS: usize = 8;
/// Rounds of one pass over values that keep being written; every write seals with the current key, so two do.
const ROUNDS: usize = 8;

/// Why keys could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// Reading or writing the keys failed.
    #[error(transparent)]
    Sealing(Error),
    /// The store failed.
    #[error("cannot read or write the store")]
    Store(#[source] drover_store::Error),
    /// No such key.
    #[error("there is no key {0}")]
    NoSuchKey(String),
    /// New values are sealed with it, or soon will be.
    #[error("key {0} is in use, or newer than the one in use; rotate first")]
    InUse(KeyId),
    /// Old values are sealed with it.
    #[error("{values} values are still sealed with key {id}; wait for the pass that seals them anew")]
    Needed {
        /// The key.
        id: KeyId,
        /// How many values.
        values: usize,
    },
    /// Other values cannot be read, so nobody can say which key they need.
    #[error("{0} values cannot be opened; see `unreadable` in the report")]
    Unreadable(usize),
    /// The value can be opened: delete the object instead.
    #[error("{0} can be read, or does not exist; delete the object instead")]
    Readable(String),
    /// Other servers keep changing the same things.
    #[error("other servers keep changing the keys; try again")]
    Busy,
}

impl Sealed {
    /// Makes a key without using it, so that its file can be copied to other servers first.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub async fn prepare(&self) -> Result<KeyId, RotationError> {
        let state = self.reload().await.map_err(RotationError::Sealing)?;
        let primary = state.record.primary;
        let keyring = self
            .keys
            .update(&mut |keyring| {
                // A key that was prepared before, or by a rotation that was cut short, is as good as a new one.
                if keyring.newest().is_none_or(|newest| newest.id() == primary) {
                    keyring.add(record::fresh_key(&*self.environment));
                }
            })
            .map_err(|error| RotationError::Sealing(Error::Keys(error)))?;
        let newest = keyring.newest().map_or(primary, super::Key::id);
        self.set_state(keyring, state.record);
        Ok(newest)
    }

    /// Uses a new key from now on, and wakes the pass that seals everything else with it.
    ///
    /// # Errors
    /// When the file or the store cannot be written.
    pub async fn rotate(&self) -> Result<KeyId, RotationError> {
        for _ in 0..ATTEMPTS {
            let primary = self.prepare().await?;
            let state = self.state();
            let wanted = Record { primary, ..state.record };
            let written = record::write(&*self.inner, &*self.environment, &state.keyring, wanted).await;
            if let Some(record) = written.map_err(RotationError::Sealing)? {
                self.set_state(state.keyring.as_ref().clone(), record);
                self.wake.notify_one();
                return Ok(primary);
            }
        }
        Err(RotationError::Busy)
    }

    /// Seals every value with the current key; returns how many were written. Values that cannot be opened stay.
    ///
    /// # Errors
    /// The store's; what was done stays done.
    pub async fn reseal(&self) -> Result<usize, RotationError> {
        let mut written = 0;
        for _ in 0..ROUNDS {
            let state = self.reload().await.map_err(RotationError::Sealing)?;
            let mut round = Round::default();
            for prefix in SEALED {
                self.reseal_prefix(prefix, &mut round).await?;
            }
            written += round.written;
            if round.lost > 0 {
                continue;
            }
            if state.record.plain_allowed {
                // Written only if nobody has changed the key since; then the next pass says it.
                let sealed_only = Record { plain_allowed: false, ..state.record };
                let said = record::write(&*self.inner, &*self.environment, &state.keyring, sealed_only).await;
                if let Some(record) = said.map_err(RotationError::Sealing)? {
                    self.set_state(state.keyring.as_ref().clone(), record);
                }
            }
            return Ok(written);
        }
        Err(RotationError::Busy)
    }

    /// Drops an old key that no value needs any more, and the history that may need it.
    ///
    /// # Errors
    /// When it is unknown, in use, or still needed.
    pub async fn retire(&self, id: &str) -> Result<(), RotationError> {
        let state = self.reload().await.map_err(RotationError::Sealing)?;
        let key = KeyId::parse(id).filter(|id| state.keyring.get(*id).is_some());
        let key = key.ok_or_else(|| RotationError::NoSuchKey(id.to_owned()))?;
        // A newer key was prepared: another server may be about to use it.
        if state.keyring.iter().skip_while(|found| found.id() != state.record.primary).any(|found| found.id() == key) {
            return Err(RotationError::InUse(key));
        }
        // Nothing can be sealed with this key after the scan: every write is tied to the record, which names another.
        let revision = self.inner.revision().await.map_err(RotationError::Store)?;
        let report = self.report().await?;
        if !report.unreadable.is_empty() {
            return Err(RotationError::Unreadable(report.unreadable.len()));
        }
        let values = report.keys.iter().find(|found| found.id == key.to_string()).map_or(0, |found| found.values);
        if values > 0 {
            return Err(RotationError::Needed { id: key, values });
        }
        self.inner.compact(revision).await.map_err(RotationError::Store)?;
        let keyring = self.keys.update(&mut |keyring| keyring.remove(key));
        self.set_state(keyring.map_err(|error| RotationError::Sealing(Error::Keys(error)))?, state.record);
        Ok(())
    }

    /// Deletes a value that cannot be opened: the last resort when its key is lost.
    ///
    /// # Errors
    /// [`RotationError::Readable`] for anything that can be opened.
    pub async fn discard(&self, name: &str) -> Result<(), RotationError> {
        let readable = || RotationError::Readable(name.to_owned());
        if !super::is_sealed_name(name.as_bytes()) {
            return Err(readable());
        }
        let found = self.inner.get(name.as_bytes()).await.map_err(RotationError::Store)?.ok_or_else(readable)?;
        if !self.is_unreadable(&found) {
            return Err(readable());
        }
        let transaction = Transaction {
            compares: vec![drover_store::Compare { key: found.key.clone(), mod_revision: found.mod_revision }],
            operations: vec![Operation::Delete { key: found.key }],
        };
        match self.inner.commit(transaction).await.map_err(RotationError::Store)? {
            TransactionResult::Committed { .. } => Ok(()),
            TransactionResult::Conflict { .. } => Err(RotationError::Busy),
        }
    }

    /// Counts what is sealed with which key.
    ///
    /// # Errors
    /// The store's.
    pub async fn report(&self) -> Result<Report, RotationError> {
        let state = self.reload().await.map_err(RotationError::Sealing)?;
        let mut report = Report::new(&state.keyring, &state.record);
        for prefix in SEALED {
            let mut after = bytes::Bytes::new();
            loop {
                let page = self.page(prefix, &after).await?;
                let Some(last) = page.last() else { break };
                after = last.key.clone();
                page.iter().for_each(|item| report.count(item, self.is_unreadable(item)));
            }
        }
        Ok(report)
    }

    async fn reseal_prefix(&self, prefix: &str, round: &mut Round) -> Result<(), RotationError> {
        let mut after = bytes::Bytes::new();
        loop {
            let page = self.page(prefix, &after).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.key.clone();
            for item in &page {
                self.reseal_value(item, round).await?;
            }
        }
    }

    async fn reseal_value(&self, item: &KeyValue, round: &mut Round) -> Result<(), RotationError> {
        let state = self.state();
        if envelope::key_id(&item.value) == Some(state.record.primary) {
            return Ok(());
        }
        let value = match self.open_value(&item.key, &item.value) {
            Ok(value) => value,
            Err(OpenError::Plain) if state.record.plain_allowed => item.value.clone(),
            Err(error) => {
                tracing::error!(key = %String::from_utf8_lossy(&item.key), %error, "a sealed value cannot be opened");
                return Ok(());
            }
        };
        let sealed = self.seal(&state, &item.key, &value).map_err(RotationError::Sealing)?;
        let own = drover_store::Compare { key: item.key.clone(), mod_revision: item.mod_revision };
        let transaction = Transaction {
            compares: vec![own, record::compare(state.record.revision)],
            operations: vec![Operation::Put { key: item.key.clone(), value: sealed }],
        };
        match self.inner.commit(transaction).await.map_err(RotationError::Store)? {
            TransactionResult::Committed { .. } => round.written += 1,
            TransactionResult::Conflict { .. } => round.lost += 1,
        }
        Ok(())
    }

    fn is_unreadable(&self, item: &KeyValue) -> bool {
        match self.open_value(&item.key, &item.value) {
            Ok(_) => false,
            Err(OpenError::Plain) => !self.state().record.plain_allowed,
            Err(OpenError::UnknownKey(_) | OpenError::Forged) => true,
        }
    }

    async fn page(&self, prefix: &str, after: &bytes::Bytes) -> Result<Vec<KeyValue>, RotationError> {
        let range = Range { prefix: prefix.to_owned().into(), after: after.clone(), limit: PAGE, at: None };
        Ok(self.inner.range(range).await.map_err(RotationError::Store)?.items)
    }
}

/// One pass over the store.
#[derive(Debug, Default)]
struct Round {
    written: usize,
    /// Values that somebody else wrote in between.
    lost: usize,
}
