//! What answers requests, without keys on disk and without sockets: registry, authorisation, front, tunnels.
//!
//! Both forms of a server, with sockets and within a process, are this core behind different doors.

use std::{net::SocketAddr, sync::Arc};

use drover_store::Backend;
use tokio::task::JoinHandle;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use super::{
    Error,
    assemble::{Parts, build_front},
    sharing::Sharing,
};
use crate::{
    administration::Administration,
    admission::{Admission, Settings},
    audit::Audit,
    bootstrap::BuiltIn,
    front::Front,
    join::{JoinConfig, Joins},
    registry::{Environment, Registry},
    restore,
    tokens::Tokens,
    tunnel::Tunnels,
};

/// What a core is built from.
pub(super) struct CoreConfig {
    pub(super) backend: Arc<dyn Backend>,
    pub(super) environment: Arc<dyn Environment>,
    pub(super) settings: Settings,
    /// `https://host:port`, for discovery and tokens.
    pub(super) url: String,
    /// Signs service account tokens: P-256, PKCS#8 PEM.
    pub(super) token_key_pem: String,
    /// Where pods reach this server, when that is known.
    pub(super) advertised: Option<SocketAddr>,
    pub(super) audit: Audit,
    pub(super) administration: Administration,
    /// The gate that `backend` sits on.
    pub(super) opened: restore::Opened,
    /// Whose backups may be restored.
    pub(super) cluster_name: String,
    /// Name of the EndpointSlice that says so.
    pub(super) slice: String,
    /// This server's place among others on the same store.
    pub(super) sharing: Option<Sharing>,
    /// What nodes that join are told; `None` for a server without keys.
    pub(super) join: Option<JoinConfig>,
}

/// A server's inside. The registry outlives the doors, so that writes in flight at the end are answered.
pub(super) struct Core {
    pub(super) front: Arc<Front>,
    pub(super) registry: Arc<Registry>,
    pub(super) tunnels: Arc<Tunnels>,
    pub(super) joins: Option<Arc<Joins>>,
    pub(super) tasks: TaskTracker,
    pub(super) registry_tasks: Vec<JoinHandle<()>>,
    /// Ends the registry.
    pub(super) backstage: DropGuard,
}

impl Core {
    /// Opens the registry, makes the built-in objects and puts the front together.
    pub(super) async fn start(config: CoreConfig, shutdown: &CancellationToken) -> Result<Self, Error> {
        let CoreConfig {
            backend,
            environment,
            settings,
            url,
            token_key_pem,
            advertised,
            audit,
            administration,
            opened,
            cluster_name,
            slice,
            sharing,
            join,
        } = config;
        let api_service = settings.first_address();
        let backstage = CancellationToken::new();
        let guard = backstage.clone().drop_guard();
        let gate = Arc::clone(&opened.gate);
        let (admission, clock, token) = (Admission::new(settings), Arc::clone(&environment), backstage.clone());
        let started = match &sharing {
            None => Registry::start(backend, clock, admission, token).await,
            Some(sharing) => Registry::start_on(sharing.stores(backend), clock, admission, token).await,
        };
        let (registry, mut registry_tasks) = started.map_err(Error::Store)?;
        let built_in = BuiltIn { api_service, advertised, slice };
        built_in.ensure(&registry).await.map_err(Error::Bootstrap)?;
        registry_tasks.extend(opened.spawn(&registry, built_in, &backstage));
        let tasks = TaskTracker::new();
        let tunnels = Tunnels::new(tasks.clone(), shutdown.clone());
        let tokens =
            Tokens::new(&token_key_pem, registry.clone(), Arc::clone(&environment), &url).map_err(Error::TokenKey)?;
        let joins = join.map(|config| Arc::new(Joins::new(Arc::clone(&registry), config)));
        let parts = Parts {
            url: &url,
            environment: &environment,
            registry: &registry,
            tokens,
            gate: &gate,
            cluster: &cluster_name,
            tunnels: &tunnels,
            servers: sharing.as_ref().map(Sharing::servers),
            tasks: &tasks,
            shutdown,
            audit,
            administration,
            joins: joins.clone(),
        };
        let front = Arc::new(build_front(parts));
        registry.set_authorizer(&front.authorizer);
        if let Some(sharing) = sharing {
            sharing.servers().set_tunnels(&tunnels);
            tunnels.set_servers(&sharing.servers());
            front.health.set_store(sharing.reach());
            registry_tasks.extend(sharing.begin(&registry, &backstage).await.map_err(Error::Store)?);
        }
        Ok(Self { front, registry, tunnels, joins, tasks, registry_tasks, backstage: guard })
    }
}
