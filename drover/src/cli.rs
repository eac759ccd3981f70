//! The flags.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, Parser, Subcommand};
use drover_agent::{
    join::{Server as ServerUrl, Trust},
    network::ModeChoice,
};
use drover_apiserver::audit::{FileSink, Limits, Sink};

/// Drover: a Kubernetes-style control plane for fleets of plain Docker Engines.
#[derive(Debug, Parser)]
#[command(name = "drover", version, about)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Everything on this host: store, API server, controllers and an agent on the local Docker Engine.
    Up(Up),
    /// API server and controllers.
    Server(Server),
    /// The API server alone.
    Apiserver(Server),
    /// A node agent for the Docker Engine of this host, in a cluster elsewhere. It dials out and listens on nothing.
    Agent(Agent),
    /// Simulated nodes that speak only the Kubernetes node and pod API, to this or any Kubernetes API server.
    Hollow(Hollow),
    /// The controllers alone, as a client of an API server. Several may run: one leads.
    Controllers(Controllers),
    /// Removes from this host what `up` or an agent made: containers, network, tables and the runtime's registration.
    ///
    /// The data directory with its volumes stays. The server or agent must have ended.
    Uninstall(Uninstall),
}

/// Where state is and where the API answers.
#[derive(Debug, Clone, Args)]
pub(crate) struct Server {
    /// Holds all state.
    #[arg(long, default_value = "/var/lib/drover", value_name = "DIR", value_parser = absolute)]
    pub(crate) data_dir: PathBuf,
    /// Address of the API; port 0 picks a free one. [default: 127.0.0.1:6443 for up, 0.0.0.0:6443 otherwise]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) listen: Option<SocketAddr>,
    /// `embedded`, or `etcd://host:port,…` (`etcds://` for TLS with --etcd-ca, --etcd-cert and --etcd-key).
    #[arg(long, default_value = "embedded")]
    pub(crate) store: String,
    /// Authority that signed etcd's certificate.
    #[arg(long, value_name = "FILE")]
    pub(crate) etcd_ca: Option<PathBuf>,
    /// Our certificate for etcd.
    #[arg(long, value_name = "FILE", requires = "etcd_key")]
    pub(crate) etcd_cert: Option<PathBuf>,
    /// The key of that certificate.
    #[arg(long, value_name = "FILE", requires = "etcd_cert")]
    pub(crate) etcd_key: Option<PathBuf>,
    /// User of an etcd with authentication; the password comes from the environment.
    #[arg(long)]
    pub(crate) etcd_user: Option<String>,
    /// Password of that user.
    #[arg(long, env = "DROVER_ETCD_PASSWORD", hide_env_values = true)]
    pub(crate) etcd_password: Option<String>,
    /// Name of the cluster; labels all that it makes on engines. Kept at the first start. [default: a random one]
    #[arg(long)]
    pub(crate) cluster_name: Option<String>,
    /// Range of pod addresses; each node gets a /22 of it.
    #[arg(long, default_value = "10.128.0.0/9", value_name = "CIDR")]
    pub(crate) cluster_cidr: String,
    /// Range of Service addresses.
    #[arg(long, default_value = "10.96.0.0/16", value_name = "CIDR")]
    pub(crate) service_cidr: String,
    /// Life of the certificates of nodes that join; they renew it at two thirds.
    #[arg(long, default_value = "24h", value_name = "DURATION", value_parser = duration)]
    pub(crate) node_certificate_life: Duration,
    /// Address at which other servers and pods of other hosts reach this one. [default: that of --listen, or of
    /// the default route]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) advertise_address: Option<IpAddr>,
    #[command(flatten)]
    pub(crate) choice: Choice,
    #[command(flatten)]
    pub(crate) audit: Audit,
}

/// Which controllers run, and how.
#[derive(Debug, Clone, Args)]
pub(crate) struct Choice {
    /// Controllers to run: `all`, `none`, or names.
    #[arg(long, default_value = "all", value_delimiter = ',', value_name = "NAME,…")]
    pub(crate) controllers: Vec<String>,
    /// How the scheduler chooses among the nodes that fit.
    #[arg(long, default_value = "spread", value_parser = ["spread", "binpack", "random"])]
    pub(crate) placement: String,
}

/// The audit log in `DIR/audit`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Audit {
    /// Whether to write who did what to `DIR/audit/audit.log`.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, value_name = "true|false")]
    audit_log: bool,
    /// Size at which the file is put aside, in MiB.
    #[arg(long, default_value_t = 100, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    audit_log_maxsize: u64,
    /// Files put aside that are kept.
    #[arg(long, default_value_t = 10, value_name = "COUNT")]
    audit_log_maxbackup: usize,
}

impl Audit {
    /// Returns where the log goes; `None` when it is switched off.
    pub(crate) fn sink(&self, data_dir: &Path) -> Option<Box<dyn Sink>> {
        let limits = Limits {
            bytes_max: self.audit_log_maxsize << 20,
            files_max: self.audit_log_maxbackup,
            ..Limits::new(data_dir.join("audit"))
        };
        self.audit_log.then(|| Box::new(FileSink::new(limits)) as Box<dyn Sink>)
    }
}

/// The controllers without a server.
#[derive(Debug, Clone, Args)]
pub(crate) struct Controllers {
    /// How to reach an API server, as its administrator.
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: PathBuf,
    /// Range of pod addresses; the same as the servers'.
    #[arg(long, default_value = "10.128.0.0/9", value_name = "CIDR")]
    pub(crate) cluster_cidr: String,
    #[command(flatten)]
    pub(crate) choice: Choice,
}

/// The local node.
#[derive(Debug, Clone, Args)]
pub(crate) struct Node {
    /// The Docker Engine's socket.
    #[arg(long, default_value = "unix:///var/run/docker.sock", value_name = "URL")]
    pub(crate) docker: String,
    /// Name of the node. [default: the host's name]
    #[arg(long)]
    pub(crate) node_name: Option<String>,
    /// Address of the node, no other node's. [default: the one of the default route]
    #[arg(long, value_name = "IP")]
    pub(crate) node_ip: Option<IpAddr>,
    /// Labels of the node.
    #[arg(long = "node-label", value_name = "KEY=VALUE", value_parser = label)]
    pub(crate) node_labels: Vec<(String, String)>,
    /// How containers come into their pod's network: through our runtime `wrapper`, or the engine's `bridge`; `auto` takes
    /// the bridge where the wrapper cannot be registered.
    #[arg(long, default_value_t, value_name = "auto|wrapper|bridge")]
    pub(crate) network_mode: ModeChoice,
    /// Bridge that joins the pods of this host; also names the nftables table.
    #[arg(long, default_value = "drover0", value_name = "NAME")]
    pub(crate) bridge: String,
    /// HAProxy, 2.6 or newer. It serves Ingresses where the node has the label node-role.kubernetes.io/ingress.
    #[arg(long, default_value = "haproxy", value_name = "PROGRAM")]
    pub(crate) haproxy: PathBuf,
    /// Port of Ingresses for HTTP.
    #[arg(long, default_value_t = 80, value_name = "PORT")]
    pub(crate) ingress_http_port: u16,
    /// Port of Ingresses for HTTPS.
    #[arg(long, default_value_t = 443, value_name = "PORT")]
    pub(crate) ingress_https_port: u16,
    /// Port of HAProxy's own page and /metrics, on the loopback address.
    #[arg(long, default_value_t = 8404, value_name = "PORT")]
    pub(crate) ingress_stats_port: u16,
}

/// A node of a cluster elsewhere.
#[derive(Debug, Clone, Args)]
pub(crate) struct Agent {
    /// The servers: the first that answers is used, and another one when it no longer does.
    #[arg(long = "server", value_name = "https://HOST:PORT,…", value_delimiter = ',', required = true)]
    pub(crate) servers: Vec<ServerUrl>,
    /// Lets this host in the first time; `droverctl token create` makes one. Later the node's own key does.
    #[arg(long, env = "DROVER_TOKEN", hide_env_values = true, value_name = "ID.SECRET")]
    pub(crate) token: Option<String>,
    /// Fingerprint by which the servers are known the first time; `droverctl token create` prints it.
    #[arg(long, value_name = "sha256:HEX", conflicts_with = "ca_file")]
    pub(crate) ca_pin: Option<Trust>,
    /// The cluster's authority in PEM, in place of its fingerprint.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Refuse to join any other cluster than this.
    #[arg(long)]
    pub(crate) cluster_name: Option<String>,
    /// Holds the node's key and all state.
    #[arg(long, default_value = "/var/lib/drover", value_name = "DIR", value_parser = absolute)]
    pub(crate) data_dir: PathBuf,
    #[command(flatten)]
    pub(crate) node: Node,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Up {
    #[command(flatten)]
    pub(crate) server: Server,
    #[command(flatten)]
    pub(crate) node: Node,
}

/// Simulated nodes.
#[derive(Debug, Clone, Args)]
pub(crate) struct Hollow {
    /// The API server. [default: the kubeconfig's]
    #[arg(long, value_name = "URL")]
    pub(crate) server: Option<String>,
    /// How many nodes.
    #[arg(long, default_value_t = 1)]
    pub(crate) nodes: usize,
    /// Credentials, such as `admin.kubeconfig` in a server's data directory.
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// A bearer token, in place of the kubeconfig's credentials.
    #[arg(long, env = "DROVER_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// Authority that signed the server's certificate. [default: the kubeconfig's]
    #[arg(long, value_name = "FILE")]
    pub(crate) certificate_authority: Option<PathBuf>,
    /// Nodes are named PREFIX-0, PREFIX-1, …
    #[arg(long, default_value = "hollow", value_name = "PREFIX")]
    pub(crate) name_prefix: String,
    /// Labels of every node.
    #[arg(long, value_delimiter = ',', value_name = "KEY=VALUE,…", value_parser = label)]
    pub(crate) labels: Vec<(String, String)>,
    /// How long a container takes to start, such as 50ms or 2s.
    #[arg(long, default_value = "0s", value_name = "DURATION", value_parser = duration)]
    pub(crate) pod_start_latency: Duration,
    /// Images that every node has from the start; any other is pulled at once.
    #[arg(long = "image", value_name = "NAME")]
    pub(crate) images: Vec<String>,
    /// Every node acts as the given credentials' user, not as its own identity system:node:NAME.
    #[arg(long)]
    pub(crate) no_impersonation: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Uninstall {
    /// The data directory that `up` or the agent was started with.
    #[arg(long, default_value = "/var/lib/drover", value_name = "DIR", value_parser = absolute)]
    pub(crate) data_dir: PathBuf,
    #[command(flatten)]
    pub(crate) node: Node,
}

impl Choice {
    /// Returns the names of the controllers asked for.
    pub(crate) fn enabled(&self) -> BTreeSet<String> {
        let all = || drover_controllers::names().map(str::to_owned);
        let asked = self.controllers.iter().filter(|name| *name != "none");
        asked.flat_map(|name| if name == "all" { all().collect() } else { vec![name.clone()] }).collect()
    }
}

/// The engine mounts what lies in the data directory, and takes only absolute paths.
fn absolute(text: &str) -> Result<PathBuf, String> {
    std::path::absolute(text).map_err(|error| error.to_string())
}

/// A number with the unit `ms`, `s`, `m` or `h`.
fn duration(text: &str) -> Result<Duration, String> {
    const UNITS_MS: [(&str, u64); 4] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];
    let wrong = || "must be a number with a unit, such as 50ms, 2s or 24h".to_owned();
    let unit = UNITS_MS.iter().find_map(|(unit, unit_ms)| Some((text.strip_suffix(unit)?, *unit_ms)));
    let (number, unit_ms) = unit.ok_or_else(wrong)?;
    let number: u64 = number.parse().map_err(|_| wrong())?;
    Ok(Duration::from_millis(number.saturating_mul(unit_ms)))
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| "must be KEY=VALUE".to_owned())?;
    Ok((key.to_owned(), value.to_owned()))
}
