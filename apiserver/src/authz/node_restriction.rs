//! What an agent may not write even on its own objects: labels that draw pods, its spec, addresses of others. Pure.

use std::net::IpAddr;

use drover_api::{
    object::{self, at, str_at},
    status::ApiError,
};
use serde_json::Value;

use super::node;
use crate::{
    admission::{Operation, Request},
    objects::{NODES, Objects, WorldObjects},
};

/// Refuses writes by which an agent would reach beyond its node. A part of admission, run for every write.
///
/// # Errors
/// 403 with the reason.
pub(crate) fn admit(request: &Request<'_>, object: &Value) -> Result<(), ApiError> {
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
}

/// Returns what the node may not do, worded to follow its name.
pub(super) fn check(node: &str, write: &Write<'_>, objects: &dyn Objects) -> Result<(), String> {
    match (write.group, write.plural, write.subresource) {
        ("", "nodes", "") => check_node(node, write),
        ("", "pods", "status") => check_pod_status(node, write, objects),
        ("", "persistentvolumes", _) => unchanged(write, &["spec"], "the spec of a volume"),
        ("coordination.k8s.io", "leases", _) => check_lease(node, write),
        _ => Ok(()),
    }
}

fn check_node(node: &str, write: &Write<'_>) -> Result<(), String> {
    if object::name(write.object) != node {
        return Err("is not allowed to create another node".to_owned());
    }
    if let Some(key) = changed_labels(write).find(|key| is_reserved(key)) {
        return Err(format!("is not allowed to modify the label {key:?}"));
    }
    if write.old.is_some() {
        unchanged(write, &["spec"], "the spec of a node")?;
        if !drover_api::mutants::active("A30-node-owns-itself") {
            unchanged(write, &["metadata", "ownerReferences"], "owner references")?;
        }
        unchanged(write, &["metadata", "finalizers"], "finalizers")?;
    }
    Ok(())
}

fn check_pod_status(node: &str, write: &Write<'_>, objects: &dyn Objects) -> Result<(), String> {
    for key in ["labels", "ownerReferences", "finalizers"] {
        unchanged(write, &["metadata", key], "the metadata of a pod")?;
    }
    let mut texts: Vec<&str> = vec![str_at(write.object, &["status", "podIP"])];
    let list = at(write.object, &["status", "podIPs"]).and_then(Value::as_array);
    texts.extend(list.into_iter().flatten().map(|entry| str_at(entry, &["ip"])));
    let own = objects.find(NODES, "", node).unwrap_or_default();
    for text in texts.into_iter().filter(|text| !text.is_empty()) {
        let address: IpAddr = text.parse().map_err(|_| format!("reports a pod address {text:?} that is none"))?;
        if !may_have(&own, address) && !drover_api::mutants::active("A31-any-pod-address") {
            return Err(format!("is not allowed to report the pod address {text}, which is not of its networks"));
        }
    }
    Ok(())
}

fn check_lease(node: &str, write: &Write<'_>) -> Result<(), String> {
    if write.namespace == "kube-node-lease" && object::name(write.object) == node {
        return Ok(());
    }
    Err("is not allowed to write another's lease".to_owned())
}

/// A pod's address is of the node's pod networks, or the node's own for a pod on the host's network. While the node
/// has no network yet, anything that could be a pod's will do.
fn may_have(node: &Value, address: IpAddr) -> bool {
    let special = match address {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local() || v4.is_unspecified() || v4.is_multicast(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local() || v6.is_unspecified() || v6.is_multicast(),
    };
    let addresses = at(node, &["status", "addresses"]).and_then(Value::as_array).into_iter().flatten();
    if addresses.map(|entry| str_at(entry, &["address"])).any(|own| own.parse() == Ok(address)) {
        return true;
    }
    let mut networks: Vec<&str> = vec![str_at(node, &["spec", "podCIDR"])];
    let list = at(node, &["spec", "podCIDRs"]).and_then(Value::as_array);
    networks.extend(list.into_iter().flatten().filter_map(Value::as_str));
    networks.retain(|network| !network.is_empty());
    !special && (networks.is_empty() || networks.into_iter().any(|network| contains(network, address)))
}

fn contains(network: &str, address: IpAddr) -> bool {
    let Some((base, length)) = network.split_once('/') else { return false };
    let (Ok(base), Ok(length)) = (base.parse::<IpAddr>(), length.parse::<u32>()) else { return false };
    let same = |base: u128, address: u128, bits: u32| {
        length <= bits && (length == 0 || (base ^ address) >> (bits - length) == 0)
    };
    match (base, address) {
        (IpAddr::V4(base), IpAddr::V4(address)) => same(u32::from(base).into(), u32::from(address).into(), 32),
        (IpAddr::V6(base), IpAddr::V6(address)) => same(base.into(), address.into(), 128),
        _ => false,
    }
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
