//! What an agent may not write even on its own objects: labels that draw pods, its spec, addresses of others. Pure.

use std::net::Ipv4Addr;

use drover_api::{
    object::{self, at, str_at},
    status::ApiError,
};
use serde_json::Value;

use super::{node, node_addresses};
use crate::{
    admission::{Operation, Request},
    objects::{NODES, Objects, PODS, WorldObjects},
};

/// Refuses writes by which an agent would reach beyond its node. A part of admission, run for every write.
///
/// # Errors
/// 403 with the reason.
pub(crate) fn admit(service_cidr: (Ipv4Addr, u8), request: &Request<'_>, object: &Value) -> Result<(), ApiError> {
    let Some(node) = node::name_of(request.user).filter(|_| request.operation != Operation::Delete) else {
        return Ok(());
    };
    let write = Write {
        group: request.kind.group,
        plural: request.kind.plural,
        subresource: request.subresource,
        namespace: request.namespace,
        object,
        old: request.old,
        service_cidr,
    };
    check(node, &write, &WorldObjects(request.world))
        .map_err(|why| ApiError::forbidden(request.kind, request.name, &format!("node {node:?} {why}")))
}

/// A create (`old: None`) or update.
pub(super) struct Write<'a> {
    pub(super) group: &'a str,
    pub(super) plural: &'a str,
    pub(super) subresource: &'a str,
    pub(super) namespace: &'a str,
    pub(super) object: &'a Value,
    pub(super) old: Option<&'a Value>,
    /// The network of Service addresses.
    pub(super) service_cidr: (Ipv4Addr, u8),
}

/// Returns what the node may not do, worded to follow its name.
pub(super) fn check(node: &str, write: &Write<'_>, objects: &dyn Objects) -> Result<(), String> {
    match (write.group, write.plural, write.subresource) {
        ("", "nodes", _) => {
            check_node(node, write)?;
            node_addresses::check(node, write, objects)
        }
        ("", "pods", "status") => check_pod_status(node, write, objects),
        ("", "persistentvolumes", _) => {
            unchanged(write, &["metadata", "ownerReferences"], "owner references")?;
            unchanged(write, &["spec"], "the spec of a volume")
        }
        ("coordination.k8s.io", "leases", _) => check_lease(node, write),
        ("" | "events.k8s.io", "events", _) => check_event(node, write, objects),
        _ => Ok(()),
    }
}

/// A status write may change metadata too, so both ways in are judged alike (CVE-2025-5187).
fn check_node(node: &str, write: &Write<'_>) -> Result<(), String> {
    if object::name(write.object) != node {
        return Err("is not allowed to create another node".to_owned());
    }
    if let Some(key) = changed_labels(write).find(|key| is_reserved(key)) {
        return Err(format!("is not allowed to modify the label {key:?}"));
    }
    if !drover_api::mutants::active("A30-node-owns-itself") {
        unchanged(write, &["metadata", "ownerReferences"], "owner references")?;
    }
    unchanged(write, &["metadata", "finalizers"], "finalizers")?;
    if write.old.is_some() {
        return unchanged(write, &["spec"], "the spec of a node");
    }
    // A node joins with taints, but its networks are given to it.
    for field in ["podCIDR", "podCIDRs"] {
        unchanged(write, &["spec", field], "its pod networks")?;
    }
    Ok(())
}

fn check_pod_status(node: &str, write: &Write<'_>, objects: &dyn Objects) -> Result<(), String> {
    for key in ["labels", "ownerReferences", "finalizers"] {
        unchanged(write, &["metadata", key], "the metadata of a pod")?;
    }
    let mut own = objects.find(NODES, "", node).unwrap_or_default();
    own["metadata"]["name"] = node.into();
    let on_host = at(write.object, &["spec", "hostNetwork"]).and_then(Value::as_bool).unwrap_or(false);
    // What was there already is not news: a node's networks may have changed since.
    let old = write.old.unwrap_or(&Value::Null);
    let news = |one: &'static str, list: &'static str| {
        reported(write.object, one, list).filter(move |text| !reported(old, one, list).any(|known| known == *text))
    };
    for text in news("podIP", "podIPs") {
        let address = node_addresses::parse(text)?;
        if drover_api::mutants::active("A31-any-pod-address") {
            continue;
        }
        if on_host {
            node_addresses::check_host(&own, address, write, objects)?;
        } else {
            node_addresses::check_pod(&own, address, write, objects)?;
        }
    }
    for text in news("hostIP", "hostIPs") {
        node_addresses::check_host(&own, node_addresses::parse(text)?, write, objects)?;
    }
    Ok(())
}

/// The addresses in `status.<one>` and `status.<list>[].ip`.
fn reported<'a>(pod: &'a Value, one: &str, list: &str) -> impl Iterator<Item = &'a str> {
    let many = at(pod, &["status", list]).and_then(Value::as_array).into_iter().flatten();
    let all = std::iter::once(str_at(pod, &["status", one])).chain(many.map(|entry| str_at(entry, &["ip"])));
    all.filter(|text| !text.is_empty())
}

/// Events are what people go by: a node speaks in its own name, about itself and its pods.
fn check_event(node: &str, write: &Write<'_>, objects: &dyn Objects) -> Result<(), String> {
    const WHY: &str = "is only allowed to write its own events, about itself and its pods";
    let said_by = |event: &Value| {
        let of = |path: &[&str]| str_at(event, path).to_owned();
        let names = [of(&["source", "host"]), of(&["reportingInstance"]), of(&["deprecatedSource", "host"])];
        names.iter().any(|name| !name.is_empty()) && names.iter().all(|name| name.is_empty() || name == node)
    };
    let about = |event: &Value| {
        let subject = at(event, &["involvedObject"]).or_else(|| at(event, &["regarding"])).cloned().unwrap_or_default();
        let name = str_at(&subject, &["name"]);
        match str_at(&subject, &["kind"]) {
            "Node" => name == node,
            // Of a pod that is gone there may still be something to say.
            "Pod" => objects
                .find(PODS, str_at(&subject, &["namespace"]), name)
                .is_none_or(|pod| str_at(&pod, &["spec", "nodeName"]) == node),
            _ => false,
        }
    };
    let own = |event: &Value| said_by(event) && about(event);
    if own(write.object) && write.old.is_none_or(own) { Ok(()) } else { Err(WHY.to_owned()) }
}

fn check_lease(node: &str, write: &Write<'_>) -> Result<(), String> {
    if write.namespace == "kube-node-lease" && object::name(write.object) == node {
        return Ok(());
    }
    Err("is not allowed to write another's lease".to_owned())
}

fn unchanged(write: &Write<'_>, path: &[&str], what: &str) -> Result<(), String> {
    let nothing = |value: Option<&Value>| value.is_none_or(|value| value.is_null() || *value == serde_json::json!([]));
    let (new, old) = (at(write.object, path), write.old.and_then(|old| at(old, path)));
    if new == old || (nothing(new) && nothing(old)) { Ok(()) } else { Err(format!("is not allowed to modify {what}")) }
}

fn changed_labels<'a>(write: &'a Write<'_>) -> impl Iterator<Item = &'a String> {
    let (new, old) = (object::labels(write.object), write.old.and_then(object::labels));
    let keys = new.into_iter().chain(old).flat_map(|labels| labels.keys());
    keys.filter(move |key| new.and_then(|labels| labels.get(*key)) != old.and_then(|labels| labels.get(*key)))
}

/// Labels of Kubernetes' own domains decide where pods land; a node sets only those that describe it.
fn is_reserved(key: &str) -> bool {
    const OWN: [&str; 9] = [
        "kubernetes.io/hostname",
        "kubernetes.io/arch",
        "kubernetes.io/os",
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "topology.kubernetes.io/region",
        "topology.kubernetes.io/zone",
        "node.kubernetes.io/instance-type",
        "beta.kubernetes.io/instance-type",
    ];
    let domain = key.split_once('/').map_or("", |(domain, _)| domain);
    let of = |suffix: &str| domain == suffix || domain.ends_with(&format!(".{suffix}"));
    let free = OWN.contains(&key) || domain == "kubelet.kubernetes.io" || domain == "node.kubernetes.io";
    (of("kubernetes.io") || of("k8s.io")) && !free
}
