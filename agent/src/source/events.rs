//! Events about pods: what happened, for people. Bounded, aggregated, never waited for.

use std::{collections::HashMap, fmt, sync::Arc};

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Pod};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{chance::Chance, clock::Clock};

/// Events that wait to be written; more are dropped, for they are hints.
const QUEUE_LIMIT: usize = 1024;
/// Different events remembered for counting.
const AGGREGATES_MAX: usize = 2048;

/// Writes events. Cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    queue: mpsc::Sender<Record>,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Record {
    subject: Subject,
    warning: bool,
    reason: String,
    message: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Subject {
    kind: &'static str,
    namespace: String,
    name: String,
    uid: String,
    field_path: Option<String>,
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Recorder")
    }
}

impl Recorder {
    /// Starts the writer; it ends on `shutdown`.
    pub fn spawn(client: Client, node: String, clock: Clock, chance: Chance, shutdown: CancellationToken) -> Self {
        let (queue, records) = mpsc::channel(QUEUE_LIMIT);
        let writer = Writer { client, node: node.into(), clock, chance, seen: HashMap::new() };
        tokio::spawn(async move {
            // Cancel-safe: an event lost at the end of the agent is a lost hint.
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = writer.run(records) => {}
            }
        });
        Self { queue }
    }

    /// A recorder that drops everything, for simulations.
    pub fn silent() -> Self {
        Self { queue: mpsc::channel(1).0 }
    }

    /// Notes something about a pod, or about one of its containers.
    pub fn pod(&self, pod: &Pod, container: Option<&str>, warning: bool, reason: &str, message: &str) {
        let meta = &pod.metadata;
        let subject = Subject {
            kind: "Pod",
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            field_path: container.map(|name| format!("spec.containers{{{name}}}")),
        };
        self.send(subject, warning, reason, message);
    }

    /// Notes something about the node.
    pub fn node(&self, name: &str, warning: bool, reason: &str, message: &str) {
        let subject = Subject {
            kind: "Node",
            namespace: "default".to_owned(),
            name: name.to_owned(),
            uid: name.to_owned(),
            field_path: None,
        };
        self.send(subject, warning, reason, message);
    }

    fn send(&self, subject: Subject, warning: bool, reason: &str, message: &str) {
        let message: String = message.chars().take(1024).collect();
        let record = Record { subject, warning, reason: reason.to_owned(), message };
        // A full queue drops the event: it is a hint, and the status says the same.
        let _ = self.queue.try_send(record);
    }
}

struct Writer {
    client: Client,
    node: Arc<str>,
    clock: Clock,
    chance: Chance,
    seen: HashMap<Record, (String, i32)>,
}

impl Writer {
    async fn run(mut self, mut records: mpsc::Receiver<Record>) {
        while let Some(record) = records.recv().await {
            if let Err(error) = self.write(record).await {
                tracing::debug!(%error, "event not written");
            }
        }
    }

    async fn write(&mut self, record: Record) -> Result<(), kube::Error> {
        let namespace = record.subject.namespace.clone();
        let events: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        let now = crate::status::time(self.clock.now());
        if let Some((name, count)) = self.seen.get_mut(&record) {
            *count += 1;
            let patch = serde_json::json!({ "count": *count, "lastTimestamp": now });
            match events.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await {
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                other => return other.map(drop),
            }
        }
        if self.seen.len() >= AGGREGATES_MAX {
            self.seen.clear();
        }
        let name = format!("{}.{:016x}", record.subject.name, self.chance.number());
        let event = Event {
            metadata: kube::api::ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(namespace.clone()),
                ..Default::default()
            },
            involved_object: ObjectReference {
                kind: Some(record.subject.kind.to_owned()),
                namespace: (record.subject.kind != "Node").then_some(namespace),
                name: Some(record.subject.name.clone()),
                uid: Some(record.subject.uid.clone()),
                api_version: Some("v1".to_owned()),
                field_path: record.subject.field_path.clone(),
                resource_version: None,
            },
            type_: Some(if record.warning { "Warning" } else { "Normal" }.to_owned()),
            reason: Some(record.reason.clone()),
            message: Some(record.message.clone()),
            count: Some(1),
            first_timestamp: Some(now.clone()),
            last_timestamp: Some(now),
            source: Some(EventSource { component: Some("drover-agent".to_owned()), host: Some(self.node.to_string()) }),
            reporting_component: Some("drover-agent".to_owned()),
            reporting_instance: Some(self.node.to_string()),
            ..Default::default()
        };
        events.create(&PostParams::default(), &event).await?;
        self.seen.insert(record, (name, 1));
        Ok(())
    }
}
