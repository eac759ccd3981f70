//! The record in the store that says which key is in use: every sealed write is conditional on it, so that no server
//! can go on sealing with an old key after another one has changed it.

use bytes::Bytes;
use drover_store::{Backend, Compare, Operation, Revision, Transaction, TransactionResult};
use serde::{Deserialize, Serialize};

use super::{
    Error, KeyStore, envelope,
    keyring::{KEY_BYTES, Key, KeyId, Keyring},
};
use crate::registry::{Environment, SEALING_RECORD};

/// Tries against other servers that start at the same moment.
const ATTEMPTS: usize = 16;

/// What the store says about sealing. Itself sealed, so that nobody without the key can change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    /// The key that new values are sealed with.
    pub(super) primary: KeyId,
    /// Whether values from before sealing may still be there. Once all are sealed, a plain value is a forgery.
    pub(super) plain_allowed: bool,
    /// Revision of the record; what writes compare with.
    pub(super) revision: Revision,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    primary: String,
    plain_allowed: bool,
}

/// Reads the record, if there is one, and the keys.
pub(super) async fn read(backend: &dyn Backend, keys: &dyn KeyStore) -> Result<Option<(Keyring, Record)>, Error> {
    let found = backend.get(SEALING_RECORD.as_bytes()).await.map_err(Error::Store)?;
    let Some(found) = found else { return Ok(None) };
    // The keys are read after the record: whoever changes the record has written its key before.
    let keyring = keys.load().map_err(Error::Keys)?;
    let text = envelope::open(&keyring, SEALING_RECORD.as_bytes(), &found.value).map_err(|error| match error {
        envelope::Error::UnknownKey(id) => Error::UnknownKey(id),
        envelope::Error::Plain | envelope::Error::Forged => Error::Record,
    })?;
    let body: Body = serde_json::from_slice(&text).map_err(|_| Error::Record)?;
    let primary = KeyId::parse(&body.primary).ok_or(Error::Record)?;
    let record = Record { primary, plain_allowed: body.plain_allowed, revision: found.mod_revision };
    Ok(Some((keyring, record)))
}

/// Reads the record and the keys, making both at the very first start.
pub(super) async fn ensure(
    backend: &dyn Backend,
    keys: &dyn KeyStore,
    environment: &dyn Environment,
) -> Result<(Keyring, Record), Error> {
    for _ in 0..ATTEMPTS {
        if let Some(found) = read(backend, keys).await? {
            return Ok(found);
        }
        let keyring = keys
            .update(&mut |keyring| {
                if keyring.is_empty() {
                    keyring.add(fresh_key(environment));
                }
            })
            .map_err(Error::Keys)?;
        let primary = keyring.newest().expect("a key was added to an empty ring").id();
        // A conflict means that another server was quicker; its record is read in the next round.
        write(backend, environment, &keyring, Record { primary, plain_allowed: true, revision: 0 }).await?;
    }
    Err(Error::Record)
}

/// Writes the record over the one of `record.revision`; `None` when another server has changed it.
pub(super) async fn write(
    backend: &dyn Backend,
    environment: &dyn Environment,
    keyring: &Keyring,
    record: Record,
) -> Result<Option<Record>, Error> {
    let key = keyring.get(record.primary).ok_or(Error::UnknownKey(record.primary))?;
    let body = Body { primary: record.primary.to_string(), plain_allowed: record.plain_allowed };
    let text = serde_json::to_vec(&body).map_err(|_| Error::Record)?;
    let mut chance = [0; envelope::CHANCE_BYTES];
    environment.fill(&mut chance);
    let value = Bytes::from(envelope::seal(key, SEALING_RECORD.as_bytes(), &text, &chance));
    let transaction = Transaction {
        compares: vec![compare(record.revision)],
        operations: vec![Operation::Put { key: SEALING_RECORD.into(), value }],
    };
    match backend.commit(transaction).await.map_err(Error::Store)? {
        TransactionResult::Committed { revision } => Ok(Some(Record { revision, ..record })),
        TransactionResult::Conflict { .. } => Ok(None),
    }
}

/// Ties a write to the record that it was sealed under.
pub(super) fn compare(revision: Revision) -> Compare {
    Compare { key: SEALING_RECORD.into(), mod_revision: revision }
}

/// Makes a key.
pub(super) fn fresh_key(environment: &dyn Environment) -> Key {
    let mut secret = [0; KEY_BYTES];
    environment.fill(&mut secret);
    Key::new(secret, environment.now())
}
