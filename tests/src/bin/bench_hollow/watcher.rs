//! The independent watcher: a client of its own that reads no more of a pod than it counts.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use futures::{AsyncBufReadExt as _, TryStreamExt as _};
use kube::{
    api::{ListParams, Request, WatchParams},
    core::ObjectMeta,
};
use serde::Deserialize;
use tokio::{sync::watch, task::JoinHandle};

/// Longest wait for a count.
const DEADLINE: Duration = Duration::from_secs(300);

/// What the watcher has seen last, and the extremes since they were asked for last.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Seen {
    /// Pods there are.
    pub(crate) pods: usize,
    /// Pods of the image that counts, in phase Running.
    pub(crate) running: usize,
    /// Pods of any image that are Ready and not being deleted.
    pub(crate) ready: usize,
    /// Pods of other images.
    pub(crate) others: usize,
    /// When the last event came.
    pub(crate) at: Option<Instant>,
    /// The fewest Ready pods, and the most pods not being deleted.
    pub(crate) ready_min: usize,
    pub(crate) alive_max: usize,
    alive: usize,
}

/// A watch on the pods of a namespace; ends with this value.
#[derive(Debug)]
pub(crate) struct PodWatcher {
    seen: watch::Receiver<Seen>,
    image: watch::Sender<String>,
    task: JoinHandle<()>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    running: bool,
    ready: bool,
    deleted: bool,
    counts: bool,
}

#[derive(Deserialize)]
struct PodList {
    metadata: ObjectMeta,
    items: Vec<Pod>,
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    object: Pod,
}

#[derive(Deserialize)]
struct Pod {
    metadata: ObjectMeta,
    /// A bookmark has none.
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize, Default)]
struct Spec {
    #[serde(default)]
    containers: Vec<Container>,
}

#[derive(Deserialize)]
struct Container {
    image: String,
}

#[derive(Deserialize, Default)]
struct Status {
    #[serde(default)]
    phase: String,
    #[serde(default)]
    conditions: Vec<Condition>,
}

#[derive(Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

impl PodWatcher {
    /// Starts watching and waits for the first whole list.
    ///
    /// # Errors
    /// When none comes.
    pub(crate) async fn start(client: kube::Client, namespace: &str) -> Result<Self> {
        let (seen_tx, mut seen) = watch::channel(Seen::default());
        let (image, image_rx) = watch::channel(String::new());
        let path = format!("/api/v1/namespaces/{namespace}/pods");
        let task = tokio::spawn(async move {
            loop {
                // A watch that ends or was too slow for the server is begun anew.
                if let Err(error) = follow(&client, &path, &image_rx, &seen_tx).await {
                    eprintln!("watching pods: {error:#}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        });
        seen.wait_for(|seen| seen.at.is_some()).await.context("no list of pods came")?;
        Ok(Self { seen, image, task })
    }

    /// Counts pods of this image from now on, and begins the extremes anew.
    pub(crate) fn count(&self, image: &str) {
        self.image.send_replace(image.to_owned());
    }

    /// Waits for counts that `wanted` accepts.
    ///
    /// # Errors
    /// When they do not come, with the last counts, or when the watch broke.
    pub(crate) async fn until(&mut self, what: &str, wanted: impl Fn(&Seen) -> bool) -> Result<Seen> {
        let accepted = tokio::time::timeout(DEADLINE, self.seen.wait_for(|seen| wanted(seen))).await;
        match accepted.map(|seen| seen.map(|seen| *seen)) {
            Ok(Ok(seen)) => Ok(seen),
            Ok(Err(_)) => bail!("the watch on pods broke"),
            Err(_) => bail!("{what} did not come; last seen: {:?}", *self.seen.borrow()),
        }
    }
}

impl Drop for PodWatcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(
    client: &kube::Client,
    path: &str,
    image: &watch::Receiver<String>,
    tx: &watch::Sender<Seen>,
) -> Result<()> {
    let collection = Request::new(path);
    let list: PodList = client.request(collection.list(&ListParams::default())?).await?;
    let mut image = image.clone();
    let mut counted = image.borrow_and_update().clone();
    let mut pods: HashMap<String, State> = HashMap::new();
    let mut seen = Seen::default();
    for pod in list.items {
        enter(&mut pods, &mut seen, pod, &counted);
    }
    begin(&mut seen);
    tx.send_replace(seen);
    let revision = list.metadata.resource_version.unwrap_or_default();
    let params = WatchParams { timeout: Some(290), ..WatchParams::default() };
    let mut lines = client.request_stream(collection.watch(&params, &revision)?).await?.lines();
    loop {
        // Cancel-safe: a line that is not whole stays in the reader; a watch keeps its value.
        let line = tokio::select! {
            line = lines.try_next() => line?,
            Ok(()) = image.changed() => {
                counted = image.borrow_and_update().clone();
                // Nothing runs of a new image yet, by the order of this program.
                for state in pods.values_mut() {
                    state.counts = false;
                }
                seen = Seen::default();
                pods.values().for_each(|state| add(&mut seen, *state));
                begin(&mut seen);
                tx.send_replace(seen);
                continue;
            }
        };
        let Some(line) = line else { return Ok(()) };
        let event: Event = serde_json::from_str(&line).with_context(|| line.clone())?;
        match event.kind.as_str() {
            "ADDED" | "MODIFIED" => enter(&mut pods, &mut seen, event.object, &counted),
            "DELETED" => leave(&mut pods, &mut seen, event.object.metadata.name.as_deref().unwrap_or_default()),
            _ => {}
        }
        seen.at = Some(Instant::now());
        seen.ready_min = seen.ready_min.min(seen.ready);
        seen.alive_max = seen.alive_max.max(seen.alive);
        tx.send_replace(seen);
    }
}

fn begin(seen: &mut Seen) {
    seen.at = Some(Instant::now());
    (seen.ready_min, seen.alive_max) = (seen.ready, seen.alive);
}

fn enter(pods: &mut HashMap<String, State>, seen: &mut Seen, pod: Pod, image: &str) {
    let name = pod.metadata.name.unwrap_or_default();
    leave(pods, seen, &name);
    let is_true = |condition: &Condition| condition.kind == "Ready" && condition.status == "True";
    let state = State {
        running: pod.status.phase == "Running",
        ready: pod.status.conditions.iter().any(is_true),
        deleted: pod.metadata.deletion_timestamp.is_some(),
        counts: pod.spec.containers.first().is_some_and(|container| container.image == image),
    };
    add(seen, state);
    pods.insert(name, state);
}

fn add(seen: &mut Seen, state: State) {
    seen.pods += 1;
    seen.running += usize::from(state.running && state.counts && !state.deleted);
    seen.ready += usize::from(state.ready && !state.deleted);
    seen.others += usize::from(!state.counts);
    seen.alive += usize::from(!state.deleted);
}

fn leave(pods: &mut HashMap<String, State>, seen: &mut Seen, name: &str) {
    let Some(state) = pods.remove(name) else { return };
    seen.pods -= 1;
    seen.running -= usize::from(state.running && state.counts && !state.deleted);
    seen.ready -= usize::from(state.ready && !state.deleted);
    seen.others -= usize::from(!state.counts);
    seen.alive -= usize::from(!state.deleted);
}
