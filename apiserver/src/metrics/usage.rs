//! NodeMetrics and PodMetrics objects: pure.

use drover_api::object;
use serde_json::{Value, json};

use super::{
    API_VERSION,
    stats::{Pod, Stats, Used},
};

/// The agents average over about this time.
const WINDOW: &str = "10s";

pub(super) fn node(node: &Value, stats: &Stats, now: &str) -> Value {
    json!({
        "kind": "NodeMetrics",
        "apiVersion": API_VERSION,
        "metadata": metadata(node, now),
        "timestamp": now,
        "window": WINDOW,
        "usage": quantities(stats.node),
    })
}

pub(super) fn pod(pod: &Value, numbers: &Pod, now: &str) -> Value {
    let containers: Vec<Value> = numbers
        .containers
        .iter()
        .map(|container| json!({"name": container.name, "usage": quantities(container.used)}))
        .collect();
    json!({
        "kind": "PodMetrics",
        "apiVersion": API_VERSION,
        "metadata": metadata(pod, now),
        "timestamp": now,
        "window": WINDOW,
        "containers": containers,
    })
}

fn metadata(found: &Value, now: &str) -> Value {
    let mut metadata = json!({"name": object::name(found), "creationTimestamp": now});
    if !object::namespace(found).is_empty() {
        metadata["namespace"] = object::namespace(found).into();
    }
    if let Some(labels) = object::labels(found) {
        metadata["labels"] = labels.clone().into();
    }
    metadata
}

fn quantities(used: Used) -> Value {
    json!({"cpu": format!("{}n", used.cpu_nano_cores), "memory": format!("{}Ki", used.memory_bytes / 1024)})
}
