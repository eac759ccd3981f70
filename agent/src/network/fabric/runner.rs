//! Keeps the kernel's routes as the Nodes demand them.

use std::{collections::BTreeMap, io, net::Ipv4Addr, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Node;
use sha2::{Digest as _, Sha256};
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    super::{
        bridge::{USUAL_MTU, write_link_settings},
        link::{LinkError, Netlink, hardware_address},
    },
    desired::desired,
    diff::diff,
    kernel::{self, Device},
    peer::{Own, internal_address, peers},
};
use crate::causes::with_causes;

/// How often the kernel is compared with what it should have.
const WATCH: Duration = Duration::from_secs(1);

/// What VXLAN over IPv4 adds to each packet.
const OVERHEAD_BYTES: u32 = 50;

/// The longest name of a link.
const NAME_BYTES_MAX: usize = 15;

/// Settings of the fabric.
#[derive(Debug, Clone)]
pub struct FabricConfig {
    /// This node and its cluster.
    pub own: Own,
    /// The cluster's name: clusters that share hosts keep their packets apart by it.
    pub cluster_name: String,
    /// The bridge of this node's pods; names the VXLAN device.
    pub bridge: String,
}

/// Applies every list of Nodes until `stop`, and repairs what others break. `None` until the Nodes are known: before
/// that the routes of an earlier agent stay as they are. At the end they stay, too.
///
/// # Errors
/// When no netlink socket can be had in the calling thread's name space.
pub async fn run(
    config: FabricConfig,
    mut nodes: watch::Receiver<Option<Vec<Arc<Node>>>>,
    stop: CancellationToken,
) -> io::Result<()> {
    let netlink = Netlink::open()?;
    let (mut said, mut troubles) = (BTreeMap::new(), Vec::new());
    let (mut known, mut is_fresh) = (None, true);
    loop {
        if is_fresh && let Some(list) = nodes.borrow_and_update().clone() {
            let (peers, left_out) = peers(&list, &config.own);
            for (node, why) in left_out.iter().filter(|(node, why)| said.get(*node) != Some(*why)) {
                tracing::warn!(node.name = node, "no route to the pods of this node: {why}");
            }
            said = left_out;
            let own = list.iter().find(|node| node.metadata.name.as_deref() == Some(&config.own.node_name));
            known = Some((peers, own.and_then(|own| internal_address(own))));
        }
        if let Some((peers, own)) = &known {
            let now = step(&config, &netlink, peers, *own).await;
            for trouble in now.iter().filter(|trouble| !troubles.contains(*trouble)) {
                tracing::warn!("routes to other nodes: {trouble}");
            }
            troubles = now;
        }
        // Cancel-safe: a change that is not taken here is still there in the next round.
        is_fresh = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            changed = nodes.changed() => {
                if changed.is_err() {
                    stop.cancelled().await;
                    return Ok(());
                }
                true
            }
            () = sleep(WATCH) => false,
        };
    }
}

/// Takes everything away that [`run`] has made.
///
/// # Errors
/// What the kernel refuses.
pub async fn remove(bridge: &str, cluster: super::super::Cidr) -> Result<(), LinkError> {
    let netlink = Netlink::open().map_err(|error| {
        LinkError::new("open a netlink socket", rtnetlink::Error::NamespaceError(error.to_string()))
    })?;
    let observed = kernel::observe(&netlink, cluster, None).await?;
    for step in diff(&observed, &super::Fabric::default(), None) {
        kernel::apply(&netlink, step, None).await?;
    }
    kernel::remove_device(&netlink, &device_name(bridge)).await
}

/// One comparison. A step that fails does not keep the others from being made; what they said is returned.
async fn step(config: &FabricConfig, netlink: &Netlink, peers: &[super::Peer], own: Option<Ipv4Addr>) -> Vec<String> {
    let mut troubles = Vec::new();
    let outcome = async {
        let host = kernel::local_addresses(netlink).await?;
        let fabric = desired(peers, own, &host);
        let name = device_name(&config.bridge);
        let device = match own.filter(|_| !fabric.tunnel.is_empty()) {
            Some(local) => {
                let link = host.iter().find(|found| found.address == local).map(|found| found.link);
                Some(ensure_device(config, netlink, &name, local, link).await?)
            }
            None => {
                kernel::remove_device(netlink, &name).await?;
                None
            }
        };
        let observed = kernel::observe(netlink, config.own.cluster_cidr, device).await?;
        for step in diff(&observed, &fabric, device) {
            if let Err(error) = kernel::apply(netlink, step, device).await {
                troubles.push(with_causes(&error));
            }
        }
        Ok::<(), LinkError>(())
    };
    if let Err(error) = outcome.await {
        troubles.push(with_causes(&error));
    }
    troubles
}

async fn ensure_device(
    config: &FabricConfig,
    netlink: &Netlink,
    name: &str,
    local: Ipv4Addr,
    link: Option<u32>,
) -> Result<u32, LinkError> {
    let end = config.own.pod_cidr.network();
    // Of the link that packets leave by; behind a translated address it is that of the default route.
    let underlay = match link {
        Some(link) => netlink.mtu(link).await?,
        None => netlink.uplink_mtu().await?,
    };
    let underlay = underlay.unwrap_or(USUAL_MTU);
    let mtu = underlay.saturating_sub(OVERHEAD_BYTES);
    let device = Device { vni: vni(&config.cluster_name), local, hardware: hardware_address(end), mtu };
    let index = kernel::ensure_device(netlink, name, &device, end).await?;
    if let Err(error) = write_link_settings(name) {
        tracing::debug!(%error, "settings of the tunnel");
    }
    Ok(index)
}

/// Clusters on the same hosts have different numbers, but for one chance in sixteen million.
fn vni(cluster: &str) -> u32 {
    let hash = Sha256::digest(cluster);
    u32::from_be_bytes([0, hash[0], hash[1], hash[2]]).max(1)
}

/// The bridge's name with an `x`, cut where it would be too long.
fn device_name(bridge: &str) -> String {
    format!("{}x", bridge.chars().take(NAME_BYTES_MAX - 1).collect::<String>())
}
