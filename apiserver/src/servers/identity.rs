//! Whose store this is: the authority of the first server that used it, which every other must share.

use std::path::Path;

use bytes::Bytes;
use drover_store::{Backend, Compare, Operation, Transaction, TransactionResult};
use serde::{Deserialize, Serialize};

/// Written by the first server, and never changed.
const IDENTITY: &str = "/registry/.drover/identity";

/// What all servers on one store have in common.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ClusterIdentity {
    /// SHA-256 of the authority's certificate, in hexadecimal.
    pub(crate) ca: String,
    /// SHA-256 of the key that signs tokens, in hexadecimal.
    pub(crate) token_key: String,
    /// The cluster's name.
    pub(crate) cluster: String,
}

/// Why a server may not use a store.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The store cannot be read or written.
    #[error("cannot read whose store this is")]
    Store(#[source] drover_store::Error),
    /// The data directory is new, and the store is not.
    #[error(
        "the store belongs to cluster {cluster}, and {pki} lacks its keys: copy ca.crt, ca.key, \
         service-account.key and sealing.keys to {pki} from another server of that cluster"
    )]
    NoAuthority {
        /// The cluster's name.
        cluster: String,
        /// The directory of keys.
        pki: String,
    },
    /// The data directory is another cluster's.
    #[error(
        "the store belongs to cluster {cluster}, whose {what} is another than that in {pki}: copy ca.crt, ca.key, \
         service-account.key and sealing.keys from another server of that cluster, or use another store"
    )]
    Stranger {
        /// The cluster's name.
        cluster: String,
        /// What differs.
        what: &'static str,
        /// The directory of keys.
        pki: String,
    },
}

/// Returns the name of the cluster that uses a store; `None` for a store without one.
///
/// # Errors
/// [`IdentityError::Store`].
pub async fn cluster_of(backend: &dyn Backend) -> Result<Option<String>, IdentityError> {
    Ok(read(backend).await?.map(|identity| identity.cluster))
}

/// Refuses to make a new authority for a store that has one.
///
/// # Errors
/// [`IdentityError`].
pub(crate) async fn check_before(backend: &dyn Backend, pki: &Path) -> Result<(), IdentityError> {
    let missing = ["ca.key", "ca.crt", "service-account.key"].iter().any(|file| !pki.join(file).is_file());
    match read(backend).await? {
        Some(ClusterIdentity { cluster, .. }) if missing => {
            Err(IdentityError::NoAuthority { cluster, pki: pki.display().to_string() })
        }
        Some(_) | None => Ok(()),
    }
}

/// Writes the identity into a store that has none, and compares it with the one that is there.
///
/// # Errors
/// [`IdentityError`].
pub(crate) async fn ensure(backend: &dyn Backend, own: &ClusterIdentity, pki: &Path) -> Result<(), IdentityError> {
    let value: Bytes = serde_json::to_vec(own).unwrap_or_default().into();
    let transaction = Transaction {
        compares: vec![Compare { key: IDENTITY.into(), mod_revision: 0 }],
        operations: vec![Operation::Put { key: IDENTITY.into(), value }],
    };
    let current = match backend.commit(transaction).await.map_err(IdentityError::Store)? {
        TransactionResult::Committed { .. } => return Ok(()),
        TransactionResult::Conflict { current, .. } => current.into_iter().flatten().next(),
    };
    let Some(theirs) = current.and_then(|found| serde_json::from_slice::<ClusterIdentity>(&found.value).ok()) else {
        return Ok(());
    };
    let what = match (theirs.ca == own.ca, theirs.token_key == own.token_key, theirs.cluster == own.cluster) {
        (true, true, true) => return Ok(()),
        (false, _, _) => "authority (ca.crt)",
        (true, false, _) => "key for tokens (service-account.key)",
        (true, true, false) => "name",
    };
    Err(IdentityError::Stranger { cluster: theirs.cluster, what, pki: pki.display().to_string() })
}

async fn read(backend: &dyn Backend) -> Result<Option<ClusterIdentity>, IdentityError> {
    let found = backend.get(IDENTITY.as_bytes()).await.map_err(IdentityError::Store)?;
    Ok(found.and_then(|found| serde_json::from_slice(&found.value).ok()))
}
