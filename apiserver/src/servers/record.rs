//! What servers write about themselves, and who owns the memory-only class.

use bytes::Bytes;
use drover_store::{Backend, Compare, Error, KeyValue, Operation, Range, Revision, Transaction, TransactionResult};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// One record a server.
const SERVERS: &str = "/registry/.drover/servers/";
/// The record of the owner; its revision is the epoch of the class.
pub(super) const OWNER: &str = "/registry/.drover/volatile-owner";

/// A server, by its own account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ServerRecord {
    /// Kept in its data directory.
    pub(crate) id: String,
    /// Where other servers reach it.
    pub(crate) address: SocketAddr,
}

/// The owner's record as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) server: ServerRecord,
    pub(super) epoch: Revision,
}

pub(super) async fn register(backend: &dyn Backend, me: &ServerRecord) -> Result<(), Error> {
    let put = Operation::Put { key: format!("{SERVERS}{}", me.id).into(), value: encode(me) };
    backend.commit(Transaction { compares: Vec::new(), operations: vec![put] }).await.map(drop)
}

/// Removes a server's record, and the owner's when `epoch` says that it is this server's.
pub(super) async fn leave(backend: &dyn Backend, me: &ServerRecord, epoch: Option<Revision>) {
    let own = Operation::Delete { key: format!("{SERVERS}{}", me.id).into() };
    let mut transaction = Transaction { compares: Vec::new(), operations: vec![own] };
    if let Some(mod_revision) = epoch {
        transaction.compares.push(Compare { key: OWNER.into(), mod_revision });
        transaction.operations.push(Operation::Delete { key: OWNER.into() });
    }
    if let Err(error) = backend.commit(transaction).await {
        tracing::warn!(%error, "could not take this server off the list; the others will find it gone");
    }
}

pub(super) async fn list(backend: &dyn Backend) -> Result<Vec<ServerRecord>, Error> {
    let found = backend.range(Range { prefix: SERVERS.into(), ..Range::default() }).await?;
    Ok(found.items.iter().filter_map(decode).collect())
}

pub(super) async fn owner(backend: &dyn Backend) -> Result<Option<Owner>, Error> {
    let Some(found) = backend.get(OWNER.as_bytes()).await? else { return Ok(None) };
    // A record that this version cannot read is nobody's, and will be replaced.
    let nobody = ServerRecord { id: String::new(), address: SocketAddr::from(([0, 0, 0, 0], 0)) };
    Ok(Some(Owner { server: decode(&found).unwrap_or(nobody), epoch: found.mod_revision }))
}

/// Makes `me` the owner when the record is still of revision `expected` (0: when there is none). Returns the new epoch.
pub(super) async fn take(
    backend: &dyn Backend,
    me: &ServerRecord,
    expected: Revision,
) -> Result<Option<Revision>, Error> {
    let transaction = Transaction {
        compares: vec![Compare { key: OWNER.into(), mod_revision: expected }],
        operations: vec![Operation::Put { key: OWNER.into(), value: encode(me) }],
    };
    match backend.commit(transaction).await? {
        TransactionResult::Committed { revision } => Ok(Some(revision)),
        TransactionResult::Conflict { .. } => Ok(None),
    }
}

fn encode(record: &ServerRecord) -> Bytes {
    // A struct of a string and an address has no value that JSON cannot hold.
    serde_json::to_vec(record).unwrap_or_default().into()
}

fn decode(found: &KeyValue) -> Option<ServerRecord> {
    serde_json::from_slice(&found.value).ok()
}
