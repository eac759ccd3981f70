//! What a server with a data directory has behind its core: the sealed store and the audit log, with their tasks.

use std::{path::Path, sync::Arc};

use drover_store::Backend;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Config, Error};
use crate::{
    administration::Administration, audit::Audit, pki::SealingKeys, registry::System, restore, sealing::Sealed,
};

/// The parts, and what ends them.
pub(super) struct Rear {
    pub(super) backend: Arc<dyn Backend>,
    /// The gate below the seal.
    pub(super) opened: restore::Opened,
    pub(super) audit: Audit,
    pub(super) administration: Administration,
    pub(super) tasks: Vec<JoinHandle<()>>,
    /// Ends the tasks; nothing must be recorded after that.
    pub(super) token: DropGuard,
}

impl Rear {
    /// Opens both; the `pki` directory exists.
    pub(super) async fn open(config: &mut Config, pki_dir: &Path) -> Result<Self, Error> {
        let keys = Arc::new(SealingKeys::new(pki_dir));
        // Below the seal: what is backed up is as it is stored.
        let opened =
            restore::open(Arc::clone(&config.backend), Some(pki_dir), &config.cluster_name, Arc::new(System)).await;
        let opened = opened.map_err(|error| Error::Restore(Box::new(error)))?;
        let sealed = Sealed::open(opened.gate.clone(), keys, Arc::new(System)).await.map_err(Error::Sealing)?;
        let token = CancellationToken::new();
        let guard = token.clone().drop_guard();
        let mut tasks = vec![tokio::spawn(Arc::clone(&sealed).run(token.clone()))];
        let audit = match config.audit.take() {
            None => Audit::off(),
            Some(sink) => {
                let (audit, writer) = Audit::start(sink, token);
                tasks.push(writer);
                audit
            }
        };
        let administration = Administration {
            sealing: Some(Arc::clone(&sealed)),
            data_dir: Some(config.data_dir.clone()),
            store: config.store,
        };
        Ok(Self { backend: sealed, opened, audit, administration, tasks, token: guard })
    }
}
