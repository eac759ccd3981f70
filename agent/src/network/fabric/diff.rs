//! From what the kernel has to what it should have. Pure.

use std::{collections::BTreeMap, net::Ipv4Addr};

use super::{
    super::{Cidr, link::hardware_address},
    desired::{Fabric, Hop},
};

/// What the kernel has, as far as it is ours.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    /// Routes with our protocol number into the cluster's network: gateway and link.
    pub routes: BTreeMap<Cidr, (Ipv4Addr, u32)>,
    /// Permanent neighbours of the VXLAN device.
    pub neighbours: BTreeMap<Ipv4Addr, [u8; 6]>,
    /// Entries of its forwarding table: where frames for a hardware address go.
    pub forwarding: BTreeMap<[u8; 6], Ipv4Addr>,
}

/// One request to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Takes a route of ours away.
    RemoveRoute(Cidr),
    /// Adds a route; one of another's is not replaced.
    AddRoute {
        /// The pods' network.
        to: Cidr,
        /// The next hop.
        gateway: Ipv4Addr,
        /// The link.
        link: u32,
    },
    /// Puts a route in the place of one of ours, without a moment in which there is none.
    ChangeRoute {
        /// The pods' network.
        to: Cidr,
        /// The next hop.
        gateway: Ipv4Addr,
        /// The link.
        link: u32,
    },
    /// Forgets an end of the VXLAN device.
    RemoveNeighbour(Ipv4Addr),
    /// Enters one.
    SetNeighbour(Ipv4Addr, [u8; 6]),
    /// Forgets where frames for a hardware address go.
    RemoveForwarding([u8; 6], Ipv4Addr),
    /// Enters it.
    SetForwarding([u8; 6], Ipv4Addr),
}

/// The steps, in an order in which no packet goes to a wrong node: stale entries go first, routes come last. `device` is
/// the index of the VXLAN device, where there is one.
pub fn diff(observed: &Observed, desired: &Fabric, device: Option<u32>) -> Vec<Step> {
    let routes: BTreeMap<Cidr, (Ipv4Addr, u32)> =
        desired.routes.iter().filter_map(|(to, hop)| Some((*to, resolve(*hop, device)?))).collect();
    let ends = desired.tunnel.iter().filter(|_| device.is_some());
    let neighbours: BTreeMap<Ipv4Addr, [u8; 6]> = ends.clone().map(|(end, _)| (*end, hardware_address(*end))).collect();
    let forwarding: BTreeMap<[u8; 6], Ipv4Addr> = ends.map(|(end, node)| (hardware_address(*end), *node)).collect();
    let mut steps = Vec::new();
    let stale = observed.routes.keys().filter(|to| !routes.contains_key(*to));
    steps.extend(stale.map(|to| Step::RemoveRoute(*to)));
    let stale = observed.neighbours.keys().filter(|end| !neighbours.contains_key(*end));
    steps.extend(stale.map(|end| Step::RemoveNeighbour(*end)));
    let stale = observed.forwarding.iter().filter(|(hardware, node)| forwarding.get(*hardware) != Some(*node));
    steps.extend(stale.map(|(hardware, node)| Step::RemoveForwarding(*hardware, *node)));
    let missing = forwarding.iter().filter(|(hardware, node)| observed.forwarding.get(*hardware) != Some(*node));
    steps.extend(missing.map(|(hardware, node)| Step::SetForwarding(*hardware, *node)));
    let missing = neighbours.iter().filter(|(end, hardware)| observed.neighbours.get(*end) != Some(*hardware));
    steps.extend(missing.map(|(end, hardware)| Step::SetNeighbour(*end, *hardware)));
    let missing = routes.iter().filter(|(to, hop)| observed.routes.get(*to) != Some(*hop));
    steps.extend(missing.map(|(&to, &(gateway, link))| match observed.routes.contains_key(&to) {
        true => Step::ChangeRoute { to, gateway, link },
        false => Step::AddRoute { to, gateway, link },
    }));
    steps
}

fn resolve(hop: Hop, device: Option<u32>) -> Option<(Ipv4Addr, u32)> {
    match hop {
        Hop::Link { gateway, link } => Some((gateway, link)),
        Hop::Tunnel { gateway } => Some((gateway, device?)),
    }
}
