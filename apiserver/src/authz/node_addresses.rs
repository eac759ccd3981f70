//! Which addresses a node may say are its own or its pods': nobody else's, and none that means "here" to everyone.
//!
//! Traffic follows what nodes report. One that could report any address would have other tenants' traffic, or the
//! control plane's, sent to itself (CVE-2021-25737, CVE-2022-3294; faults A31). Pure.

use std::net::{IpAddr, Ipv4Addr};

use drover_api::object::{at, name, str_at};
use serde_json::Value;

use super::node_restriction::Write;
use crate::objects::{NODES, Objects};

pub(super) fn parse(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("reports an address {text:?} that is none"))
}

/// Refuses a Node that newly reports an address which is not its own.
pub(super) fn check(node: &str, write: &Write<'_>, objects: &dyn Objects) -> Result<(), String> {
    let known = |address: &IpAddr| write.old.is_some_and(|old| is_of(old, *address));
    let mut news = addresses(write.object).filter(|address| !known(address));
    news.try_for_each(|address| nobody_elses(node, address, write.service_cidr, objects))
}

/// Refuses the address of a host that is not the node's; one that has reported none yet may have any that is nobody
/// else's.
pub(super) fn check_host(
    node: &Value,
    address: IpAddr,
    write: &Write<'_>,
    objects: &dyn Objects,
) -> Result<(), String> {
    if is_of(node, address) {
        return Ok(());
    }
    if addresses(node).next().is_some() {
        return Err(format!("is not allowed to report the host address {address}, which is not its own"));
    }
    nobody_elses(name(node), address, write.service_cidr, objects)
}

/// Refuses the address of a pod that is not of the node's pod networks, in the same way.
pub(super) fn check_pod(node: &Value, address: IpAddr, write: &Write<'_>, objects: &dyn Objects) -> Result<(), String> {
    if in_pods(node, address) {
        return Ok(());
    }
    if networks(node).next().is_some() {
        return Err(format!("is not allowed to report the pod address {address}, which is not of its networks"));
    }
    nobody_elses(name(node), address, write.service_cidr, objects)
}

/// Refuses an address that means the reader's own host or link, a Service, another node or another node's pods.
fn nobody_elses(
    node: &str,
    address: IpAddr,
    service_cidr: (Ipv4Addr, u8),
    objects: &dyn Objects,
) -> Result<(), String> {
    let refused = |why: &str| Err(format!("is not allowed to report the address {address}: {why}"));
    if is_special(address) {
        return refused("it does not lead to the node");
    }
    let (base, length) = service_cidr;
    if contains(&format!("{base}/{length}"), address) {
        return refused("it belongs to the Services");
    }
    let others = objects.mentioning(NODES, &[&format!("\"address\":\"{address}\""), &pods_marker(address)]);
    match others.iter().find(|other| name(other) != node && belongs_to(other, address)) {
        Some(other) => refused(&format!("it belongs to node {:?}", name(other))),
        None => Ok(()),
    }
}

/// What the stored form of every node holds whose pods could have the address: networks of nodes are of /16 or less.
fn pods_marker(address: IpAddr) -> String {
    let text = address.to_string();
    let start: String = text.split_inclusive(['.', ':']).take(2).collect();
    format!("\"podCIDR\":\"{start}")
}

/// Whether a node has reported an address as its own.
fn is_of(node: &Value, address: IpAddr) -> bool {
    addresses(node).any(|own| own == address)
}

/// Whether an address lies in the networks that a node was given for its pods.
fn in_pods(node: &Value, address: IpAddr) -> bool {
    !is_special(address) && networks(node).any(|network| contains(network, address))
}

fn networks(node: &Value) -> impl Iterator<Item = &str> {
    let list = at(node, &["spec", "podCIDRs"]).and_then(Value::as_array).into_iter().flatten();
    let all = std::iter::once(str_at(node, &["spec", "podCIDR"])).chain(list.filter_map(Value::as_str));
    all.filter(|network| !network.is_empty())
}

fn addresses(node: &Value) -> impl Iterator<Item = IpAddr> {
    let list = at(node, &["status", "addresses"]).and_then(Value::as_array).into_iter().flatten();
    list.filter_map(|entry| str_at(entry, &["address"]).parse().ok())
}

fn belongs_to(node: &Value, address: IpAddr) -> bool {
    is_of(node, address) || in_pods(node, address)
}

fn is_special(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            v4.is_loopback() || v4.is_link_local() || v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast()
        }
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => is_special(v4.into()),
            None => v6.is_loopback() || v6.is_unicast_link_local() || v6.is_unspecified() || v6.is_multicast(),
        },
    }
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
