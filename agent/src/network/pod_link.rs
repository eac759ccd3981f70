//! Names of the host's ends of pod links, and the removal of those that nobody needs.

use std::collections::HashSet;

use sha2::{Digest, Sha256};

use super::link::{LinkError, Netlink};
use crate::ids::PodUid;

/// Host ends of pod links are named by this and twelve hexadecimal digits.
const LINK_PREFIX: &str = "dr";

/// The host's end of a pod's link. Bridges differ in name, so two networks on a host never meet.
pub(super) fn link_name(bridge: &str, pod: &PodUid) -> String {
    let digest = Sha256::digest(alias(bridge, pod.as_str()));
    let hexadecimal = digest.iter().take(6).map(|byte| format!("{byte:02x}"));
    format!("{LINK_PREFIX}{}", hexadecimal.collect::<String>())
}

/// Says whose a link is, to us and to whoever reads `ip link`.
pub(super) fn alias(bridge: &str, pod: &str) -> String {
    format!("{bridge}/{pod}")
}

/// Removes links that name the network of `bridge` as their owner but belong to none of `pods`: those of pods that are
/// gone, whose name space something still holds. Others are left alone.
pub(super) async fn sweep(netlink: &Netlink, bridge: &str, pods: &[PodUid]) -> Result<(), LinkError> {
    let links = netlink.aliased().await?;
    let known: HashSet<String> = pods.iter().map(|pod| link_name(bridge, pod)).collect();
    let owner = alias(bridge, "");
    for (name, link) in links {
        let ours = link.alias.is_some_and(|alias| alias.starts_with(&owner)) && is_pod_link(&name);
        if ours && !known.contains(&name) {
            netlink.remove(link.index).await?;
        }
    }
    Ok(())
}

fn is_pod_link(name: &str) -> bool {
    let digest = name.strip_prefix(LINK_PREFIX);
    digest.is_some_and(|digest| digest.len() == 12 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()))
}
