//! Nodes, Namespaces, ConfigMaps, Secrets, ServiceAccounts, Leases and PriorityClasses.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    Column, age,
    column::{AGE, NAME, Printer, count, items, number, text, text_or, wide},
};
use crate::object::{self, at, str_at};

const ROLE_PREFIX: &str = "node-role.kubernetes.io/";
const ROLE_LABEL: &str = "kubernetes.io/role";

pub(super) const NODE: Printer = Printer {
    columns: &[
        NAME,
        text("Status", "Whether the node is ready and takes pods."),
        text("Roles", "What the node is for."),
        AGE,
        text("Version", "The version of the node's agent."),
        wide("Internal-IP", "The address inside the cluster."),
        wide("External-IP", "The address outside the cluster."),
        wide("OS-Image", "The operating system of the node."),
        wide("Kernel-Version", "The kernel of the node."),
        wide("Container-Runtime", "The container engine of the node and its version."),
    ],
    cells: node,
};

pub(super) const NAMESPACE: Printer = Printer {
    columns: &[NAME, text("Status", "Whether the namespace is active or on its way out."), AGE],
    cells: namespace,
};

pub(super) const CONFIG_MAP: Printer =
    Printer { columns: &[NAME, number("Data", "How many entries there are."), AGE], cells: config_map };

pub(super) const SECRET: Printer = Printer {
    columns: &[NAME, text("Type", "What the secret holds."), number("Data", "How many entries there are."), AGE],
    cells: secret,
};

pub(super) const SERVICE_ACCOUNT: Printer = Printer {
    columns: &[NAME, number("Secrets", "How many secrets the account may mount."), AGE],
    cells: service_account,
};

pub(super) const LEASE: Printer =
    Printer { columns: &[NAME, text("Holder", "Who holds the lease."), AGE], cells: lease };

pub(super) const PRIORITY_CLASS: Printer = Printer {
    columns: &[
        NAME,
        number("Value", "The priority that the class gives."),
        Column {
            name: "Global-Default",
            kind: "boolean",
            format: "",
            description: "Whether pods that name no class get this one.",
            priority: 0,
        },
        AGE,
        text("PreemptionPolicy", "Whether pods of the class may evict others."),
    ],
    cells: priority_class,
};

fn node(object: &Value, now_secs: i64) -> Vec<Value> {
    let info = |field: &'static str| text_or(object, &["status", "nodeInfo", field], "<unknown>");
    vec![
        object::name(object).into(),
        node_status(object).into(),
        node_roles(object).into(),
        age::of(object, now_secs).into(),
        str_at(object, &["status", "nodeInfo", "kubeletVersion"]).into(),
        node_address(object, "InternalIP").into(),
        node_address(object, "ExternalIP").into(),
        info("osImage").into(),
        info("kernelVersion").into(),
        info("containerRuntimeVersion").into(),
    ]
}

fn node_status(object: &Value) -> String {
    let conditions = items(object, &["status", "conditions"]).iter();
    let ready = conditions.rev().find(|condition| str_at(condition, &["type"]) == "Ready");
    let mut status = match ready.map(|condition| str_at(condition, &["status"])) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if at(object, &["spec", "unschedulable"]) == Some(&Value::Bool(true)) {
        status.push_str(",SchedulingDisabled");
    }
    status
}

fn node_roles(object: &Value) -> String {
    let mut roles = BTreeSet::new();
    for (key, value) in object::labels(object).into_iter().flatten() {
        if let Some(role) = key.strip_prefix(ROLE_PREFIX) {
            roles.insert(role);
        } else if key == ROLE_LABEL {
            roles.insert(value.as_str().unwrap_or_default());
        }
    }
    roles.remove("");
    if roles.is_empty() { "<none>".to_owned() } else { roles.into_iter().collect::<Vec<_>>().join(",") }
}

fn node_address<'a>(object: &'a Value, kind: &str) -> &'a str {
    let addresses = items(object, &["status", "addresses"]).iter();
    let found = addresses.into_iter().find(|address| str_at(address, &["type"]) == kind);
    found.map_or("<none>", |address| str_at(address, &["address"]))
}

fn namespace(object: &Value, now_secs: i64) -> Vec<Value> {
    vec![object::name(object).into(), str_at(object, &["status", "phase"]).into(), age::of(object, now_secs).into()]
}

fn config_map(object: &Value, now_secs: i64) -> Vec<Value> {
    let entries = size(object, "data") + size(object, "binaryData");
    vec![object::name(object).into(), entries.into(), age::of(object, now_secs).into()]
}

fn secret(object: &Value, now_secs: i64) -> Vec<Value> {
    vec![
        object::name(object).into(),
        str_at(object, &["type"]).into(),
        size(object, "data").into(),
        age::of(object, now_secs).into(),
    ]
}

fn service_account(object: &Value, now_secs: i64) -> Vec<Value> {
    vec![object::name(object).into(), items(object, &["secrets"]).len().into(), age::of(object, now_secs).into()]
}

fn lease(object: &Value, now_secs: i64) -> Vec<Value> {
    let holder = str_at(object, &["spec", "holderIdentity"]);
    vec![object::name(object).into(), holder.into(), age::of(object, now_secs).into()]
}

fn priority_class(object: &Value, now_secs: i64) -> Vec<Value> {
    vec![
        object::name(object).into(),
        count(object, &["value"]).into(),
        object.get("globalDefault").and_then(Value::as_bool).unwrap_or(false).into(),
        age::of(object, now_secs).into(),
        str_at(object, &["preemptionPolicy"]).into(),
    ]
}

fn size(object: &Value, field: &str) -> usize {
    object.get(field).and_then(Value::as_object).map_or(0, serde_json::Map::len)
}
