//! What a server is started with.

use std::{
    net::{IpAddr, Ipv4Addr},
    ops::RangeInclusive,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use drover_store::Backend;
use tokio::net::TcpListener;

use crate::audit::Sink;

/// Life of a node's certificate: a day, as the security guides ask for. A node that was off for longer comes back by its
/// key.
pub(super) const NODE_CERTIFICATE_LIFE: Duration = Duration::from_secs(24 * 3600);

/// How to start a server.
#[derive(Debug)]
pub struct Config {
    /// Holds `pki/` and `admin.kubeconfig`.
    pub data_dir: PathBuf,
    /// Bound already; the first one names the port in every URL.
    pub listeners: Vec<TcpListener>,
    /// The address at which pods and other hosts reach this server; `None`: the first listener's own.
    pub advertise_address: Option<IpAddr>,
    /// Network of Service addresses, for example `10.96.0.0/16`.
    pub service_cidr: String,
    /// Network of pod addresses, for example `10.128.0.0/9`: nodes that join are told.
    pub cluster_cidr: String,
    /// Life of the certificates of nodes that join. They renew it at two thirds.
    pub node_certificate_life: Duration,
    /// Ports that Services may take on nodes.
    pub node_port_range: RangeInclusive<u16>,
    /// Where objects are kept.
    pub backend: Arc<dyn Backend>,
    /// What the backend is, for the security report: `embedded`, `etcd`, …
    pub store: &'static str,
    /// Where the audit log goes; `None` writes none.
    pub audit: Option<Box<dyn Sink>>,
    /// Names the cluster and the context in `admin.kubeconfig`.
    pub cluster_name: String,
    /// Whether other servers may use the same store: they then share identity, Leases and Events, and agents.
    pub shared: bool,
}

impl Config {
    /// Builds a configuration with Kubernetes' defaults for Services.
    pub fn new(data_dir: PathBuf, listeners: Vec<TcpListener>, backend: Arc<dyn Backend>) -> Self {
        Self {
            data_dir,
            listeners,
            advertise_address: None,
            service_cidr: "10.96.0.0/16".to_owned(),
            cluster_cidr: "10.128.0.0/9".to_owned(),
            node_certificate_life: NODE_CERTIFICATE_LIFE,
            node_port_range: 30000..=32767,
            backend,
            store: "memory",
            audit: None,
            cluster_name: "drover".to_owned(),
            shared: false,
        }
    }
}

/// Parses `a.b.c.d/n`; `None` when malformed, with host bits set, or too small to hold a Service.
pub(super) fn parse_cidr(text: &str) -> Option<(Ipv4Addr, u8)> {
    let (address, length) = text.split_once('/')?;
    let (address, length): (Ipv4Addr, u8) = (address.parse().ok()?, length.parse().ok()?);
    let host_bits = u32::MAX.checked_shr(length.into()).unwrap_or_default();
    ((1..=30).contains(&length) && u32::from(address) & host_bits == 0).then_some((address, length))
}

#[cfg(test)]
mod tests {
    use super::parse_cidr;

    #[test]
    fn networks_are_read_strictly() {
        assert_eq!(parse_cidr("10.96.0.0/16"), Some(("10.96.0.0".parse().unwrap(), 16)));
        for bad in ["10.96.0.0", "10.96.0.1/16", "10.96.0.0/31", "10.96.0.0/0", "x/8", "10.96.0.0/-1", "::/64"] {
            assert_eq!(parse_cidr(bad), None, "{bad}");
        }
    }
}
