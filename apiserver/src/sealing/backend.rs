//! [`Backend`] for [`Sealed`]: seals on the way in, opens on the way out.

use async_trait::async_trait;
use bytes::Bytes;
use drover_store::{
    Backend, ChangeStream, Changes, Error, KeyValue, Operation, Range, RangeResult, Revision, Transaction,
    TransactionResult,
};
use futures::StreamExt;

use super::{OpenError, Sealed, State, envelope, is_sealed_name, record};

/// Tries of one write while other servers change the key in use.
const ATTEMPTS: usize = 8;

#[async_trait]
impl Backend for Sealed {
    async fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, Error> {
        Ok(self.inner.get(key).await?.map(|found| self.opened(found)))
    }

    async fn range(&self, range: Range) -> Result<RangeResult, Error> {
        let mut found = self.inner.range(range).await?;
        found.items = found.items.into_iter().map(|item| self.opened(item)).collect();
        Ok(found)
    }

    async fn commit(&self, transaction: Transaction) -> Result<TransactionResult, Error> {
        let seals = transaction.operations.iter().any(is_sealed_put);
        let mut state = self.state();
        for _ in 0..ATTEMPTS {
            let sealed = if seals { self.sealed(&state, &transaction)? } else { transaction.clone() };
            match self.inner.commit(sealed).await? {
                TransactionResult::Conflict { mut current, revision } => {
                    current.truncate(transaction.compares.len());
                    if !seals || conflicts(&transaction, &current) {
                        let current = current.into_iter().map(|found| found.map(|found| self.opened(found))).collect();
                        return Ok(TransactionResult::Conflict { current, revision });
                    }
                }
                committed @ TransactionResult::Committed { .. } => return Ok(committed),
            }
            // Only the record can have failed: another server has changed the key in use.
            state = self.reload().await.map_err(|error| broken(&error))?;
        }
        Err(Error::Unavailable("the sealing key keeps changing".to_owned()))
    }

    async fn changes(&self, prefix: &[u8], after: Revision) -> Result<ChangeStream, Error> {
        let stream = self.inner.changes(prefix, after).await?;
        let Some(this) = self.this.upgrade() else { return Err(Error::Unavailable("the store is closed".to_owned())) };
        Ok(stream.map(move |item| item.map(|changes| this.opened_changes(changes))).boxed())
    }

    async fn revision(&self) -> Result<Revision, Error> {
        self.inner.revision().await
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.inner.compact(revision).await
    }
}

impl Sealed {
    /// Seals what has to be and ties the transaction to the record.
    fn sealed(&self, state: &State, transaction: &Transaction) -> Result<Transaction, Error> {
        let mut sealed = transaction.clone();
        for operation in &mut sealed.operations {
            if let Operation::Put { key, value } = operation
                && is_sealed_name(key)
            {
                *value = self.seal(state, key, value).map_err(|error| broken(&error))?;
            }
        }
        sealed.compares.push(record::compare(state.record.revision));
        Ok(sealed)
    }

    fn opened_changes(&self, mut changes: Changes) -> Changes {
        for event in &mut changes.events {
            if is_sealed_name(&event.current.key) {
                event.current.value = self.opened_bytes(&event.current.key, &event.current.value);
                if let Some(previous) = &mut event.previous {
                    previous.value = self.opened_bytes(&previous.key, &previous.value);
                }
            }
        }
        changes
    }

    fn opened(&self, mut found: KeyValue) -> KeyValue {
        if is_sealed_name(&found.key) {
            found.value = self.opened_bytes(&found.key, &found.value);
        }
        found
    }

    /// Opens a value. One that cannot be opened stays sealed, which no reader can mistake for an object.
    fn opened_bytes(&self, key: &Bytes, stored: &Bytes) -> Bytes {
        match self.open_value(key, stored) {
            Ok(value) => value,
            // The tombstone of a watch has no value.
            Err(OpenError::Plain) if stored.is_empty() || self.state().record.plain_allowed => stored.clone(),
            Err(OpenError::Plain) => envelope::refused().into(),
            Err(OpenError::UnknownKey(_) | OpenError::Forged) => stored.clone(),
        }
    }
}

fn is_sealed_put(operation: &Operation) -> bool {
    matches!(operation, Operation::Put { key, .. } if is_sealed_name(key))
}

/// Whether one of the caller's own preconditions failed.
fn conflicts(transaction: &Transaction, current: &[Option<KeyValue>]) -> bool {
    let found = current.iter().map(|found| found.as_ref().map_or(0, |found| found.mod_revision));
    transaction.compares.iter().zip(found).any(|(compare, found)| compare.mod_revision != found)
}

/// A write that this server cannot seal fails; it never goes out in the clear.
fn broken(error: &super::Error) -> Error {
    use std::error::Error as _;
    let cause = error.source().map(|source| format!(": {source}")).unwrap_or_default();
    Error::Unavailable(format!("cannot seal: {error}{cause}"))
}
