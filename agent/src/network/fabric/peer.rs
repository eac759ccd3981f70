//! What the Nodes say of each other. Whatever an agent wrote there is checked: a node must not draw to itself what is
//! another's.

use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc};

use k8s_openapi::api::core::v1::Node;

use super::super::Cidr;

/// This node, and what its cluster is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    /// The node's name.
    pub node_name: String,
    /// The addresses of its pods.
    pub pod_cidr: Cidr,
    /// The addresses of all pods.
    pub cluster_cidr: Cidr,
    /// The addresses of Services.
    pub service_cidr: Cidr,
}

/// Another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub name: String,
    /// The addresses of its pods.
    pub pod_cidr: Cidr,
    /// Its own address.
    pub address: Ipv4Addr,
}

/// The other nodes, and why each that was left out was. Nodes that have no addresses yet are not spoken of.
///
/// Of two nodes that claim the same addresses the first by name has them, so that all nodes decide alike.
pub fn peers(nodes: &[Arc<Node>], own: &Own) -> (Vec<Peer>, BTreeMap<String, String>) {
    let mut nodes: Vec<(&str, &Node)> =
        nodes.iter().filter_map(|node| Some((node.metadata.name.as_deref()?, &**node))).collect();
    nodes.sort_by_key(|(name, _)| *name);
    let (mut peers, mut left_out): (Vec<Peer>, _) = (Vec::new(), BTreeMap::new());
    for (name, node) in nodes.into_iter().filter(|(name, _)| *name != own.node_name) {
        match read(name, node, own) {
            None => {}
            Some(Err(why)) => drop(left_out.insert(name.to_owned(), why)),
            Some(Ok(peer)) => match peers.iter().find(|other| other.claims_of(&peer)) {
                Some(other) => {
                    let why = format!("{} at {} is {}'s already", peer.pod_cidr, peer.address, other.name);
                    left_out.insert(name.to_owned(), why);
                }
                None => peers.push(peer),
            },
        }
    }
    (peers, left_out)
}

/// The address that a node gives for itself inside the cluster.
pub(super) fn internal_address(node: &Node) -> Option<Ipv4Addr> {
    let addresses = node.status.as_ref()?.addresses.as_ref()?;
    let mut internal = addresses.iter().filter(|address| address.type_ == "InternalIP");
    internal.find_map(|address| address.address.parse().ok())
}

fn read(name: &str, node: &Node, own: &Own) -> Option<Result<Peer, String>> {
    let text = node.spec.as_ref()?.pod_cidr.as_deref()?;
    let address = internal_address(node)?;
    let Ok(pod_cidr) = text.parse::<Cidr>() else { return Some(Err(format!("{text:?} is no network"))) };
    let within = own.cluster_cidr.contains(pod_cidr.network()) && pod_cidr.prefix() >= own.cluster_cidr.prefix();
    let private = address.is_loopback() || address.is_link_local() || address.is_unspecified();
    Some(if !within {
        Err(format!("{pod_cidr} lies outside of the cluster's {}", own.cluster_cidr))
    } else if overlap(pod_cidr, own.pod_cidr) {
        Err(format!("{pod_cidr} is this node's own"))
    } else if private || address.is_multicast() || address.is_broadcast() {
        Err(format!("nobody is reached at {address}"))
    } else if own.cluster_cidr.contains(address) || own.service_cidr.contains(address) {
        Err(format!("{address} is an address of pods or Services"))
    } else {
        Ok(Peer { name: name.to_owned(), pod_cidr, address })
    })
}

impl Peer {
    fn claims_of(&self, other: &Self) -> bool {
        overlap(self.pod_cidr, other.pod_cidr) || self.address == other.address
    }
}

fn overlap(one: Cidr, other: Cidr) -> bool {
    one.contains(other.network()) || other.contains(one.network())
}
