//! Wiring of the API server and the controllers.

use std::{fs::File, net::SocketAddr, sync::Arc};

use anyhow::{Context, Result};
use drover_apiserver::{Handle, request::User};
use drover_controllers::runtime::Environment;
use drover_controllers::scheduler::Strategy;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{cli, data_dir, store};

/// The namespace that in-process clients use when a request names none.
const DEFAULT_NAMESPACE: &str = "default";

/// A server that serves, and the name under which its objects are labelled on engines.
pub(crate) struct Running {
    pub(crate) handle: Arc<Handle>,
    pub(crate) cluster_name: String,
    /// Keeps other servers off the data directory.
    _lock: File,
}

/// Starts the API server on the options' store and address.
pub(crate) async fn start(
    options: &cli::Server,
    fallback_listen: &str,
    shutdown: &CancellationToken,
) -> Result<Running> {
    data_dir::ensure(&options.data_dir)?;
    let lock = data_dir::lock(&options.data_dir)?;
    let cluster_name = data_dir::cluster_name(&options.data_dir, options.cluster_name.as_deref())?;
    let backend = store::open(options).await?;
    let listen: SocketAddr = match options.listen {
        Some(address) => address,
        None => fallback_listen.parse().context("the default address is malformed")?,
    };
    let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    let mut config = drover_apiserver::Config::new(options.data_dir.clone(), vec![listener], backend);
    config.service_cidr.clone_from(&options.service_cidr);
    config.cluster_name.clone_from(&cluster_name);
    config.store = match options.store.split_once("://") {
        Some(("etcds", _)) => "etcds",
        Some(_) => "etcd",
        None => "embedded",
    };
    config.audit = options.audit.sink(&options.data_dir);
    let handle = drover_apiserver::start(config, shutdown.clone()).await?;
    tracing::info!(server.url = %handle.url, cluster.name = %cluster_name, "API server serves");
    Ok(Running { handle: Arc::new(handle), cluster_name, _lock: lock })
}

/// Starts the chosen controllers on the in-process transport.
pub(crate) fn spawn_controllers(
    running: &Running,
    options: &cli::Server,
    tasks: &mut JoinSet<Result<()>>,
    shutdown: &CancellationToken,
) {
    let enabled = options.enabled_controllers();
    if enabled.is_empty() {
        return;
    }
    let client = client(running, User::new("system:drover:controllers", &["system:masters"]));
    let config = drover_controllers::Config {
        enabled,
        cluster_cidr: options.cluster_cidr.clone(),
        ca_pem: running.handle.ca_pem.clone(),
        placement: Strategy::parse(&options.placement).unwrap_or_default(),
        environment: Environment::system(),
        ..drover_controllers::Config::all()
    };
    let shutdown = shutdown.clone();
    tasks.spawn(async move { Ok(drover_controllers::run(client, config, shutdown).await?) });
}

/// Returns a client that acts as `user` without a socket.
pub(crate) fn client(running: &Running, user: User) -> kube::Client {
    kube::Client::new(running.handle.local_service(user), DEFAULT_NAMESPACE)
}
