//! Which way leads to each node. Pure.

use std::{collections::BTreeMap, net::Ipv4Addr};

use super::{super::Cidr, peer::Peer};

/// An address of this host, with the length of its network and the index of its link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalAddress {
    /// The address.
    pub address: Ipv4Addr,
    /// Bits of the network that lies on the link.
    pub prefix: u8,
    /// The link.
    pub link: u32,
}

/// Where the packets for a network go next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hop {
    /// To a node on a link that we share.
    Link {
        /// The node.
        gateway: Ipv4Addr,
        /// The link's index.
        link: u32,
    },
    /// Through the VXLAN device, to its end at the other node.
    Tunnel {
        /// The end's address: the first of the node's pods' network, which no pod has.
        gateway: Ipv4Addr,
    },
}

/// All ways.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fabric {
    /// By the pods' network.
    pub routes: BTreeMap<Cidr, Hop>,
    /// The nodes behind the VXLAN device, by their end's address.
    pub tunnel: BTreeMap<Ipv4Addr, Ipv4Addr>,
}

/// Decides. `own` is the address that this node gives for itself: only the link that has it is taken to be shared with
/// others, for another (a storage network, a container's bridge) may have the same addresses as a network elsewhere. A
/// node whose address is one of this host's shares its routes already: two agents of one host.
pub fn desired(peers: &[Peer], own: Option<Ipv4Addr>, host: &[LocalAddress]) -> Fabric {
    let mut fabric = Fabric::default();
    for peer in peers {
        if host.iter().any(|local| local.address == peer.address) {
            continue;
        }
        let near = host.iter().filter(|local| Some(local.address) == own && shares_link(local, peer.address));
        let hop = match near.max_by_key(|local| local.prefix) {
            Some(local) => Hop::Link { gateway: peer.address, link: local.link },
            None => {
                fabric.tunnel.insert(peer.pod_cidr.network(), peer.address);
                Hop::Tunnel { gateway: peer.pod_cidr.network() }
            }
        };
        fabric.routes.insert(peer.pod_cidr, hop);
    }
    fabric
}

fn shares_link(local: &LocalAddress, address: Ipv4Addr) -> bool {
    local.prefix < 32 && Cidr::new(local.address, local.prefix).is_some_and(|network| network.contains(address))
}
