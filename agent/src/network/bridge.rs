//! The bridge that holds the gateway address of the node's pods, and the kernel settings of forwarding.
//!
//! The pods' links are not ports of it; each is routed to by its own /32. Docker loads `br_netfilter`, and on a bridge
//! that calls the translation of Services at the wrong place: the kernel then switches the translated packet to the
//! backend's port itself, past the host's IP stack, and a pod cannot reach itself through a Service at all.

use std::{fs, io, path::PathBuf};

use super::{
    Cidr,
    link::{LinkError, Netlink, hardware_address},
};

/// The MTU where no default route tells one.
pub(super) const USUAL_MTU: u32 = 1500;

/// A failed step of setting up the bridge.
#[derive(Debug, thiserror::Error)]
pub enum BridgeError {
    /// The kernel refused a link, address or route.
    #[error("cannot set up bridge {bridge}")]
    Link {
        /// The bridge.
        bridge: String,
        /// What was refused.
        #[source]
        source: LinkError,
    },
    /// A kernel setting could not be written.
    #[error("cannot write {}", path.display())]
    Setting {
        /// The setting's file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

/// The bridge as it is in the kernel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bridge {
    pub(super) index: u32,
    pub(super) mtu: u32,
}

/// Makes or repairs the bridge, its address, the route for Service addresses and the kernel settings.
pub(super) async fn ensure(netlink: &Netlink, name: &str, pods: Cidr, services: Cidr) -> Result<Bridge, BridgeError> {
    let failed = |source| BridgeError::Link { bridge: name.to_owned(), source };
    let mtu = netlink.uplink_mtu().await.map_err(failed)?.unwrap_or(USUAL_MTU);
    let index = netlink.ensure_bridge(name, mtu, hardware_address(pods.gateway())).await.map_err(failed)?;
    write_settings(name)?;
    netlink.ensure_address(index, pods.gateway(), pods.prefix()).await.map_err(failed)?;
    // Host processes find a route to Service addresses even on a machine without a default route, and what no rule
    // translates does not leave for the Internet.
    netlink.ensure_link_route(index, services).await.map_err(failed)?;
    Ok(Bridge { index, mtu })
}

/// Kernel settings of the host. Redirects are sent when either the link's or the general switch is on, so both go off.
pub(super) fn write_settings(bridge: &str) -> Result<(), BridgeError> {
    write("/proc/sys/net/ipv4/ip_forward".into(), "1")?;
    write("/proc/sys/net/ipv4/conf/all/send_redirects".into(), "0")?;
    write_link_settings(bridge)
}

/// Kernel settings of a link. Strict reverse-path filtering drops what a pod sends under an address that is not its own;
/// without IPv6 the link is silent.
pub(super) fn write_link_settings(link: &str) -> Result<(), BridgeError> {
    let conf = PathBuf::from("/proc/sys/net/ipv4/conf").join(link);
    for (setting, value) in [("send_redirects", "0"), ("rp_filter", "1"), ("route_localnet", "0")] {
        write(conf.join(setting), value)?;
    }
    let ipv6 = PathBuf::from("/proc/sys/net/ipv6/conf").join(link).join("disable_ipv6");
    // A kernel without IPv6 lacks the file.
    if ipv6.exists() { write(ipv6, "1") } else { Ok(()) }
}

/// Written only when different: on some hosts the tree is read-only and already right.
pub(super) fn write(path: PathBuf, value: &str) -> Result<(), BridgeError> {
    if fs::read_to_string(&path).is_ok_and(|present| present.trim() == value) {
        return Ok(());
    }
    fs::write(&path, value).map_err(|source| BridgeError::Setting { path, source })
}
