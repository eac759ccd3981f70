//! Which nodes a volume can be reached from, and on which one a new volume goes.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PersistentVolume, VolumeNodeAffinity,
};
use k8s_openapi::api::storage::v1::StorageClass;
use sha2::{Digest, Sha256};

use super::names::HOST_NAME;
use crate::objects::owners;
use crate::scheduler::affinity::matches_selector;

/// Returns the nodes that reach a volume; `None` means all.
pub fn affinity(volume: &PersistentVolume) -> Option<&NodeSelector> {
    volume.spec.as_ref()?.node_affinity.as_ref()?.required.as_ref()
}

/// Whether a node reaches a volume.
pub fn admits(volume: &PersistentVolume, node: &Node) -> bool {
    affinity(volume).is_none_or(|selector| selects(selector, node))
}

fn selects(selector: &NodeSelector, node: &Node) -> bool {
    let none = BTreeMap::new();
    matches_selector(selector, owners::name(&node.metadata), node.metadata.labels.as_ref().unwrap_or(&none))
}

/// Says which node is missing when no node there is reaches the volume.
pub fn missing_node(volume: &PersistentVolume, nodes: &[Arc<Node>]) -> Option<String> {
    let selector = affinity(volume)?;
    if nodes.iter().any(|node| selects(selector, node)) {
        return None;
    }
    Some(match host_name(selector) {
        Some(name) => format!("node \"{name}\", which holds the data of volume"),
        None => "every node that reaches volume".to_owned(),
    })
}

/// Returns the only host a selector admits.
fn host_name(selector: &NodeSelector) -> Option<&str> {
    let [NodeSelectorTerm { match_expressions: Some(expressions), .. }] = selector.node_selector_terms.as_slice()
    else {
        return None;
    };
    let pinned = expressions.iter().find(|expression| expression.key == HOST_NAME && expression.operator == "In")?;
    match pinned.values.as_deref() {
        Some([name]) => Some(name),
        Some(_) | None => None,
    }
}

/// Ties a volume to one node.
pub fn pin(node: &Node) -> VolumeNodeAffinity {
    let labelled = node.metadata.labels.as_ref().and_then(|labels| labels.get(HOST_NAME)).map(String::as_str);
    let requirement = NodeSelectorRequirement {
        key: HOST_NAME.to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![labelled.unwrap_or_else(|| owners::name(&node.metadata)).to_owned()]),
    };
    let term = NodeSelectorTerm { match_expressions: Some(vec![requirement]), match_fields: None };
    VolumeNodeAffinity { required: Some(NodeSelector { node_selector_terms: vec![term] }) }
}

/// Whether a node can take new volumes.
pub fn is_ready(node: &Node) -> bool {
    let ready = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ready = ready.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true);
    ready && !cordoned && !owners::is_terminating(&node.metadata)
}

/// Whether a class lets its volumes be on a node.
pub fn allows(class: &StorageClass, node: &Node) -> bool {
    let terms = class.allowed_topologies.as_deref().unwrap_or_default();
    let labels = node.metadata.labels.as_ref();
    terms.is_empty()
        || terms.iter().any(|term| {
            term.match_label_expressions.iter().flatten().all(|wanted| {
                labels.and_then(|labels| labels.get(&wanted.key)).is_some_and(|value| wanted.values.contains(value))
            })
        })
}

/// Chooses the node of a volume that no pod waits for: always the same for the same claim, spread over the nodes for
/// many, and moved by as few joining or leaving nodes as can be (highest random weight).
pub fn choose<'a>(claim_uid: &str, class: &StorageClass, nodes: &'a [Arc<Node>]) -> Option<&'a Arc<Node>> {
    let candidates = nodes.iter().filter(|node| is_ready(node) && allows(class, node));
    candidates.max_by_key(|node| {
        let name = owners::name(&node.metadata);
        (Sha256::digest(format!("{claim_uid}/{name}")), name.to_owned())
    })
}
