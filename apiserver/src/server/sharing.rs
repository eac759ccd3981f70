//! A server's place among others on the same store: its right to be there, and what it shares with them.

use std::{path::Path, sync::Arc, time::SystemTime};

use drover_store::{Backend, Error as StoreError};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Config, Error, Plan};
use crate::{
    pki::{Pki, identity::fingerprint},
    reach::{Guarded, Reach},
    registry::{Registry, Stores, volatile_limits},
    servers::{
        Dialer, Memory, ServerRecord, Servers,
        identity::{self, ClusterIdentity},
    },
};

/// A shared store, and the others on it.
pub(super) struct Sharing {
    servers: Arc<Servers>,
    store: Arc<Guarded>,
    /// What the first look at the owner of Leases and Events found.
    memory: Memory,
}

/// Refuses a data directory without keys when the store has a cluster's already: before new ones are made.
pub(super) async fn check_before(config: &Config, pki_dir: &Path) -> Result<(), Error> {
    if config.shared {
        identity::check_before(&*config.backend, pki_dir).await.map_err(Error::Identity)?;
    }
    Ok(())
}

impl Sharing {
    /// Takes the place, and Leases and Events when nobody has them; `None` for a store of this server's own.
    pub(super) async fn open(config: &Config, plan: &Plan, pki: &Arc<Pki>, id: &str) -> Result<Option<Self>, Error> {
        if !config.shared {
            return Ok(None);
        }
        let store = Guarded::new(Arc::clone(&config.backend));
        let backend = Arc::clone(&store) as Arc<dyn Backend>;
        let own = ClusterIdentity {
            ca: fingerprint(&pki.ca_der()),
            token_key: fingerprint(pki.token_key_pem().trim().as_bytes()),
            cluster: config.cluster_name.clone(),
        };
        identity::ensure(&*backend, &own, &config.data_dir.join("pki")).await.map_err(Error::Identity)?;
        let (issuer, named) = (Arc::clone(pki), id.to_owned());
        let dialer = Dialer::new(pki.ca_der(), move || issuer.issue_server_client(&named, SystemTime::now()).ok());
        let me = ServerRecord { id: id.to_owned(), address: plan.own_address };
        let servers = Servers::new(me, backend, dialer, volatile_limits());
        let mut memory = Memory::default();
        servers.look(&mut memory, &(Box::new(Vec::new) as _)).await.map_err(Error::Store)?;
        Ok(Some(Self { servers, store, memory }))
    }

    /// The store, behind a guard that notices its silence.
    pub(super) fn store(&self) -> Arc<dyn Backend> {
        Arc::clone(&self.store) as Arc<dyn Backend>
    }

    /// Where the registry keeps its objects; `durable` is this store, in whatever it was wrapped since.
    pub(super) fn stores(&self, durable: Arc<dyn Backend>) -> Stores {
        Stores { durable, volatile: self.servers.volatile() }
    }

    pub(super) fn servers(&self) -> Arc<Servers> {
        Arc::clone(&self.servers)
    }

    pub(super) fn reach(&self) -> Reach {
        self.store.reach()
    }

    /// Shows this server to the others, and starts to look after the owner and the store until `backstage`.
    pub(super) async fn begin(
        self,
        registry: &Arc<Registry>,
        backstage: &CancellationToken,
    ) -> Result<[JoinHandle<()>; 2], StoreError> {
        let Self { servers, store, memory } = self;
        servers.register().await?;
        let shown = Arc::clone(registry);
        let seed = Box::new(move || shown.volatile_objects());
        let looking = tokio::spawn(servers.keep_looking(memory, seed, backstage.clone()));
        let ended = backstage.clone();
        let watching = tokio::spawn(async move {
            // Cancel-safe: a dropped watch leaves the state as it was last known.
            ended.run_until_cancelled(store.watch()).await;
        });
        Ok([looking, watching])
    }
}
