//! Forgets the UDP flows of endpoints that are gone. A client that keeps sending from one port would keep the old
//! translation alive for ever; TCP needs no such thing, its connections end.

use std::{collections::BTreeSet, net::Ipv4Addr};

use tokio::process::Command;

/// Deletes the flows to these endpoints. Best effort: a host without the `conntrack` program waits for the kernel's
/// time-out of 30 to 120 s.
pub(super) async fn forget(endpoints: &BTreeSet<(Ipv4Addr, u16)>) {
    for (address, port) in endpoints {
        let (address, port) = (address.to_string(), port.to_string());
        let arguments = ["-D", "-p", "udp", "--reply-src", &address, "--reply-port-src", &port];
        let outcome = Command::new("conntrack").args(arguments).kill_on_drop(true).output().await;
        if let Err(error) = outcome {
            tracing::warn!(
                endpoint.address = address,
                "UDP flows of a removed endpoint stay until they expire: {error}"
            );
            return;
        }
    }
}
