//! A client that never stops writing: it remembers what was acknowledged, and how long it had to wait.

use std::time::Duration;

use anyhow::Result;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, api::PostParams};
use serde_json::json;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

/// A server that does not answer a write by then is left for the next one.
const PATIENCE: Duration = Duration::from_secs(1);
/// Some fifty writes a second: enough to see every gap, little enough to leave the machine to the rolls.
const PAUSE: Duration = Duration::from_millis(20);

/// A running writer.
#[derive(Debug)]
pub struct Writer {
    stop: watch::Sender<bool>,
    task: JoinHandle<Written>,
}

/// What came of it.
#[derive(Debug, Default, Clone)]
pub struct Written {
    /// Names of the ConfigMaps that were acknowledged.
    pub acknowledged: Vec<String>,
    /// The longest time between two acknowledged writes.
    pub longest_gap: Duration,
    /// Writes that were refused or had no answer.
    pub failed: usize,
}

impl Writer {
    /// Starts to write ConfigMaps whose names begin with `prefix`, through the first of `clients` that answers.
    pub fn start(clients: Vec<kube::Client>, prefix: &str) -> Self {
        let (stop, stopped) = watch::channel(false);
        let prefix = prefix.to_owned();
        Self { stop, task: tokio::spawn(async move { write(clients, &prefix, &stopped).await }) }
    }

    /// Stops it.
    ///
    /// # Errors
    /// When it panicked.
    pub async fn finish(self) -> Result<Written> {
        self.stop.send_replace(true);
        Ok(self.task.await?)
    }
}

async fn write(clients: Vec<kube::Client>, prefix: &str, stopped: &watch::Receiver<bool>) -> Written {
    let (mut written, mut at, mut last) = (Written::default(), 0, Instant::now());
    for number in 0.. {
        if *stopped.borrow() {
            break;
        }
        let name = format!("{prefix}-{number}");
        let object = serde_json::from_value(json!({"metadata": {"name": name}, "data": {"n": name}}));
        let object: ConfigMap = object.expect("a ConfigMap is made of maps");
        let api = Api::<ConfigMap>::default_namespaced(clients[at % clients.len()].clone());
        match timeout(PATIENCE, api.create(&PostParams::default(), &object)).await {
            Ok(Ok(_)) => {
                written.longest_gap = written.longest_gap.max(last.elapsed());
                last = Instant::now();
                written.acknowledged.push(name);
            }
            Ok(Err(_)) | Err(_) => {
                written.failed += 1;
                at += 1;
            }
        }
        sleep(PAUSE).await;
    }
    written.longest_gap = written.longest_gap.max(last.elapsed());
    written
}
