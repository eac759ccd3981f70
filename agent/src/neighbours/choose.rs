//! Whom a node asks. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
};

use k8s_openapi::api::core::v1::Node;
use sha2::{Digest as _, Sha256};

use crate::network::fabric::{Own, peers};

/// Nodes that one node asks; as many are asked by it. Three witnesses outlive the loss of a rack's other hosts.
pub const NEIGHBOURS_MAX: usize = 3;

/// The next nodes in a ring ordered by a hash of the names, which scatters hosts that are named (and so, often, placed)
/// side by side. Nodes whose agents nobody hears are left out: the ring closes around them.
pub fn choose(nodes: &[Arc<Node>], own: &Own) -> BTreeMap<String, Ipv4Addr> {
    let speaks = |node: &&Arc<Node>| {
        let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
        let mut ready = conditions.into_iter().flatten().filter(|condition| condition.type_ == "Ready");
        ready.any(|condition| condition.status != "Unknown")
    };
    let speaking: BTreeSet<&str> =
        nodes.iter().filter(speaks).filter_map(|node| node.metadata.name.as_deref()).collect();
    let place = |name: &str| (Sha256::digest(name).to_vec(), name.to_owned());
    let here = place(&own.node_name);
    let mut ring: Vec<_> = peers(nodes, own)
        .0
        .into_iter()
        .filter(|peer| speaking.contains(peer.name.as_str()))
        .map(|peer| {
            let there = place(&peer.name);
            // Those behind us come after those before us.
            ((there < here, there), peer)
        })
        .collect();
    ring.sort_by(|(one, _), (other, _)| one.cmp(other));
    ring.into_iter().take(NEIGHBOURS_MAX).map(|(_, peer)| (peer.name, peer.address)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(number: u8, ready: &str) -> Arc<Node> {
        let node = json!({
            "metadata": {"name": format!("n{number}")},
            "spec": {"podCIDR": format!("10.64.{number}.0/24")},
            "status": {"addresses": [{"type": "InternalIP", "address": format!("192.168.7.{number}")}],
                "conditions": [{"type": "Ready", "status": ready}]},
        });
        Arc::new(serde_json::from_value(node).expect("a node"))
    }

    fn chosen(nodes: &[Arc<Node>], own: u8) -> Vec<String> {
        let own = Own {
            node_name: format!("n{own}"),
            pod_cidr: format!("10.64.{own}.0/24").parse().expect("a network"),
            cluster_cidr: "10.64.0.0/16".parse().expect("a network"),
            service_cidr: "10.96.0.0/16".parse().expect("a network"),
        };
        choose(nodes, &own).into_keys().collect()
    }

    #[test]
    fn everybody_asks_three_and_is_asked_by_three() {
        let nodes: Vec<_> = (1..=50).map(|number| node(number, "True")).collect();
        let mut asked = BTreeMap::new();
        for number in 1..=50 {
            let chosen = chosen(&nodes, number);
            assert_eq!(chosen.len(), NEIGHBOURS_MAX);
            assert!(!chosen.contains(&format!("n{number}")));
            for name in chosen {
                *asked.entry(name).or_insert(0) += 1;
            }
        }
        assert_eq!(asked.len(), 50);
        assert!(asked.values().all(|count| *count == NEIGHBOURS_MAX), "{asked:?}");
    }

    #[test]
    fn few_nodes_all_ask_each_other_and_a_single_one_asks_nobody() {
        let nodes: Vec<_> = (1..=3).map(|number| node(number, "True")).collect();
        assert_eq!(chosen(&nodes, 2), ["n1", "n3"]);
        assert!(chosen(&nodes[..1], 1).is_empty());
    }

    #[test]
    fn a_node_that_is_not_ready_is_asked_and_one_that_nobody_hears_is_not() {
        let nodes = [node(1, "True"), node(2, "False"), node(3, "Unknown")];
        assert_eq!(chosen(&nodes, 1), ["n2"]);
    }
}
