//! Backup and restore of everything the durable store holds, while the server runs.
//!
//! [`Gate`] is a [`drover_store::Backend`] around the store that every other part of the server sits on. It owns the
//! marker of restores: while one is applied no write and no read passes, on any server of the cluster, and what was
//! read before is told to be expired. A restore is staged in the store first and applied from there, so that whoever
//! survives completes it. May not know of kinds. See `docs/backup.md` and `docs/adr/0008`.

mod apply;
mod changes;
mod export;
mod finisher;
mod gate;
mod keeper;
mod marker;
mod merge;
mod plan;
mod service;
mod staging;
#[cfg(test)]
mod tests;
mod witness;

pub(crate) use gate::Gate;
pub(crate) use service::Restores;

use std::{path::Path, sync::Arc};

use drover_store::{Backend, Revision};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    bootstrap::BuiltIn,
    registry::{Environment, Registry},
};

/// Marks restores: under way, done, confirmed.
const MARKER: &str = "/registry/.drover/restore";
/// What servers keep for themselves: never in a backup, never touched by a restore.
const INTERNAL: &str = "/registry/.drover/";
/// Where uploads wait to be applied; outside everything that is watched or backed up.
const STAGING: &str = "/restore-staging/";
/// Keys to a page: bounds the memory of a pass to some hundred objects.
const PAGE: usize = 100;

/// A store behind its gate, before anything is served from it.
pub(crate) struct Opened {
    /// What the rest of the server sits on.
    pub(crate) gate: Arc<Gate>,
    witness: Option<witness::Witness>,
    environment: Arc<dyn Environment>,
}

/// Opens the gate: notices a store that went back, and completes a restore that was cut short.
///
/// # Errors
/// The store's. `directory` is kept when the store is lost.
pub(crate) async fn open(
    backend: Arc<dyn Backend>,
    directory: Option<&Path>,
    cluster: &str,
    environment: Arc<dyn Environment>,
) -> Result<Opened, Error> {
    let gate = Gate::open(backend).await?;
    let witness = directory.map(witness::Witness::new);
    if let Some(witness) = &witness {
        witness.check(&gate, cluster, &*environment).await?;
    }
    finisher::finish(&gate, &*environment).await?;
    Ok(Opened { gate, witness, environment })
}

impl Opened {
    /// Starts what goes on until `shutdown`.
    pub(crate) fn spawn(
        self,
        registry: &Arc<Registry>,
        built_in: BuiltIn,
        shutdown: &CancellationToken,
    ) -> Vec<JoinHandle<()>> {
        let Self { gate, witness, environment } = self;
        let remembering = witness.map(|witness| tokio::spawn(witness.run(Arc::clone(&gate), shutdown.clone())));
        let mut tasks = vec![
            tokio::spawn(finisher::run(Arc::clone(&gate), environment, shutdown.clone())),
            tokio::spawn(keeper::keep_up(gate, Arc::clone(registry), built_in, shutdown.clone())),
        ];
        tasks.extend(remembering);
        tasks
    }
}

/// Why a backup or a restore failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The store.
    #[error("the store failed")]
    Store(#[from] drover_store::Error),
    /// The file.
    #[error(transparent)]
    File(#[from] drover_api::backup::Error),
    /// Something else in the upload.
    #[error("{0}")]
    Refused(String),
    /// Another restore is in the way.
    #[error("{0}")]
    Busy(String),
    /// The upload broke off.
    #[error("the upload broke off: {0}")]
    Upload(String),
}

/// Whether a key belongs into a backup.
fn is_ours_to_back_up(key: &[u8]) -> bool {
    key.starts_with(crate::registry::ROOT.as_bytes()) && !key.starts_with(INTERNAL.as_bytes())
}

/// The revision that no key ever has: what a precondition of before a restore is translated to.
const NEVER: Revision = i64::MAX as Revision;
