//! Our arm: the same containers, as replicas of a Deployment.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Node};
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio::time::sleep;

use crate::{engine::Engine, options::Options, peer, plane::Plane, watcher::PodWatcher};

const NAME: &str = "bench";
/// Bound of the waits that are not measured: a node that registers, objects that go.
const DEADLINE: Duration = Duration::from_secs(60);

/// A client of a running `drover up`, and the watcher beside it.
#[derive(Debug)]
pub(crate) struct Ours<'a> {
    engine: &'a Engine,
    options: &'a Options,
    deployments: Api<Deployment>,
    watcher: PodWatcher,
}

impl<'a> Ours<'a> {
    /// Waits for a ready node and starts the watcher.
    ///
    /// # Errors
    /// When either does not come.
    pub(crate) async fn new(engine: &'a Engine, options: &'a Options, plane: &Plane) -> Result<Self> {
        let client = plane.client().await?;
        wait_for_node(Api::all(client.clone())).await?;
        // A second client has connections of its own, so that watching cannot delay applying.
        let watcher = PodWatcher::start(plane.client().await?, &format!("app={NAME}")).await?;
        Ok(Self { engine, options, deployments: Api::default_namespaced(client), watcher })
    }

    /// Applies a Deployment and returns the time from just before that call to the last pod seen Running.
    ///
    /// # Errors
    /// When they do not all run.
    pub(crate) async fn create(&mut self, replicas: usize) -> Result<Duration> {
        let deployment = deployment(self.options, replicas)?;
        let started = Instant::now();
        self.deployments.create(&PostParams::default(), &deployment).await?;
        let what = format!("{replicas} pods Running");
        let last = self.watcher.until(&what, |seen| seen.running == replicas).await?;
        let running = self.engine.of_cluster(Some("running")).await?.len();
        ensure!(running == replicas, "{running} containers run behind {replicas} Running pods");
        Ok(last - started)
    }

    /// Scales to zero and returns the time from just before that call until the last pod object and the last container
    /// are gone; then, unmeasured, deletes the Deployment.
    ///
    /// # Errors
    /// When something stays.
    pub(crate) async fn remove(&mut self) -> Result<Duration> {
        let to_zero = Patch::Merge(json!({"spec": {"replicas": 0}}));
        let started = Instant::now();
        self.deployments.patch(NAME, &PatchParams::default(), &to_zero).await?;
        let pods_gone = self.watcher.until("no pods", |seen| seen.pods == 0).await?;
        // Asked only now: listing containers before would take the engine's time from removing them.
        let mut all_gone = pods_gone;
        while !self.engine.of_cluster(None).await?.is_empty() {
            ensure!(pods_gone.elapsed() < DEADLINE, "containers stay although their pods are gone");
            sleep(Duration::from_millis(10)).await;
            all_gone = Instant::now();
        }
        self.delete().await?;
        Ok(all_gone - started)
    }

    async fn delete(&self) -> Result<()> {
        self.deployments.delete(NAME, &DeleteParams::background()).await?;
        let asked = Instant::now();
        while self.deployments.get_opt(NAME).await?.is_some() {
            ensure!(asked.elapsed() < DEADLINE, "the Deployment stays");
            sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }
}

async fn wait_for_node(nodes: Api<Node>) -> Result<()> {
    let asked = Instant::now();
    loop {
        let found = nodes.list(&ListParams::default()).await?.items;
        if found.iter().any(is_ready) {
            return Ok(());
        }
        ensure!(asked.elapsed() < DEADLINE, "no node is ready: {found:?}");
        sleep(Duration::from_millis(50)).await;
    }
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// The Deployment of the direct client's container: no probe, no Service, the image that is present.
fn deployment(options: &Options, replicas: usize) -> Result<Deployment> {
    let (name, value) = peer::ENV;
    serde_json::from_value(json!({
        "metadata": {"name": NAME},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": NAME}},
            "template": {
                "metadata": {"labels": {"app": NAME}},
                "spec": {
                    "terminationGracePeriodSeconds": options.grace_secs,
                    "automountServiceAccountToken": false,
                    "containers": [{
                        "name": "hello",
                        "image": options.image,
                        "imagePullPolicy": "IfNotPresent",
                        "env": [{"name": name, "value": value}],
                    }],
                },
            },
        },
    }))
    .context("the manifest is a Deployment")
}
