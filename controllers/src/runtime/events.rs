//! Says what controllers do, as Events that `kubectl describe` shows.
//!
//! Recording never blocks a pass: events go through a bounded channel to one task, which counts repetitions instead
//! of repeating them and folds floods of similar events into one. What does not fit is counted and logged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Api;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::clock::{Environment, whole_seconds};

/// Events that may wait for the recording task.
const CHANNEL_CAPACITY: usize = 4096;
/// Kinds of repetition remembered; beyond it the memory starts anew.
const MEMORY_MAX: usize = 4096;
/// Distinct messages of one reason about one object before they are folded together, as in Kubernetes.
const SIMILAR_MAX: u32 = 10;
/// Repetitions are written at most this often.
const FLUSH_EVERY: Duration = Duration::from_secs(1);
/// An event write may take this long before the next is tried.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Whether an event tells of something wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub enum Severity {
    /// As it should be.
    Normal,
    /// Worth a look.
    Warning,
}

/// Something to tell about an object.
#[derive(Debug, Clone)]
pub struct Notice {
    /// The object.
    pub about: ObjectReference,
    /// Normal or Warning.
    pub severity: Severity,
    /// A word for machines, `CamelCase`.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
}

/// Takes notices for one component. Clones share the channel.
#[derive(Debug, Clone)]
pub struct Recorder {
    component: &'static str,
    tx: mpsc::Sender<(&'static str, Notice)>,
    lost: Arc<AtomicU64>,
}

impl Recorder {
    /// Makes the recorder and the task that writes; the task ends at shutdown.
    pub fn new(
        client: kube::Client,
        environment: Environment,
        shutdown: CancellationToken,
    ) -> (Self, impl Future<Output = ()>) {
        let (tx, rx) = mpsc::channel(CHANNEL_CAPACITY);
        let lost = Arc::new(AtomicU64::new(0));
        let writer = Writer { client, environment, memory: BTreeMap::new(), similar: BTreeMap::new() };
        (Self { component: "drover", tx, lost: lost.clone() }, writer.run(rx, lost, shutdown))
    }

    /// Returns a recorder that signs as `component`.
    pub fn signed(&self, component: &'static str) -> Self {
        Self { component, ..self.clone() }
    }

    /// Tells something about an object. Never waits.
    pub fn record(&self, about: ObjectReference, severity: Severity, reason: &str, message: impl Into<String>) {
        let notice = Notice { about, severity, reason: reason.to_owned(), message: message.into() };
        if self.tx.try_send((self.component, notice)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What makes two notices repetitions of each other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Identity {
    component: &'static str,
    namespace: String,
    name: String,
    uid: String,
    severity: Severity,
    reason: String,
    message: String,
}

#[derive(Debug)]
struct Remembered {
    event_name: String,
    count: i32,
    last: Timestamp,
    dirty: bool,
}

struct Writer {
    client: kube::Client,
    environment: Environment,
    memory: BTreeMap<Identity, Remembered>,
    /// Distinct messages seen for an identity without its message.
    similar: BTreeMap<Identity, u32>,
}

impl Writer {
    async fn run(
        mut self,
        mut rx: mpsc::Receiver<(&'static str, Notice)>,
        lost: Arc<AtomicU64>,
        shutdown: CancellationToken,
    ) {
        let mut dirty = false;
        loop {
            // Cancel-safe: `recv` loses no message when dropped.
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(FLUSH_EVERY), if dirty => {
                    self.flush().await;
                    dirty = false;
                }
                received = rx.recv() => {
                    let Some((component, notice)) = received else { return };
                    dirty |= self.take(component, notice).await;
                }
            }
            let lost = lost.swap(0, Ordering::Relaxed);
            if lost > 0 {
                tracing::warn!(events.lost = lost, "events came faster than they could be written");
            }
        }
    }

    /// Writes a new event, or counts a repetition; returns whether something is left to flush.
    async fn take(&mut self, component: &'static str, notice: Notice) -> bool {
        if self.memory.len() > MEMORY_MAX {
            self.flush().await;
            self.memory.clear();
            self.similar.clear();
        }
        let now = self.environment.now();
        let identity = self.identify(component, &notice);
        if let Some(remembered) = self.memory.get_mut(&identity) {
            remembered.count += 1;
            remembered.last = now;
            remembered.dirty = true;
            return true;
        }
        let event_name = event_name(&identity, now);
        let event = build_event(&identity, notice.about, event_name.clone(), now);
        self.memory.insert(identity.clone(), Remembered { event_name, count: 1, last: now, dirty: false });
        let api: Api<Event> = Api::namespaced(self.client.clone(), &event_namespace(&identity));
        let params = PostParams::default();
        let write = api.create(&params, &event);
        report_write(&identity, tokio::time::timeout(WRITE_TIMEOUT, write).await.map(|result| result.map(drop)));
        false
    }

    fn identify(&mut self, component: &'static str, notice: &Notice) -> Identity {
        let mut identity = Identity {
            component,
            namespace: notice.about.namespace.clone().unwrap_or_default(),
            name: notice.about.name.clone().unwrap_or_default(),
            uid: notice.about.uid.clone().unwrap_or_default(),
            severity: notice.severity,
            reason: notice.reason.clone(),
            message: notice.message.clone(),
        };
        if self.memory.contains_key(&identity) {
            return identity;
        }
        let family = Identity { message: String::new(), ..identity.clone() };
        let members = self.similar.entry(family).or_insert(0);
        *members += 1;
        if *members > SIMILAR_MAX {
            identity.message = "(combined from similar events)".to_owned();
        }
        identity
    }

    async fn flush(&mut self) {
        for (identity, remembered) in self.memory.iter_mut().filter(|(_, remembered)| remembered.dirty) {
            remembered.dirty = false;
            let api: Api<Event> = Api::namespaced(self.client.clone(), &event_namespace(identity));
            let patch =
                serde_json::json!({"count": remembered.count, "lastTimestamp": Time(whole_seconds(remembered.last))});
            let params = PatchParams::default();
            let patch = Patch::Merge(patch);
            let write = api.patch(&remembered.event_name, &params, &patch);
            report_write(identity, tokio::time::timeout(WRITE_TIMEOUT, write).await.map(|result| result.map(drop)));
        }
    }
}

fn report_write(identity: &Identity, result: Result<kube::Result<()>, tokio::time::error::Elapsed>) {
    let failure = match result {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(elapsed) => elapsed.to_string(),
    };
    tracing::debug!(event.reason = %identity.reason, event.about = %identity.name, error = %failure, "event not written");
}

fn event_namespace(identity: &Identity) -> String {
    if identity.namespace.is_empty() { "default".to_owned() } else { identity.namespace.clone() }
}

fn event_name(identity: &Identity, now: Timestamp) -> String {
    let mut hash = Sha256::new();
    hash.update(format!("{identity:?}{now}"));
    let digest = hash.finalize();
    let suffix: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let stem: String = identity.name.chars().take(230).collect();
    format!("{stem}.{suffix}")
}

fn build_event(identity: &Identity, about: ObjectReference, name: String, now: Timestamp) -> Event {
    let at = Some(Time(whole_seconds(now)));
    Event {
        metadata: ObjectMeta { name: Some(name), namespace: Some(event_namespace(identity)), ..ObjectMeta::default() },
        involved_object: about,
        type_: Some(format!("{:?}", identity.severity)),
        reason: Some(identity.reason.clone()),
        message: Some(identity.message.clone()),
        source: Some(EventSource { component: Some(identity.component.to_owned()), host: None }),
        reporting_component: Some(identity.component.to_owned()),
        first_timestamp: at.clone(),
        last_timestamp: at,
        count: Some(1),
        ..Event::default()
    }
}
