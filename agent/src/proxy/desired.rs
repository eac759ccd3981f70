//! What the table must hold: a pure function of Services, EndpointSlices, host ports and this node.

use std::{collections::BTreeSet, net::Ipv4Addr, sync::Arc};

use k8s_openapi::api::{
    core::v1::{Service, ServicePort, ServiceSpec},
    discovery::v1::EndpointSlice,
};

use drover_routing::endpoints::{Backend, SliceIndex};

use super::{
    balance::{self, Purpose},
    base,
    tables::Tables,
};
use crate::network::{Cidr, PodHostPorts};

/// Session affinity's default time-out, as Kubernetes has it: three hours.
const AFFINITY_SECONDS: u32 = 10_800;

/// Settings of the proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyConfig {
    /// The table's name: `drover`.
    pub table: String,
    /// This node's name.
    pub node: String,
    /// The addresses of this node's pods.
    pub pod_cidr: Cidr,
    /// The addresses of all pods.
    pub cluster_cidr: Cidr,
    /// The addresses of Services.
    pub service_cidr: Cidr,
}

/// What the informers have seen.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ProxyInput {
    /// All Services.
    pub services: Vec<Arc<Service>>,
    /// All EndpointSlices.
    pub slices: Vec<Arc<EndpointSlice>>,
    /// Host ports of this node's pods.
    pub host_ports: PodHostPorts,
    /// Nodes whose hosts may be gone: new connections go there only where nobody else is left.
    pub doubted: BTreeSet<String>,
    /// The highest EndpointSlice resourceVersion that `slices` reflects, deletions and bookmarks included.
    pub revision: u64,
}

/// The table for these objects. Independent of their order; what is malformed is left out.
pub fn desired(input: &ProxyInput, config: &ProxyConfig) -> Tables {
    let mut tables = Tables::default();
    base::add_chains(&mut tables, config);
    let slices = SliceIndex::new(&input.slices, &input.doubted);
    let mut services: Vec<&Service> = input.services.iter().map(AsRef::as_ref).collect();
    services.sort_by_key(|service| (&service.metadata.namespace, &service.metadata.name));
    for service in services {
        add_service(&mut tables, service, &slices, config);
    }
    add_host_ports(&mut tables, &input.host_ports);
    tables
}

pub(super) fn add_service(tables: &mut Tables, service: &Service, slices: &SliceIndex<'_>, config: &ProxyConfig) {
    let Some(spec) = &service.spec else { return };
    let names = service.metadata.namespace.as_deref().zip(service.metadata.name.as_deref());
    let Some((namespace, name)) = names.filter(|_| spec.type_.as_deref() != Some("ExternalName")) else { return };
    let addresses = cluster_addresses(spec);
    for port in spec.ports.iter().flatten() {
        let port_name = port.name.as_deref().unwrap_or_default();
        let kubernetes_protocol = port.protocol.as_deref().unwrap_or("TCP");
        let Some((protocol, number)) = protocol(kubernetes_protocol).zip(number(port.port)) else { continue };
        let backends = slices.backends((namespace, name), (port_name, kubernetes_protocol), &config.node);
        let title = format!("{namespace}/{name}:{port_name}");
        let purpose = Purpose { title: &title, protocol, affinity: affinity(spec) };
        let inside = backends.choose(is_local(spec.internal_traffic_policy.as_ref()));
        add_hairpin(tables, &inside);
        if !inside.is_empty() && !addresses.is_empty() {
            let chain = balance::add_chain(tables, purpose, &inside);
            for address in &addresses {
                tables.add_element("services", format!("{address} . {protocol} . {number}"), format!("goto {chain}"));
            }
        }
        if let Some(node_port) = node_port(spec, port) {
            let outside = backends.choose(is_local(spec.external_traffic_policy.as_ref()));
            add_node_port(tables, purpose, node_port, &outside);
        }
    }
}

fn add_node_port(tables: &mut Tables, purpose: Purpose<'_>, port: u16, backends: &[Backend]) {
    let key = format!("{} . {port}", purpose.protocol);
    if backends.is_empty() {
        tables.add_element("rejected", key, String::new());
        return;
    }
    add_hairpin(tables, backends);
    let chain = balance::add_chain(tables, purpose, backends);
    tables.add_element("nodeports", key, format!("goto {chain}"));
}

fn add_hairpin(tables: &mut Tables, backends: &[Backend]) {
    for Backend { address, port: _, local } in backends {
        if *local {
            tables.add_element("hairpin", format!("{address} . {address}"), String::new());
        }
    }
}

pub(super) fn add_host_ports(tables: &mut Tables, host_ports: &PodHostPorts) {
    for (address, ports) in host_ports.values() {
        for port in ports {
            let Some(protocol) = protocol(&port.protocol) else { continue };
            let target = format!("{address} . {}", port.container_port);
            let key = format!("{protocol} . {}", port.host_port);
            match port.host_address.filter(|host| !host.is_unspecified()) {
                Some(host) => tables.add_element("hostportips", format!("{host} . {key}"), target),
                None => tables.add_element("hostports", key, target),
            }
            tables.add_element("hairpin", format!("{address} . {address}"), String::new());
            tables.add_target(protocol, *address, port.container_port);
        }
    }
}

/// The IPv4 cluster addresses; none for a headless Service.
fn cluster_addresses(spec: &ServiceSpec) -> Vec<Ipv4Addr> {
    let all = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
    let mut addresses: Vec<Ipv4Addr> = all.filter_map(|text| text.parse().ok()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

fn affinity(spec: &ServiceSpec) -> Option<u32> {
    let wanted = spec.session_affinity.as_deref() == Some("ClientIP");
    let client = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
    let seconds = client.and_then(|client| u32::try_from(client.timeout_seconds?).ok()).filter(|seconds| *seconds > 0);
    wanted.then(|| seconds.unwrap_or(AFFINITY_SECONDS))
}

fn node_port(spec: &ServiceSpec, port: &ServicePort) -> Option<u16> {
    let exposed = matches!(spec.type_.as_deref(), Some("NodePort" | "LoadBalancer"));
    number(port.node_port.filter(|_| exposed)?)
}

fn number(port: i32) -> Option<u16> {
    u16::try_from(port).ok().filter(|port| *port != 0)
}

fn protocol(name: &str) -> Option<&'static str> {
    match name {
        "TCP" => Some("tcp"),
        "UDP" => Some("udp"),
        "SCTP" => Some("sctp"),
        _ => None,
    }
}

fn is_local(policy: Option<&String>) -> bool {
    policy.is_some_and(|policy| policy == "Local")
}
