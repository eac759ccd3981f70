//! A running cluster as the oracles of `drover-invariants` see it: the API's lists, this host's engine, its nftables
//! table and the agent's records.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::Ipv4Addr,
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use drover_invariants::{Container, ContainerPhase, NodeView, Violation, World, check_invariants};
use k8s_openapi::jiff::Timestamp;
use kube::{Api, ResourceExt, api::ListParams};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::Instant;

use crate::{Cluster, cluster::BRIDGE, run};

/// The longest wait of the rules that [`Cluster::check`] looks at; leaks have tests of their own.
const QUIET: Duration = Duration::from_secs(11);
/// A list of one kind and a list of another are two moments: what differs only between them is gone the next time.
const LOOKS: u32 = 3;

impl Cluster {
    /// Waits until nothing was done for [`QUIET`], and then asks every oracle.
    ///
    /// # Errors
    /// With everything that breaks an invariant.
    pub async fn check(&self) -> Result<()> {
        let started = Instant::now();
        let mut violations = self.violations(0.0).await?;
        ensure!(violations.is_empty(), "{}", told(&violations));
        tokio::time::sleep_until(started + QUIET).await;
        for _ in 0..LOOKS {
            violations = self.violations(started.elapsed().as_secs_f64()).await?;
            if violations.is_empty() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        ensure!(violations.is_empty(), "{}", told(&violations));
        Ok(())
    }

    async fn violations(&self, quiet_secs: f64) -> Result<Vec<Violation>> {
        Ok(check_invariants(&self.world(quiet_secs).await?))
    }

    /// Observes the cluster.
    ///
    /// # Errors
    /// When the API, the engine or the kernel's table cannot be read.
    pub async fn world(&self, quiet_secs: f64) -> Result<World> {
        let client = self.client().await?;
        let world = World {
            now: Timestamp::now(),
            quiet_secs,
            deployments: list(&client).await?,
            replica_sets: list(&client).await?,
            services: list(&client).await?,
            slices: list(&client).await?,
            nodes: list(&client).await?,
            budgets: list(&client).await?,
            volumes: list(&client).await?,
            claims: list(&client).await?,
            events: list(&client).await?,
            pods: list(&client).await?,
            ..World::default()
        };
        let node = world.nodes.first().context("the cluster has a node")?.name_any();
        let view = NodeView {
            containers: self.engine_containers().await?,
            sandboxes: sandboxes(&Path::new("/run/drover").join(BRIDGE))?,
            routes: routes().await?,
            routes_seen: true,
            ..NodeView::default()
        };
        Ok(World { hosts: BTreeMap::from([(node, view)]), ..world })
    }

    async fn engine_containers(&self) -> Result<Vec<Container>> {
        let label = |name: &str| format!("{{{{.Label \"dev.drover.{name}\"}}}}");
        let fields = [label("cluster"), label("pod.uid"), label("container"), label("attempt")].join("|");
        let format = format!("{{{{.Names}}}}|{{{{.State}}}}|{fields}");
        let args = ["ps", "--all", "--no-trunc", "--format", &format];
        let listed = run("docker".as_ref(), &args, "", &[]).await?.success()?;
        let name = self.name()?;
        Ok(listed.lines().filter_map(|line| read_container(line, &name)).collect())
    }
}

fn told(violations: &[Violation]) -> String {
    violations.iter().map(|violation| format!("{violation}\n")).collect()
}

/// All objects of a kind.
pub(crate) async fn list<K>(client: &kube::Client) -> Result<Vec<K>>
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
{
    Ok(Api::<K>::all(client.clone()).list(&ListParams::default()).await?.items)
}

fn read_container(line: &str, cluster: &str) -> Option<Container> {
    let [name, state, of, pod, container, attempt] = line.split('|').collect::<Vec<_>>().try_into().ok()?;
    let phase = match state {
        "created" => ContainerPhase::Created,
        "running" | "paused" | "restarting" => ContainerPhase::Running,
        _ => ContainerPhase::Exited,
    };
    Some(Container {
        name: name.to_owned(),
        pod_uid: (of == cluster && !pod.is_empty()).then(|| pod.to_owned()),
        container: container.to_owned(),
        attempt: attempt.parse().unwrap_or(0),
        phase,
        // The engine does not count the starts of an attempt; the agent starts each once.
        starts: u32::from(phase != ContainerPhase::Created),
    })
}

/// The agent writes a record before it makes a pod's name space, and removes it after the last of it is gone.
fn sandboxes(run_dir: &Path) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(run_dir.join("pods")).into_iter().flatten() {
        let path = entry?.path();
        // It may go, or not be complete, while it is read.
        let record = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
        let address = record.as_ref().and_then(|record| record["address"].as_str());
        let uid = path.file_name().and_then(|name| name.to_str());
        if let Some((uid, address)) = uid.zip(address) {
            found.insert(uid.to_owned(), address.to_owned());
        }
    }
    Ok(found)
}

/// Reads who gets the traffic of each Service port from the comments and the maps of the kernel's chains.
async fn routes() -> Result<BTreeMap<String, BTreeSet<String>>> {
    let listing = run("nft".as_ref(), &["-j", "list", "table", "ip", BRIDGE], "", &[]).await?.success()?;
    let listing: Value = serde_json::from_str(&listing)?;
    let mut routes: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let rules = listing["nftables"].as_array().into_iter().flatten().filter_map(|object| object.get("rule"));
    for rule in rules.filter(|rule| rule["chain"].as_str().is_some_and(|chain| chain.starts_with("svc_"))) {
        if let Some(title) = rule["comment"].as_str() {
            collect_addresses(&rule["expr"], routes.entry(title.to_owned()).or_default());
        }
    }
    Ok(routes)
}

fn collect_addresses(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::String(text) if text.parse::<Ipv4Addr>().is_ok() => drop(found.insert(text.clone())),
        Value::Array(list) => list.iter().for_each(|item| collect_addresses(item, found)),
        Value::Object(fields) => fields.values().for_each(|field| collect_addresses(field, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
