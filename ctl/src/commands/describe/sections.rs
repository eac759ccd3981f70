//! What is said of each kind.

use drover_api::{
    object::{self, str_at},
    table::human_duration,
};
use serde_json::Value;

use super::page::Page;
use crate::{
    commands::annotations::{LAST_APPLIED, REVISION, annotation},
    explain,
    input::to_yaml,
    output::{Table, Text},
    progress,
};

mod pod;

/// What a description needs besides the object.
#[derive(Debug, Default)]
pub(super) struct Related {
    pub(super) events: Vec<Value>,
    pub(super) slices: Vec<Value>,
    pub(super) pods: Vec<Value>,
    pub(super) replica_sets: Vec<Value>,
}

/// Name, namespace, labels, age.
pub(super) fn header(found: &Value, now_secs: i64, page: &mut Page) {
    page.field("Name", object::name(found));
    page.field("Namespace", object::namespace(found));
    page.field("Kind", &format!("{} ({})", str_at(found, &["kind"]), str_at(found, &["apiVersion"])));
    let created = str_at(found, &["metadata", "creationTimestamp"]);
    if let Ok(time) = created.parse::<jiff::Timestamp>() {
        page.field("Created", &format!("{created} ({} ago)", human_duration(now_secs - time.as_second())));
    }
    page.map("Labels", object::at(found, &["metadata", "labels"]));
    let mut annotations = object::at(found, &["metadata", "annotations"]).cloned();
    if let Some(annotations) = annotations.as_mut().and_then(Value::as_object_mut) {
        annotations.remove(LAST_APPLIED);
    }
    page.map("Annotations", annotations.as_ref());
    for owner in items(found, &["metadata", "ownerReferences"]).iter().filter(|owner| owner["controller"] == true) {
        page.field("Controlled by", &format!("{}/{}", str_at(owner, &["kind"]), str_at(owner, &["name"])));
    }
}

/// The parts that differ by kind.
pub(super) fn of_kind(found: &Value, related: &Related, page: &mut Page) {
    match str_at(found, &["kind"]) {
        "Pod" => pod::describe(found, &related.events, page),
        "Deployment" | "ReplicaSet" => workload(found, related, page),
        "Service" => service(found, related, page),
        "Node" => node(found, related, page),
        "PersistentVolumeClaim" => claim(found, related, page),
        "Secret" => secret(found, page),
        _ => generic(found, page),
    }
}

/// The conditions, whatever the kind.
pub(super) fn conditions(found: &Value, page: &mut Page) {
    let listed = items(found, &["status", "conditions"]);
    if listed.is_empty() {
        return;
    }
    page.heading("Conditions");
    let mut table = Table::new();
    table.row(["TYPE", "STATUS", "REASON", "MESSAGE"]);
    for one in listed {
        let message = str_at(one, &["message"]).split_whitespace().collect::<Vec<_>>().join(" ");
        table.row([str_at(one, &["type"]), str_at(one, &["status"]), str_at(one, &["reason"]), &message]);
    }
    page.table(&table);
}

fn workload(found: &Value, related: &Related, page: &mut Page) {
    page.field("State", progress::state(found, 0).words());
    if let Some(reason) = explain::workload(found) {
        page.field("Trouble", &reason.what);
        page.field("Try", reason.hint.as_deref().unwrap_or_default());
    }
    page.field("Selector", &crate::commands::pods::selector_of(found).unwrap_or_default());
    let count = |path: &[&str]| object::at(found, path).and_then(Value::as_i64).unwrap_or(0);
    let replicas = format!(
        "{} desired, {} updated, {} total, {} available",
        count(&["spec", "replicas"]),
        count(&["status", "updatedReplicas"]),
        count(&["status", "replicas"]),
        count(&["status", "availableReplicas"])
    );
    page.field("Replicas", &replicas);
    let rolling = object::at(found, &["spec", "strategy", "rollingUpdate"]);
    let bounds = rolling.map(|one| {
        format!(" (max surge {}, max unavailable {})", spell(&one["maxSurge"]), spell(&one["maxUnavailable"]))
    });
    page.field("Strategy", &format!("{}{}", str_at(found, &["spec", "strategy", "type"]), bounds.unwrap_or_default()));
    page.heading("Pod template");
    for container in items(found, &["spec", "template", "spec", "containers"]) {
        pod::container(container, None, page);
    }
    let sets = related.replica_sets.iter().filter(|set| {
        items(set, &["metadata", "ownerReferences"]).iter().any(|owner| str_at(owner, &["uid"]) == object::uid(found))
    });
    let mut sets: Vec<&Value> = sets.collect();
    sets.sort_by_key(|set| std::cmp::Reverse(annotation(set, REVISION).parse::<i64>().unwrap_or(0)));
    if !sets.is_empty() {
        page.heading("ReplicaSets");
        let mut table = Table::new();
        table.row(["REVISION", "NAME", "DESIRED", "READY"]);
        for set in sets {
            let count = |path: &[&str]| object::at(set, path).and_then(Value::as_i64).unwrap_or(0).to_string();
            let (desired, ready) = (count(&["spec", "replicas"]), count(&["status", "readyReplicas"]));
            table.row([annotation(set, REVISION), object::name(set), &desired, &ready]);
        }
        page.table(&table);
    }
}

fn service(found: &Value, related: &Related, page: &mut Page) {
    page.field("Type", str_at(found, &["spec", "type"]));
    page.field("Cluster IP", str_at(found, &["spec", "clusterIP"]));
    page.field("Selector", &crate::commands::pods::selector_of(found).unwrap_or_else(|| "<none>".to_owned()));
    for port in items(found, &["spec", "ports"]) {
        let node_port = port["nodePort"].as_i64().map_or(String::new(), |port| format!(", node port {port}"));
        let name = str_at(port, &["name"]);
        let text = format!(
            "{}/{} → {}{node_port}",
            spell(&port["port"]),
            str_at(port, &["protocol"]),
            spell(&port["targetPort"])
        );
        page.field("Port", &if name.is_empty() { text } else { format!("{name} {text}") });
    }
    page.field("Session affinity", str_at(found, &["spec", "sessionAffinity"]));
    let mut table = Table::new();
    table.row(["ADDRESS", "POD", "NODE", "STATE"]);
    let mut any = false;
    for slice in &related.slices {
        for endpoint in items(slice, &["endpoints"]) {
            let conditions = &endpoint["conditions"];
            let state = match (conditions["terminating"] == true, conditions["ready"] == true) {
                (true, _) => "terminating",
                (false, true) => "ready",
                (false, false) => "not ready",
            };
            let address = endpoint["addresses"][0].as_str().unwrap_or_default();
            table.row([address, str_at(endpoint, &["targetRef", "name"]), str_at(endpoint, &["nodeName"]), state]);
            any = true;
        }
    }
    if any {
        page.heading("Endpoints");
        page.table(&table);
    } else {
        page.field("Endpoints", "<none>");
    }
}

fn node(found: &Value, related: &Related, page: &mut Page) {
    if object::at(found, &["spec", "unschedulable"]).and_then(Value::as_bool).unwrap_or(false) {
        page.field("Unschedulable", "true: cordoned");
    }
    page.field("Pod CIDR", str_at(found, &["spec", "podCIDR"]));
    for taint in items(found, &["spec", "taints"]) {
        let (key, value) = (str_at(taint, &["key"]), str_at(taint, &["value"]));
        page.field("Taint", &format!("{key}={value}:{}", str_at(taint, &["effect"])));
    }
    for address in items(found, &["status", "addresses"]) {
        page.field(str_at(address, &["type"]), str_at(address, &["address"]));
    }
    page.map("Capacity", object::at(found, &["status", "capacity"]));
    page.map("Allocatable", object::at(found, &["status", "allocatable"]));
    page.map("System", object::at(found, &["status", "nodeInfo"]));
    let running =
        related.pods.iter().filter(|pod| !matches!(str_at(pod, &["status", "phase"]), "Succeeded" | "Failed"));
    let mut table = Table::new();
    table.row(["NAMESPACE", "NAME", "CPU", "MEMORY"]);
    let mut count = 0;
    for pod in running {
        let asks = |resource: &str| pod::requests(pod, resource);
        table.row([object::namespace(pod), object::name(pod), &asks("cpu"), &asks("memory")]);
        count += 1;
    }
    page.field("Pods", &count.to_string());
    if count > 0 {
        page.table(&table);
    }
}

fn claim(found: &Value, related: &Related, page: &mut Page) {
    page.field("Status", str_at(found, &["status", "phase"]));
    page.field("Volume", str_at(found, &["spec", "volumeName"]));
    page.field("Class", str_at(found, &["spec", "storageClassName"]));
    page.field("Asked", str_at(found, &["spec", "resources", "requests", "storage"]));
    page.field("Capacity", str_at(found, &["status", "capacity", "storage"]));
    page.field(
        "Access",
        &items(found, &["spec", "accessModes"]).iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","),
    );
    let uses = |pod: &&Value| {
        let mut volumes = items(pod, &["spec", "volumes"]).iter();
        volumes.any(|volume| str_at(volume, &["persistentVolumeClaim", "claimName"]) == object::name(found))
    };
    let users: Vec<&str> = related.pods.iter().filter(uses).map(object::name).collect();
    page.field("Used by", if users.is_empty() { "<none>" } else { "" });
    page.field("Used by", &users.join(", "));
    if str_at(found, &["status", "phase"]) == "Pending" && users.is_empty() {
        page.field("Waits for", "a pod that uses it, when its class binds on first use");
    }
}

/// Names and sizes only.
fn secret(found: &Value, page: &mut Page) {
    page.field("Type", str_at(found, &["type"]));
    page.heading("Data");
    let data = object::at(found, &["data"]).and_then(Value::as_object);
    for (key, value) in data.into_iter().flatten() {
        // Four letters of base64 are three bytes, less the padding.
        let text = value.as_str().unwrap_or_default();
        let bytes =
            text.len() / 4 * 3 - text.bytes().rev().take_while(|byte| *byte == b'=').count().min(text.len() / 4 * 3);
        page.indented(1, key, &format!("{bytes} bytes"));
    }
}

/// Everything but metadata and conditions, as YAML.
fn generic(found: &Value, page: &mut Page) {
    for (name, part) in found.as_object().into_iter().flatten() {
        if matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
            continue;
        }
        let mut part = part.clone();
        if let Some(status) = part.as_object_mut().filter(|_| name == "status") {
            status.remove("conditions");
        }
        match &part {
            Value::Null => {}
            Value::Object(fields) if fields.is_empty() => {}
            Value::Bool(_) | Value::Number(_) | Value::String(_) => page.field(&title(name), &spell(&part)),
            Value::Array(_) | Value::Object(_) => {
                page.heading(&title(name));
                to_yaml(&part).lines().for_each(|line| page.line(Text::from(format!("  {line}"))));
            }
        }
    }
}

fn title(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn spell(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "<unset>".to_owned(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

fn items<'a>(found: &'a Value, path: &[&str]) -> &'a [Value] {
    object::at(found, path).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}
