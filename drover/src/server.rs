//! Wiring of the API server and the controllers.

use std::{
    fs::File,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    sync::Arc,
};

use anyhow::{Context, Result};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use drover_apiserver::{Handle, request::User};
use drover_controllers::leader::Election;
use drover_controllers::runtime::Environment;
use drover_controllers::scheduler::Strategy;
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{cli, data_dir, store};

/// The namespace that in-process clients use when a request names none.
const DEFAULT_NAMESPACE: &str = "default";

/// An address of documentation (RFC 5737), which no host has: the way to it is the default route.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

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
    let backend = store::open(options).await?;
    let shared = options.store != "embedded";
    let of_store = if shared { drover_apiserver::cluster_of(&*backend).await? } else { None };
    let cluster_name = data_dir::cluster_name(&options.data_dir, options.cluster_name.as_deref(), of_store.as_deref())?;
    let listen: SocketAddr = match options.listen {
        Some(address) => address,
        None => fallback_listen.parse().context("the default address is malformed")?,
    };
    let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    let mut config = drover_apiserver::Config::new(options.data_dir.clone(), vec![listener], backend);
    config.service_cidr.clone_from(&options.service_cidr);
    config.cluster_cidr.clone_from(&options.cluster_cidr);
    config.node_certificate_life = options.node_certificate_life;
    config.cluster_name.clone_from(&cluster_name);
    config.store = match options.store.split_once("://") {
        Some(("etcds", _)) => "etcds",
        Some(_) => "etcd",
        None => "embedded",
    };
    config.audit = options.audit.sink(&options.data_dir);
    config.advertise_address = match options.advertise_address {
        None if listen.ip().is_unspecified() => match own_address() {
            // Other servers must find this one; nodes elsewhere only may.
            Err(error) if shared => return Err(error),
            found => found.ok(),
        },
        given => given,
    };
    config.shared = shared;
    let handle = drover_apiserver::start(config, shutdown.clone()).await?;
    tracing::info!(server.url = %handle.url, cluster.name = %cluster_name, "API server serves");
    Ok(Running { handle: Arc::new(handle), cluster_name, _lock: lock })
}

/// Finds the address by which other hosts know this one; it also goes into the server's certificate: that of the default route. Nothing is sent.
fn own_address() -> Result<IpAddr> {
    let found = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| {
        socket.connect((ELSEWHERE, 9))?;
        socket.local_addr()
    });
    Ok(found.context("cannot find the address at which other servers reach this one: give --advertise-address")?.ip())
}

/// Starts the chosen controllers on the in-process transport.
pub(crate) fn spawn_controllers(
    running: &Running,
    options: &cli::Server,
    tasks: &mut JoinSet<Result<()>>,
    shutdown: &CancellationToken,
) {
    let client = client(running, User::new("system:drover:controllers", &["system:masters"]));
    let identity = running.handle.id.clone();
    let ca_pem = running.handle.ca_pem.clone();
    let config = controllers(&options.choice, &options.cluster_cidr, ca_pem, identity);
    if config.enabled.is_empty() {
        return;
    }
    let shutdown = shutdown.clone();
    tasks.spawn(async move { Ok(drover_controllers::run(client, config, shutdown).await?) });
}

/// Runs the chosen controllers as a client of a server elsewhere.
pub(crate) async fn controllers_alone(options: &cli::Controllers, shutdown: CancellationToken) -> Result<()> {
    let path = &options.kubeconfig;
    let kubeconfig = Kubeconfig::read_from(path).with_context(|| format!("cannot read {}", path.display()))?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    let mut config = config.with_context(|| format!("cannot use {}", path.display()))?;
    // Controllers try again by themselves, and an answer that comes late is one about the past.
    config.default_retry = false;
    let ca_pem: String = config.root_cert.iter().flatten().map(|der| pem(der)).collect();
    anyhow::ensure!(!ca_pem.is_empty(), "{} names no certificate authority", path.display());
    let client = kube::Client::try_from(config).with_context(|| format!("cannot use {}", path.display()))?;
    // A process of its own has no data directory that could keep a name for it.
    let identity = format!("controllers-{:08x}", rand::random::<u32>());
    let config = controllers(&options.choice, &options.cluster_cidr, ca_pem, identity);
    anyhow::ensure!(!config.enabled.is_empty(), "--controllers none leaves nothing to do");
    Ok(drover_controllers::run(client, config, shutdown).await?)
}

fn controllers(
    choice: &cli::Choice,
    cluster_cidr: &str,
    ca_pem: String,
    identity: String,
) -> drover_controllers::Config {
    drover_controllers::Config {
        enabled: choice.enabled(),
        cluster_cidr: cluster_cidr.to_owned(),
        ca_pem,
        placement: Strategy::parse(&choice.placement).unwrap_or_default(),
        environment: Environment::system(),
        election: Some(Election { identity }),
        ..drover_controllers::Config::all()
    }
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// Returns a client that acts as `user` without a socket.
pub(crate) fn client(running: &Running, user: User) -> kube::Client {
    kube::Client::new(running.handle.local_service(user), DEFAULT_NAMESPACE)
}
