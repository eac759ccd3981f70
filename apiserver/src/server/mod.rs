//! Starting and ending a server.
//!
//! The composition root of the crate: keys, registry, front, listeners, in that order, and back out in reverse.

mod accept;
mod assemble;
mod config;
mod core;
mod in_process;
mod local;
mod patience;
mod peers;
mod rear;
mod sharing;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod tls;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use config::Config;
pub use in_process::{InProcess, InProcessConfig};
pub use local::LocalService;
pub use tls::Error as TlsError;
pub(crate) use tls::tls_versions;

use accept::Acceptor;
use core::{Core, CoreConfig};
use rear::Rear;
use sharing::Sharing;

use crate::{
    admission::Settings,
    bootstrap,
    front::Front,
    join::{JoinConfig, Joins},
    pki::{self, Pki, ServerNames},
    registry::{Environment as _, Registry, System},
    request::User,
    servers::{Servers, identity::IdentityError},
    tokens::KeyError,
    tunnel::Tunnels,
};

/// What is still open so long after the start of the shutdown is dropped; a daemon must be gone within 5 s.
const DRAIN: Duration = Duration::from_secs(4);
/// A store that does not answer must not keep a daemon from ending.
const LEAVE: Duration = Duration::from_millis(500);
/// Names of servers are random and need only differ within a cluster.
const SERVER_ID_LENGTH: usize = 10;
/// How often the server looks whether its certificate has reached two thirds of its life.
const RENEW_EVERY: Duration = Duration::from_secs(12 * 3600);

/// Why a server could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration makes no sense.
    #[error("bad configuration: {0}")]
    Config(String),
    /// Keys and certificates.
    #[error("cannot open keys and certificates")]
    Pki(#[source] pki::Error),
    /// TLS.
    #[error("cannot set up tls")]
    Tls(#[source] TlsError),
    /// The key that signs tokens.
    #[error("cannot read the key for service account tokens")]
    TokenKey(#[source] KeyError),
    /// A listener has no address.
    #[error("cannot read a listener's address")]
    Listener(#[source] std::io::Error),
    /// The store cannot be opened with the sealing keys at hand.
    #[error("cannot open the sealed store")]
    Sealing(#[source] crate::sealing::Error),
    /// The store is another cluster's.
    #[error("this server may not use the store")]
    Identity(#[source] IdentityError),
    /// The store cannot be read or written.
    #[error("cannot open the registry")]
    Store(#[source] drover_store::Error),
    /// The store could not be opened, or a restore that was cut short could not be completed.
    #[error("cannot open the store")]
    Restore(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The objects that every cluster has could not be made.
    #[error("cannot ensure the built-in objects")]
    Bootstrap(#[source] drover_api::status::ApiError),
}

/// A running server.
#[derive(Debug)]
pub struct Handle {
    /// `https://host:port` of the first listener, as in `admin.kubeconfig`.
    pub url: String,
    /// This server's own name among servers: kept in its data directory.
    pub id: String,
    /// The authority's certificate.
    pub ca_pem: String,
    /// Path of the administrator's kubeconfig.
    pub admin_kubeconfig: PathBuf,
    /// The agents' connections; the agent of this process comes in through [`Tunnels::accept`].
    pub tunnels: Arc<Tunnels>,
    inner: Arc<Inner>,
    supervisor: JoinHandle<()>,
}

struct Inner {
    front: Arc<Front>,
    registry: Arc<Registry>,
    joins: Option<Arc<Joins>>,
    pki: Arc<Pki>,
    names: Mutex<ServerNames>,
    acceptor: Acceptor,
    tasks: TaskTracker,
    /// Whether `default/kubernetes` leads anywhere.
    advertises: AtomicBool,
    /// Name of the EndpointSlice that says so.
    slice: String,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Inner").field("registry", &self.registry).finish_non_exhaustive()
    }
}

/// Starts a server and returns once it is ready: built-in objects exist, `admin.kubeconfig` is written, the listeners
/// answer. Cancelling `shutdown` ends it within 5 s.
///
/// # Errors
/// [`Error`], with nothing left running.
pub async fn start(mut config: Config, shutdown: CancellationToken) -> Result<Handle, Error> {
    let plan = Plan::of(&config)?;
    let pki_dir = config.data_dir.join("pki");
    sharing::check_before(&config, &pki_dir).await?;
    let pki = Arc::new(Pki::open(&pki_dir, &plan.names, SystemTime::now()).map_err(Error::Pki)?);
    let id = pki.server_id(|| System.suffix(SERVER_ID_LENGTH)).map_err(Error::Pki)?;
    let sharing = Sharing::open(&config, &plan, &pki, &id).await?;
    let servers = sharing.as_ref().map(Sharing::servers);
    if let Some(sharing) = &sharing {
        config.backend = sharing.store();
    }
    let slice = bootstrap::slice_name(servers.as_ref().map(|_| id.as_str()));
    let tls = tls::config(&pki).map_err(Error::Tls)?;
    let Rear { backend, opened, audit, administration, tasks: rear_tasks, token: rear } =
        Rear::open(&mut config, &pki_dir).await?;
    let core = CoreConfig {
        backend,
        environment: Arc::new(System),
        audit,
        administration,
        settings: plan.settings.clone(),
        url: plan.url.clone(),
        token_key_pem: pki.token_key_pem().to_owned(),
        advertised: plan.advertised,
        cluster_name: config.cluster_name.clone(),
        opened,
        slice: slice.clone(),
        sharing,
        join: Some(JoinConfig {
            pki: Arc::clone(&pki),
            cluster_name: config.cluster_name.clone(),
            cluster_cidr: config.cluster_cidr.clone(),
            service_cidr: config.service_cidr.clone(),
            certificate_life: config.node_certificate_life,
        }),
    };
    let core = Core::start(core, &shutdown).await?;
    let Core { front, registry, tunnels, joins, tasks, mut registry_tasks, backstage } = core;
    registry_tasks.extend(rear_tasks);
    let abort = CancellationToken::new();
    let acceptor = Acceptor::new(tls, Arc::clone(&front), tasks.clone(), shutdown.clone(), abort.clone());
    let admin_kubeconfig = config.data_dir.join("admin.kubeconfig");
    write_kubeconfig(&pki, &admin_kubeconfig, &config.cluster_name, &plan.url)?;
    let ca_pem = pki.ca_pem().to_owned();
    let advertises = AtomicBool::new(plan.advertised.is_some());
    let names = Mutex::new(plan.names);
    let inner = Arc::new(Inner { front, registry, joins, pki, names, acceptor, tasks, advertises, slice });
    for listener in config.listeners {
        inner.tasks.spawn(inner.acceptor.clone().run(listener));
    }
    inner.tasks.spawn(Arc::clone(&inner).renew_certificates(shutdown.clone()));
    inner.front.health.set_ready();
    let backstage = [backstage.disarm(), rear.disarm()];
    let ending = Ending { shutdown, abort, backstage, registry_tasks, servers };
    let supervisor = tokio::spawn(ending.run(Arc::clone(&inner)));
    Ok(Handle { url: plan.url, id, ca_pem, admin_kubeconfig, tunnels, inner, supervisor })
}

impl Handle {
    /// Returns the in-process transport for a component that acts as `user`.
    pub fn local_service(&self, user: User) -> LocalService {
        LocalService::new(Arc::clone(&self.inner.front), user)
    }

    /// Serves on one more listener, for example on the gateway of the pods' bridge. Its address is added to the
    /// server's certificate and, when no address is advertised yet, becomes where `default/kubernetes` leads; that waits
    /// for a store that is away.
    ///
    /// # Errors
    /// [`Error::Listener`], [`Error::Pki`] when the certificate cannot be re-issued, [`Error::Bootstrap`] when the
    /// endpoints cannot be written.
    pub async fn add_listener(&self, listener: TcpListener) -> Result<(), Error> {
        let address = listener.local_addr().map_err(Error::Listener)?;
        let inner = &self.inner;
        if !address.ip().is_unspecified() {
            let mut names = inner.names.lock().unwrap_or_else(PoisonError::into_inner);
            names.addresses.insert(address.ip());
            inner.pki.renew_server(&names, SystemTime::now()).map_err(Error::Pki)?;
        }
        inner.tasks.spawn(inner.acceptor.clone().run(listener));
        if is_reachable(address.ip()) && !inner.advertises.swap(true, Ordering::AcqRel) {
            let publish = || bootstrap::publish(&inner.registry, address, &inner.slice);
            patience::while_unavailable(&inner.front.shutdown, publish).await.map_err(Error::Bootstrap)?;
        }
        Ok(())
    }

    /// Makes a key and a client certificate for the agent of a node, and lets the key in.
    ///
    /// # Errors
    /// [`Error::Pki`] when the name cannot stand in a certificate, [`Error::Bootstrap`] when the node has another key.
    pub async fn issue_node_certificate(&self, node: &str) -> Result<pki::Identity, Error> {
        let identity = self.inner.pki.issue_node_certificate(node, SystemTime::now()).map_err(Error::Pki)?;
        if let Some(joins) = &self.inner.joins {
            joins.vouch(node, &identity.key_hash()).await.map_err(Error::Bootstrap)?;
        }
        Ok(identity)
    }

    /// Returns the registry.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.inner.registry
    }

    /// Whether the server takes requests.
    pub fn ready(&self) -> bool {
        self.inner.front.health.is_ready()
    }

    /// Waits until the server has ended, after its token was cancelled.
    pub async fn join(self) {
        if self.supervisor.await.is_err() {
            tracing::error!("the server's supervisor panicked");
        }
    }
}

impl Inner {
    async fn renew_certificates(self: Arc<Self>, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return, // cancel-safe: a token stays cancelled
                () = tokio::time::sleep(RENEW_EVERY) => {} // cancel-safe: a timer
            }
            let names = self.names.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Err(error) = self.pki.renew_server(&names, SystemTime::now()) {
                tracing::error!(%error, "cannot renew the server certificate");
            }
        }
    }
}

/// What ends when, and in which order.
struct Ending {
    shutdown: CancellationToken,
    abort: CancellationToken,
    backstage: [CancellationToken; 2],
    registry_tasks: Vec<JoinHandle<()>>,
    servers: Option<Arc<Servers>>,
}

impl Ending {
    async fn run(self, inner: Arc<Inner>) {
        self.shutdown.cancelled().await;
        inner.front.health.set_leaving();
        inner.tasks.close();
        if tokio::time::timeout(DRAIN, inner.tasks.wait()).await.is_err() {
            self.abort.cancel();
            inner.tasks.wait().await;
        }
        self.backstage.iter().for_each(CancellationToken::cancel);
        for task in self.registry_tasks {
            if task.await.is_err() {
                tracing::error!("a task of the registry panicked");
            }
        }
        if let Some(servers) = self.servers
            && tokio::time::timeout(LEAVE, servers.leave()).await.is_err()
        {
            tracing::warn!("the store did not answer; the other servers will find this one gone");
        }
    }
}

/// What follows from the configuration alone.
struct Plan {
    url: String,
    names: ServerNames,
    settings: Settings,
    /// Where pods reach this server, when that is known.
    advertised: Option<SocketAddr>,
    /// Where other servers reach it.
    own_address: SocketAddr,
}

impl Plan {
    fn of(config: &Config) -> Result<Self, Error> {
        let service_cidr = config::parse_cidr(&config.service_cidr)
            .ok_or_else(|| Error::Config(format!("service network {:?} is not a.b.c.d/n", config.service_cidr)))?;
        let mut listening = Vec::new();
        for listener in &config.listeners {
            listening.push(listener.local_addr().map_err(Error::Listener)?);
        }
        let first = *listening.first().ok_or_else(|| Error::Config("there is no listener".to_owned()))?;
        let url_host = if first.ip().is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { first.ip() };
        let settings = Settings { service_cidr, node_ports: config.node_port_range.clone() };
        let addresses = listening
            .iter()
            .map(SocketAddr::ip)
            .chain(config.advertise_address)
            .chain([settings.first_address().into()]);
        let advertised = match config.advertise_address {
            Some(address) => Some(SocketAddr::new(address, first.port())),
            None => listening.iter().copied().find(|address| is_reachable(address.ip())),
        };
        let own_host = config.advertise_address.unwrap_or(url_host);
        Ok(Self {
            own_address: SocketAddr::new(own_host, first.port()),
            url: format!("https://{}", SocketAddr::new(url_host, first.port())),
            names: pki::server_names(addresses),
            settings,
            advertised,
        })
    }
}

/// Whether an address means this server to anyone but this host.
fn is_reachable(address: IpAddr) -> bool {
    !address.is_loopback() && !address.is_unspecified()
}

fn write_kubeconfig(pki: &Pki, path: &Path, cluster: &str, url: &str) -> Result<(), Error> {
    pki.write_admin_kubeconfig(path, cluster, url).map_err(Error::Pki)
}
