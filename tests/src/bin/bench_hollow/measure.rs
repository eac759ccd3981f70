//! One control plane on one store: a round that does not count, then the rounds that do.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use drover_tests::{Store, eventually};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Node, Service},
};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::json;

use crate::{
    options::Options,
    processes::{Cpu, Processes},
    report::{Report, Round, Span},
    watcher::PodWatcher,
};

const NAME: &str = "bench";
/// Every node has both from the start.
const IMAGES: [&str; 2] = ["hollow:1", "hollow:2"];

/// Measures on one store and enters the rounds into the report.
///
/// # Errors
/// When something does not start, or a count never comes.
pub(crate) async fn run(options: &Options, store: Store, report: &mut Report) -> Result<()> {
    let mut processes = Processes::start(store).await?;
    let client = processes.client().await?;
    let joining = Instant::now();
    processes.start_hollow(options, &IMAGES)?;
    nodes_ready(&client, options.nodes).await?;
    report.note_joined(store, joining.elapsed());
    if options.service {
        let service = json!({"metadata": {"name": NAME}, "spec": {"selector": {"app": NAME}, "ports": [{"port": 80}]}});
        let services: Api<Service> = Api::default_namespaced(client.clone());
        services.create(&PostParams::default(), &serde_json::from_value(service)?).await?;
    }
    let mut watcher = PodWatcher::start(processes.client().await?, "default").await?;
    for number in 0..=options.repeat {
        let round = round(options, &client, &processes, &mut watcher).await?;
        eprintln!("{store:?} round {number}: {round}");
        if number > 0 {
            report.add(store, round);
        }
    }
    report.note_memory(store, processes.resident_bytes()?);
    Ok(())
}

async fn nodes_ready(client: &Client, count: usize) -> Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    eventually("all nodes ready", async || {
        let list = nodes.list(&ListParams::default()).await?;
        let is_ready = |node: &&Node| {
            let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
            conditions.is_some_and(|list| list.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
        };
        let ready = list.items.iter().filter(is_ready).count();
        Ok(if ready == count { Ok(()) } else { Err(ready) })
    })
    .await
}

async fn round(options: &Options, client: &Client, processes: &Processes, watcher: &mut PodWatcher) -> Result<Round> {
    let deployments: Api<Deployment> = Api::default_namespaced(client.clone());
    let count = options.replicas;

    watcher.count(IMAGES[0]);
    let clock = Clock::start(processes)?;
    deployments.create(&PostParams::default(), &deployment(options)?).await?;
    let seen = watcher.until("the last Running", |seen| seen.running == count).await?;
    let apply = clock.stop(processes, seen.at)?;
    let seen = watcher.until("the last Ready", |seen| seen.ready == count).await?;
    let apply_ready = seen.at.context("an event led to the count")?.duration_since(clock.started);

    watcher.count(IMAGES[1]);
    let clock = Clock::start(processes)?;
    let template = json!({"spec": {"containers": [{"name": "app", "image": IMAGES[1]}]}});
    let patch = Patch::Strategic(json!({"spec": {"template": template}}));
    deployments.patch(NAME, &PatchParams::default(), &patch).await?;
    let wanted = |seen: &crate::watcher::Seen| seen.ready == count && seen.running == count && seen.others == 0;
    let seen = watcher.until("the end of the roll", wanted).await?;
    let roll = clock.stop(processes, seen.at)?;
    let (ready_min, alive_max) = (seen.ready_min, seen.alive_max);
    let quarter = count.div_ceil(4);
    ensure!(ready_min + quarter >= count, "only {ready_min} of {count} pods were ready during the roll");
    ensure!(alive_max <= count + quarter, "{alive_max} pods of {count} at once during the roll");

    let clock = Clock::start(processes)?;
    deployments.delete(NAME, &DeleteParams::background()).await?;
    let seen = watcher.until("the last pod gone", |seen| seen.pods == 0).await?;
    let delete = clock.stop(processes, seen.at)?;
    Ok(Round { apply, apply_ready, roll, delete, ready_min, alive_max })
}

struct Clock {
    started: Instant,
    cpu: Cpu,
}

impl Clock {
    fn start(processes: &Processes) -> Result<Self> {
        Ok(Self { cpu: processes.cpu()?, started: Instant::now() })
    }

    fn stop(&self, processes: &Processes, at: Option<Instant>) -> Result<Span> {
        let took = at.context("an event led to the count")?.duration_since(self.started);
        Ok(Span { took, cpu: processes.cpu()?.since(self.cpu) })
    }
}

fn deployment(options: &Options) -> Result<Deployment> {
    let labels = json!({"app": NAME});
    let mut spec = json!({"containers": [{"name": "app", "image": IMAGES[0], "imagePullPolicy": "IfNotPresent",
        "ports": [{"containerPort": 80}]}]});
    if !options.tokens {
        spec["automountServiceAccountToken"] = json!(false);
    }
    Ok(serde_json::from_value(json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": NAME},
        "spec": {"replicas": options.replicas, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec}},
    }))?)
}
