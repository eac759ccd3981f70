//! Wiring of the agent of this host: inside a server's process, or of a cluster elsewhere.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, ensure};
use drover_agent::{
    IngressPorts, UninstallConfig,
    chance::Chance,
    join::{JoinOptions, Membership, Trust},
    network::Cidr,
    seams::TunnelDialer,
    streams::InProcessDialer,
};
use drover_apiserver::{Handle, request::User, tunnel::Tunnels};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{cli, data_dir, server};

/// Holds what need not outlive the host's restart: namespaces of pods, links for the runtime wrapper.
const RUN_DIR: &str = "/run/drover";
/// Where the runtime wrapper is installed; the engine's configuration names this path.
const WRAPPER_TARGET: &str = "/usr/local/lib/drover/drover-runc";

/// Starts the agent as a task.
pub(crate) fn spawn(
    running: &server::Running,
    options: &cli::Up,
    tasks: &mut JoinSet<Result<()>>,
    shutdown: &CancellationToken,
) -> Result<()> {
    let node_name = node_name(&options.node)?;
    let user = User::new(format!("system:node:{node_name}"), &["system:nodes"]);
    let tunnels = Arc::clone(&running.handle.tunnels);
    let (gateway_tx, gateway_rx) = watch::channel(None);
    tasks.spawn(serve_pods(Arc::clone(&running.handle), gateway_rx, shutdown.clone()));
    let cluster = Cluster {
        name: running.cluster_name.clone(),
        cluster_cidr: cidr(&options.server.cluster_cidr, "--cluster-cidr")?,
        service_cidr: cidr(&options.server.service_cidr, "--service-cidr")?,
    };
    let config = drover_agent::Config {
        network_ready: Arc::new(move |gateway| {
            gateway_tx.send_replace(Some(gateway));
        }),
        ..config(
            &options.node,
            (&options.server.data_dir, node_name.clone()),
            cluster,
            server::client(running, user),
            Arc::new(InProcessDialer::new(accept_into(tunnels, node_name))),
        )?
    };
    let shutdown = shutdown.clone();
    tasks.spawn(async move { Ok(drover_agent::run(config, shutdown).await?) });
    Ok(())
}

/// Runs the agent of a cluster elsewhere.
pub(crate) async fn run(options: cli::Agent, shutdown: CancellationToken) -> Result<()> {
    data_dir::ensure(&options.data_dir)?;
    let _lock = data_dir::lock(&options.data_dir)?;
    let trust = match (options.ca_pin, &options.ca_file) {
        (Some(pin), _) => Some(pin),
        (None, Some(path)) => Some(Trust::of_file(path)?),
        (None, None) => None,
    };
    let node_name = node_name(&options.node)?;
    let join = JoinOptions {
        servers: options.servers,
        token: options.token,
        trust,
        node_name: node_name.clone(),
        cluster_name: options.cluster_name,
        data_dir: options.data_dir.clone(),
    };
    let Some(member) = drover_agent::join::join(join, &Chance::System, &shutdown).await? else { return Ok(()) };
    let Membership { cluster_name, cluster_cidr, service_cidr, .. } = &member.membership;
    let cluster = Cluster {
        name: data_dir::cluster_name(&options.data_dir, Some(cluster_name), None)?,
        cluster_cidr: cidr(cluster_cidr, "the cluster's network")?,
        service_cidr: cidr(service_cidr, "the cluster's network of Services")?,
    };
    tracing::info!(node.name = node_name, cluster.name = cluster.name, "node of the cluster");
    let place = (&*options.data_dir, node_name);
    let config = config(&options.node, place, cluster, member.client()?, Arc::new(member.tunnel()?))?;
    let renewing = tokio::spawn(member.stay(Chance::System, shutdown.clone()));
    drover_agent::run(config, shutdown).await?;
    renewing.await.context("the renewal of the certificate panicked")
}

/// What an agent must know of its cluster.
struct Cluster {
    name: String,
    cluster_cidr: Cidr,
    service_cidr: Cidr,
}

fn config(
    options: &cli::Node,
    (data_dir, node_name): (&Path, String),
    cluster: Cluster,
    client: kube::Client,
    tunnel: Arc<dyn TunnelDialer>,
) -> Result<drover_agent::Config> {
    Ok(drover_agent::Config {
        client,
        address: options.node_ip,
        labels: options.node_labels.iter().cloned().collect::<BTreeMap<_, _>>(),
        docker_endpoint: options.docker.clone(),
        data_dir: data_dir.to_owned(),
        run_dir: run_dir(options),
        links_dir: PathBuf::from(RUN_DIR).join("containers"),
        cluster_name: cluster.name,
        network_mode: options.network_mode,
        bridge: options.bridge.clone(),
        table: options.bridge.clone(),
        cluster_cidr: cluster.cluster_cidr,
        service_cidr: cluster.service_cidr,
        wrapper: wrapper()?,
        wrapper_target: PathBuf::from(WRAPPER_TARGET),
        haproxy: options.haproxy.clone(),
        ingress: IngressPorts {
            http: options.ingress_http_port,
            https: options.ingress_https_port,
            stats: options.ingress_stats_port,
        },
        network_ready: Arc::new(|_gateway| {}),
        tunnel,
        node_name,
    })
}

/// Takes back what the agent of this host made.
pub(crate) async fn uninstall(options: &cli::Uninstall) -> Result<()> {
    let _lock = data_dir::lock(&options.data_dir)?;
    let config = UninstallConfig {
        cluster_name: data_dir::cluster_name(&options.data_dir, None, None)?,
        node_name: node_name(&options.node)?,
        docker_endpoint: options.node.docker.clone(),
        data_dir: options.data_dir.clone(),
        run_dir: run_dir(&options.node),
        links_dir: PathBuf::from(RUN_DIR).join("containers"),
        bridge: options.node.bridge.clone(),
        table: options.node.bridge.clone(),
        wrapper_target: PathBuf::from(WRAPPER_TARGET),
    };
    let left = drover_agent::uninstall(&config).await;
    ensure!(left.is_empty(), "not removed: {}", left.join("; "));
    Ok(())
}

/// Lets pods reach the API: the server also listens on the address that is their gateway, once there is one.
async fn serve_pods(
    handle: Arc<Handle>,
    mut gateway: watch::Receiver<Option<Ipv4Addr>>,
    shutdown: CancellationToken,
) -> Result<()> {
    // Cancel-safe: waiting on a watch takes nothing from it. The sender goes only with the agent, at the end.
    let address = tokio::select! {
        () = shutdown.cancelled() => return Ok(()),
        ready = gateway.wait_for(Option::is_some) => ready.ok().and_then(|address| *address),
    };
    if let Some(address) = address {
        // Any port will do: pods know the API by its Service, and the endpoint carries the port.
        let listener = TcpListener::bind((address, 0)).await;
        let listener = listener.with_context(|| format!("cannot listen on {address} for pods"))?;
        handle.add_listener(listener).await?;
    }
    shutdown.cancelled().await;
    Ok(())
}

fn accept_into(tunnels: Arc<Tunnels>, node: String) -> impl Fn(tokio::io::DuplexStream) -> std::io::Result<()> {
    move |stream| {
        let (tunnels, node) = (Arc::clone(&tunnels), node.clone());
        tokio::spawn(async move {
            if let Err(error) = tunnels.accept(&node, stream).await {
                tracing::warn!(%error, "tunnel inside the process failed");
            }
        });
        Ok(())
    }
}

/// Each bridge, and so each agent of a host, has state of its own.
fn run_dir(options: &cli::Node) -> PathBuf {
    PathBuf::from(RUN_DIR).join(&options.bridge)
}

fn cidr(text: &str, flag: &str) -> Result<Cidr> {
    text.parse().with_context(|| format!("{flag} {text} is not a network"))
}

fn node_name(options: &cli::Node) -> Result<String> {
    match &options.node_name {
        Some(name) => Ok(name.clone()),
        None => {
            let name = std::fs::read_to_string("/proc/sys/kernel/hostname").context("cannot read the host's name")?;
            Ok(name.trim().to_lowercase())
        }
    }
}

/// The wrapper that was built with us lies beside us.
fn wrapper() -> Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find the running program")?;
    Ok(own.with_file_name("drover-runc"))
}
