//! The bridge that holds the gateway address of the node's pods.

use std::{fs, io, path::PathBuf};

use super::{
    Cidr,
    link::{LinkError, Netlink, hardware_address},
};

/// The MTU where no default route tells one.
const USUAL_MTU: u32 = 1500;

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

/// Kernel settings. Redirects are sent when either the link's or the general switch is on, so both go off: a pod's
/// neighbour is never its next hop. Strict reverse-path filtering drops what a pod sends under a foreign address.
fn write_settings(bridge: &str) -> Result<(), BridgeError> {
    let conf = PathBuf::from("/proc/sys/net/ipv4/conf");
    let settings = [
        (PathBuf::from("/proc/sys/net/ipv4/ip_forward"), "1"),
        (conf.join("all/send_redirects"), "0"),
        (conf.join(bridge).join("send_redirects"), "0"),
        (conf.join(bridge).join("rp_filter"), "1"),
        (conf.join(bridge).join("route_localnet"), "0"),
    ];
    for (path, value) in settings {
        // Written only when different: on some hosts the tree is read-only and already right.
        if fs::read_to_string(&path).is_ok_and(|present| present.trim() == value) {
            continue;
        }
        fs::write(&path, value).map_err(|source| BridgeError::Setting { path, source })?;
    }
    Ok(())
}
