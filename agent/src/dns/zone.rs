//! The cluster's records, after the Kubernetes DNS specification 1.1.0, with names of nodes, and the names that Consul would
//! give the same Services. Pure.

use std::{
    collections::{BTreeMap, HashMap},
    net::Ipv4Addr,
    sync::Arc,
};

use k8s_openapi::api::{
    core::v1::{Node, Service, ServiceSpec},
    discovery::v1::EndpointSlice,
};

use crate::network::Cidr;

/// The apex of the cluster's names.
pub(super) const APEX: &str = "cluster.local";
/// Where Consul has Services. It knows no namespaces: those of `default` have plain names.
const CONSUL: &str = "service.consul";

/// What the informers have seen.
#[derive(Debug, Clone, Default)]
pub struct DnsInput {
    /// All Services.
    pub services: Vec<Arc<Service>>,
    /// All EndpointSlices.
    pub slices: Vec<Arc<EndpointSlice>>,
    /// All nodes.
    pub nodes: Vec<Arc<Node>>,
}

/// The data of one record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Data {
    /// An address.
    A(Ipv4Addr),
    /// A port and the name of the host that has it.
    Srv(u16, String),
    /// Another name for the same thing.
    Cname(String),
    /// The name of an address.
    Ptr(String),
}

/// All records by name, in lower case and without the last dot. A name that only has names below it is there too, empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    names: HashMap<String, Vec<Data>>,
    /// The address ranges whose reverse names are ours.
    ranges: Vec<Cidr>,
}

/// An endpoint of a headless Service.
struct Member {
    address: Ipv4Addr,
    label: String,
    named: bool,
    ports: Vec<(String, String, u16)>,
}

impl Zone {
    /// The records of these objects; `ranges` are the addresses of pods and Services.
    pub fn new(input: &DnsInput, ranges: Vec<Cidr>) -> Self {
        let mut zone = Self { names: HashMap::new(), ranges };
        for name in [APEX.to_owned(), format!("svc.{APEX}"), format!("pod.{APEX}")] {
            zone.names.insert(name, Vec::new());
        }
        let members = members(&input.slices);
        for service in &input.services {
            let names = service.metadata.namespace.as_deref().zip(service.metadata.name.as_deref());
            let Some(((namespace, name), spec)) = names.zip(service.spec.as_ref()) else { continue };
            let own = format!("{name}.{namespace}.svc.{APEX}").to_ascii_lowercase();
            let members = members.get(&(namespace, name)).map_or(&[][..], Vec::as_slice);
            zone.add_service(&own, spec, members);
            zone.add_as_in_consul(namespace, &name.to_ascii_lowercase(), members);
        }
        for node in &input.nodes {
            zone.add_node(node);
        }
        for data in zone.names.values_mut() {
            data.sort();
            data.dedup();
        }
        zone
    }

    /// The records of a name; `None` when there is no such name.
    pub fn get(&self, name: &str) -> Option<&[Data]> {
        self.names.get(name).map(Vec::as_slice)
    }

    /// Whether an address is one of a pod or a Service.
    pub(super) fn covers(&self, address: Ipv4Addr) -> bool {
        self.ranges.iter().any(|range| range.contains(address))
    }

    fn add_service(&mut self, own: &str, spec: &ServiceSpec, members: &[Member]) {
        // The Service is a name even without an endpoint.
        self.add(own, None);
        if spec.type_.as_deref() == Some("ExternalName") {
            let target = spec.external_name.as_deref().map(|target| target.trim_end_matches('.').to_ascii_lowercase());
            self.add(own, target.filter(|target| !target.is_empty()).map(Data::Cname));
            return;
        }
        match spec.cluster_ip.as_deref().and_then(|text| text.parse().ok()) {
            Some(address) => self.add_cluster_address(own, address, spec),
            None => members.iter().for_each(|member| self.add_member(own, member)),
        }
    }

    fn add_cluster_address(&mut self, own: &str, address: Ipv4Addr, spec: &ServiceSpec) {
        self.add(own, Some(Data::A(address)));
        self.add_reverse(address, own);
        for port in spec.ports.iter().flatten() {
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            let number = u16::try_from(port.port).ok();
            if let Some((name, number)) = port.name.as_deref().zip(number) {
                self.add_port(own, name, protocol, Data::Srv(number, own.to_owned()));
            }
        }
    }

    fn add_member(&mut self, own: &str, member: &Member) {
        let name = format!("{}.{own}", member.label);
        self.add(own, Some(Data::A(member.address)));
        self.add(&name, Some(Data::A(member.address)));
        if member.named {
            self.add_reverse(member.address, &name);
        }
        for (port, protocol, number) in &member.ports {
            self.add_port(own, port, protocol, Data::Srv(*number, name.clone()));
        }
    }

    /// `redis.service.consul`: the ready endpoints, also where the Service has an address, with their ports in SRV records
    /// of the same name and of `_redis._tcp.service.consul`. Outside of `default`: `redis.shop.service.consul`.
    fn add_as_in_consul(&mut self, namespace: &str, name: &str, members: &[Member]) {
        let apex = if namespace == "default" { CONSUL.to_owned() } else { format!("{namespace}.{CONSUL}") };
        let own = format!("{name}.{apex}");
        for member in members {
            let host = format!("{}.{own}", member.label);
            self.add(&own, Some(Data::A(member.address)));
            self.add(&host, Some(Data::A(member.address)));
            for (_, protocol, number) in &member.ports {
                self.add(&own, Some(Data::Srv(*number, host.clone())));
                let rfc2782 = format!("_{name}._{protocol}.{apex}").to_ascii_lowercase();
                self.add(&rfc2782, Some(Data::Srv(*number, host.clone())));
            }
        }
    }

    /// `n1.node.cluster.local`: where the node is.
    fn add_node(&mut self, node: &Node) {
        let addresses = node.status.as_ref().and_then(|status| status.addresses.as_ref()).into_iter().flatten();
        let mut internal = addresses.filter(|address| address.type_ == "InternalIP");
        let address = internal.find_map(|address| address.address.parse().ok());
        if let Some((name, address)) = node.metadata.name.as_ref().zip(address) {
            self.add(&format!("{name}.node.{APEX}").to_ascii_lowercase(), Some(Data::A(address)));
        }
    }

    fn add_port(&mut self, own: &str, port: &str, protocol: &str, data: Data) {
        if !port.is_empty() {
            self.add(&format!("_{port}._{protocol}.{own}").to_ascii_lowercase(), Some(data));
        }
    }

    fn add_reverse(&mut self, address: Ipv4Addr, name: &str) {
        let [a, b, c, d] = address.octets();
        let reverse = format!("{d}.{c}.{b}.{a}.in-addr.arpa");
        self.names.entry(reverse).or_default().push(Data::Ptr(name.to_owned()));
    }

    /// Enters a record, and its name's parents up to the apex as names.
    fn add(&mut self, name: &str, data: Option<Data>) {
        self.names.entry(name.to_owned()).or_default().extend(data);
        let mut rest = name;
        while let Some((_, parent)) = rest.split_once('.') {
            if self.names.contains_key(parent) {
                break;
            }
            self.names.insert(parent.to_owned(), Vec::new());
            rest = parent;
        }
    }
}

/// The endpoints that have a name, by namespace and Service: the ready ones, which for a Service with
/// `publishNotReadyAddresses` are all (the EndpointSlice controller sees to that).
fn members(slices: &[Arc<EndpointSlice>]) -> BTreeMap<(&str, &str), Vec<Member>> {
    let mut members: BTreeMap<_, Vec<Member>> = BTreeMap::new();
    for slice in slices.iter().filter(|slice| slice.address_type == "IPv4") {
        let labels = slice.metadata.labels.as_ref();
        let service = labels.and_then(|labels| labels.get("kubernetes.io/service-name"));
        let Some((namespace, service)) = slice.metadata.namespace.as_deref().zip(service) else { continue };
        let ports = slice.ports.iter().flatten().filter_map(|port| {
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
            Some((port.name.clone()?, protocol, u16::try_from(port.port?).ok()?))
        });
        let ports: Vec<_> = ports.collect();
        for endpoint in &slice.endpoints {
            let ready = endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true);
            let address = endpoint.addresses.first().and_then(|text| text.parse::<Ipv4Addr>().ok());
            let ready = ready || drover_api::mutants::active("E01-names-of-the-dead");
            let Some(address) = address.filter(|_| ready) else { continue };
            let hostname = endpoint.hostname.as_ref().filter(|name| !name.is_empty());
            let label =
                hostname.map_or_else(|| address.to_string().replace('.', "-"), |name| name.to_ascii_lowercase());
            let member = Member { address, label, named: hostname.is_some(), ports: ports.clone() };
            members.entry((namespace, service.as_str())).or_default().push(member);
        }
    }
    members
}
