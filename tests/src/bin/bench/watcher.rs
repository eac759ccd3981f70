//! The independent watcher: a client of its own that counts pods as the API shows them.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    runtime::watcher::{self, Event},
};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};

/// Longest wait for a count; an engine starts more than one container a second.
const DEADLINE: Duration = Duration::from_secs(600);

/// What the watcher has seen last, and when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    /// Pods there are.
    pub(crate) pods: usize,
    /// Pods in phase Running.
    pub(crate) running: usize,
    /// When the event came that led to these counts.
    at: Instant,
}

/// A watch on the pods of one app; ends with this value.
#[derive(Debug)]
pub(crate) struct PodWatcher {
    seen: watch::Receiver<Option<Seen>>,
    task: JoinHandle<()>,
}

impl PodWatcher {
    /// Starts watching and waits for the first whole list.
    ///
    /// # Errors
    /// When none comes.
    pub(crate) async fn start(client: kube::Client, selector: &str) -> Result<Self> {
        let (tx, seen) = watch::channel(None);
        let pods = Api::<Pod>::default_namespaced(client);
        let config = watcher::Config::default().labels(selector);
        let task = tokio::spawn(async move {
            // Every failure of a watch is retried by the watcher; only its channel's end ends this task.
            while let Err(error) = follow(pods.clone(), config.clone(), &tx).await {
                eprintln!("watching pods: {error}");
                sleep(Duration::from_millis(100)).await;
            }
        });
        let mut watcher = Self { seen, task };
        watcher.until("the first list of pods", |_| true).await?;
        Ok(watcher)
    }

    /// Waits for counts that `wanted` accepts and returns when they were seen.
    ///
    /// # Errors
    /// When they do not come, with the last counts.
    pub(crate) async fn until(&mut self, what: &str, wanted: impl Fn(&Seen) -> bool) -> Result<Instant> {
        let accepted = self.seen.wait_for(|seen| seen.as_ref().is_some_and(&wanted));
        let result = timeout(DEADLINE, accepted).await.map(|seen| seen.map(|seen| *seen));
        match result {
            Ok(seen) => Ok(seen?.context("a count was accepted")?.at),
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
    pods: Api<Pod>,
    config: watcher::Config,
    tx: &watch::Sender<Option<Seen>>,
) -> Result<(), watcher::Error> {
    let mut running_by_name: HashMap<String, bool> = HashMap::new();
    let mut listed = false;
    let mut events = std::pin::pin!(watcher::watcher(pods, config));
    while let Some(event) = events.try_next().await? {
        match event {
            Event::Init => (listed, running_by_name) = (false, HashMap::new()),
            Event::InitDone => listed = true,
            Event::Apply(pod) | Event::InitApply(pod) => {
                running_by_name.insert(pod.name_any(), is_running(&pod));
            }
            Event::Delete(pod) => {
                running_by_name.remove(&pod.name_any());
            }
        }
        if listed {
            let running = running_by_name.values().filter(|running| **running).count();
            tx.send_replace(Some(Seen { pods: running_by_name.len(), running, at: Instant::now() }));
        }
    }
    Ok(())
}

fn is_running(pod: &Pod) -> bool {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running")
}
