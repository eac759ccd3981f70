//! Forgets flows to endpoints that new connections no longer lead to.
//!
//! UDP: all of them, for a client that keeps sending from one port would keep the old translation alive for ever. TCP:
//! those that nobody has answered. Their clients ask again after a second, and are led to another endpoint then; the
//! kernel by itself would send every try of two minutes, and whoever gets the same port next, to a host that is gone.
//! Established connections are never touched.

use std::{collections::BTreeSet, net::Ipv4Addr};

use tokio::process::Command;

/// An endpoint as flows know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlowTarget {
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its port.
    pub port: u16,
}

/// Deletes the flows to these endpoints. Best effort: a host without the `conntrack` program waits for the kernel's
/// time-out of 30 to 120 s.
pub(super) async fn forget(endpoints: BTreeSet<FlowTarget>) {
    for FlowTarget { protocol, address, port } in endpoints {
        let (address, port) = (address.to_string(), port.to_string());
        let mut command = Command::new("conntrack");
        command.args(["-D", "-p", protocol, "--reply-src", &address, "--reply-port-src", &port]);
        if protocol == "tcp" {
            command.args(["--state", "SYN_SENT"]);
        }
        if let Err(error) = command.kill_on_drop(true).output().await {
            tracing::warn!(endpoint.address = address, "flows to a removed endpoint stay until they expire: {error}");
            return;
        }
    }
}
