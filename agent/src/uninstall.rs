//! Takes back what an agent made on its host. The agent must have ended; data of volumes stays.
//!
//! Goes on past what cannot be removed and says so: repeating it is harmless.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use nix::mount::{MntFlags, umount2};
use serde::{Deserialize, Serialize};

use crate::{
    clock::Clock,
    config::Owner,
    engine::{DockerEngine, Engine as _},
    ids::PodUid,
    ingress::Process,
    ledger::Ledger,
    network::{Cidr, EngineAccess, HostNetwork, NetworkConfig, RuntimeConfig, fabric, remove_bridge_mode, unregister},
    seams::PodNetwork as _,
};

/// What the agent remembers of its network for this day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NetworkRecord {
    pub(crate) pod_cidr: String,
    pub(crate) service_cidr: String,
    /// Missing in what older agents wrote, which had no routes to other nodes.
    #[serde(default)]
    pub(crate) cluster_cidr: Option<String>,
}

/// What is taken back, in the words of the agent's own [`crate::Config`].
#[derive(Debug, Clone)]
pub struct UninstallConfig {
    /// The cluster's name, which all containers carry.
    pub cluster_name: String,
    /// The Node's name.
    pub node_name: String,
    /// `unix:///var/run/docker.sock`.
    pub docker_endpoint: String,
    /// State that outlives the host's restart.
    pub data_dir: PathBuf,
    /// State that does not, for this agent alone.
    pub run_dir: PathBuf,
    /// Where `drover-runc` looks for containers.
    pub links_dir: PathBuf,
    /// The bridge's name.
    pub bridge: String,
    /// The nftables table's name.
    pub table: String,
    /// Where the wrapper is installed.
    pub wrapper_target: PathBuf,
}

/// Removes containers, pod networks, the service table and, when no other agent uses it, the runtime's registration.
/// Returns a sentence for each thing that is still there.
pub async fn uninstall(config: &UninstallConfig) -> Vec<String> {
    let mut left = Vec::new();
    let docker = Arc::new(DockerEngine::new(&config.docker_endpoint));
    remove_containers(config, &docker, &mut left).await;
    remove_network(config, docker.clone(), &mut left).await;
    remove_table(&config.table, &mut left);
    Process::new("haproxy".into(), config.run_dir.join("ingress")).remove();
    unmount_below(&[&config.run_dir, &config.data_dir.join("pods")], &mut left);
    if let Err(error) = fs::remove_dir_all(&config.run_dir)
        && error.kind() != io::ErrorKind::NotFound
    {
        left.push(format!("{}: {error}", config.run_dir.display()));
    }
    if !others_use_the_wrapper(config) {
        remove_runtime(config, &docker, &mut left).await;
    }
    left
}

async fn remove_containers(config: &UninstallConfig, docker: &DockerEngine, left: &mut Vec<String>) {
    let owner = Owner { cluster: config.cluster_name.clone(), node: config.node_name.clone() };
    let ledger = match Ledger::open(&config.data_dir.join("ledger"), owner.clone()) {
        Ok(ledger) => ledger,
        Err(error) => return left.push(error.to_string()),
    };
    let containers = match docker.list_containers(&owner.filter()).await {
        Ok(containers) => containers,
        Err(error) => return left.push(format!("containers: {error}")),
    };
    for container in containers.iter().filter(|container| ledger.owns(container)) {
        match docker.remove_container(&container.id).await {
            Ok(()) => remove_quietly(&config.links_dir.join(container.id.as_str())),
            Err(error) => left.push(format!("container {}: {error}", container.name)),
        }
    }
}

async fn remove_network(config: &UninstallConfig, docker: Arc<DockerEngine>, left: &mut Vec<String>) {
    let Some((pod_cidr, service_cidr, cluster_cidr)) = read_record(&config.data_dir) else { return };
    let network = NetworkConfig {
        bridge: config.bridge.clone(),
        run_dir: config.run_dir.clone(),
        links_dir: config.links_dir.clone(),
        pod_cidr,
        // An older record has none, and such an agent made no rule with it.
        cluster_cidr: cluster_cidr.unwrap_or(pod_cidr),
        service_cidr,
        runtime: "drover".to_owned(),
    };
    if let Some(cluster_cidr) = cluster_cidr
        && let Err(error) = fabric::remove(&config.bridge, cluster_cidr).await
    {
        left.push(format!("routes to other nodes: {error}"));
    }
    if let Err(message) = remove_fallback(config, &network, docker).await {
        return left.push(format!("network: {message}"));
    }
    let network = match HostNetwork::start(network, Clock::System).await {
        Ok(network) => network,
        Err(error) => return left.push(format!("network: {error}")),
    };
    let pods: Vec<PodUid> = network.list().await.unwrap_or_default();
    for pod in pods {
        if let Err(error) = network.remove(&pod).await {
            left.push(format!("network of pod {pod}: {error}"));
        }
    }
    match network.uninstall().await {
        Ok(()) => remove_quietly(&record_path(&config.data_dir)),
        Err(error) => left.push(format!("network: {error}")),
    }
}

async fn remove_fallback(
    config: &UninstallConfig,
    network: &NetworkConfig,
    docker: Arc<DockerEngine>,
) -> Result<(), String> {
    let owner = Owner { cluster: config.cluster_name.clone(), node: config.node_name.clone() };
    let ledger = Ledger::open(&config.data_dir.join("ledger"), owner.clone()).map_err(|error| error.to_string())?;
    let connection = docker.connection().await.map_err(|error| error.to_string())?;
    let access = EngineAccess { engine: docker, docker: connection, owner, ledger };
    remove_bridge_mode(network, &access, Clock::System).await.map_err(|error| error.to_string())
}

fn remove_table(table: &str, left: &mut Vec<String>) {
    // `add` first makes `delete` succeed also when there is no table.
    let script = format!("add table ip {table}; delete table ip {table}");
    match Command::new("nft").arg(script).output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => left.push(format!("nft table {table}: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => left.push(format!("nft: {error}")),
    }
}

/// Unmounts the secrets' memory, subPath binds and namespaces that lie below our folders, innermost first.
fn unmount_below(folders: &[&Path], left: &mut Vec<String>) {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    let mut ours: Vec<PathBuf> =
        points.filter(|point| folders.iter().any(|folder| point.starts_with(folder))).collect();
    ours.sort();
    for point in ours.iter().rev() {
        if let Err(error) = umount2(point, MntFlags::MNT_DETACH) {
            left.push(format!("mount {}: {error}", point.display()));
        }
    }
}

/// Another agent of this host has a run directory beside ours, or containers in the wrapper's directory.
fn others_use_the_wrapper(config: &UninstallConfig) -> bool {
    let siblings = config.run_dir.parent().and_then(|parent| fs::read_dir(parent).ok());
    let other = |entry: io::Result<fs::DirEntry>| {
        entry.is_ok_and(|entry| {
            entry.path() != config.links_dir && entry.path() != config.run_dir && entry.path().is_dir()
        })
    };
    let linked = fs::read_dir(&config.links_dir).is_ok_and(|mut entries| entries.next().is_some());
    linked || siblings.is_some_and(|mut entries| entries.any(other))
}

async fn remove_runtime(config: &UninstallConfig, docker: &DockerEngine, left: &mut Vec<String>) {
    let runtime = RuntimeConfig {
        name: "drover".to_owned(),
        source: config.wrapper_target.clone(),
        program: config.wrapper_target.clone(),
        socket: PathBuf::from(config.docker_endpoint.trim_start_matches("unix://")),
    };
    let removed = match docker.connection().await {
        Ok(connection) => unregister(&runtime, &connection).await.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    if let Err(error) = removed {
        left.push(format!("runtime: {error}"));
    }
}

/// Remembers the network for [`uninstall`].
pub(crate) fn write_record(data_dir: &Path, record: &NetworkRecord) -> io::Result<()> {
    fs::write(record_path(data_dir), serde_json::to_vec(record)?)
}

fn read_record(data_dir: &Path) -> Option<(Cidr, Cidr, Option<Cidr>)> {
    let record: NetworkRecord = serde_json::from_slice(&fs::read(record_path(data_dir)).ok()?).ok()?;
    let cluster_cidr = record.cluster_cidr.and_then(|text| text.parse().ok());
    Some((record.pod_cidr.parse().ok()?, record.service_cidr.parse().ok()?, cluster_cidr))
}

fn record_path(data_dir: &Path) -> PathBuf {
    data_dir.join("network.json")
}

fn remove_quietly(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(file = %path.display(), %error, "not removed");
    }
}
