//! Which endpoints of a Service port get traffic.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
};

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};

/// One backend of a Service port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Backend {
    /// Its address.
    pub address: Ipv4Addr,
    /// Its port.
    pub port: u16,
    /// Whether it runs on this node.
    pub local: bool,
}

/// Slices by namespace and Service name.
#[derive(Debug)]
pub struct SliceIndex<'a> {
    slices: BTreeMap<(&'a str, &'a str), Vec<&'a EndpointSlice>>,
    doubted: &'a BTreeSet<String>,
}

/// The backends of a Service port: those that are ready, those that are leaving but still serve, and those that may be
/// gone with their hosts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Backends {
    ready: Vec<Backend>,
    leaving: Vec<Backend>,
    doubted: Vec<Backend>,
}

impl<'a> SliceIndex<'a> {
    /// Sorts the slices; `doubted` are the nodes whose hosts may be gone.
    pub fn new(slices: &'a [Arc<EndpointSlice>], doubted: &'a BTreeSet<String>) -> Self {
        let mut index: BTreeMap<_, Vec<&EndpointSlice>> = BTreeMap::new();
        for slice in slices.iter().filter(|slice| slice.address_type == "IPv4") {
            let labels = slice.metadata.labels.as_ref();
            let service = labels.and_then(|labels| labels.get("kubernetes.io/service-name"));
            if let Some((namespace, service)) = slice.metadata.namespace.as_deref().zip(service) {
                index.entry((namespace, service.as_str())).or_default().push(slice);
            }
        }
        Self { slices: index, doubted }
    }

    /// The backends of the port of that name and protocol.
    pub fn backends(&self, service: (&str, &str), port: (&str, &str), node: &str) -> Backends {
        let mut backends = Backends::default();
        for slice in self.slices.get(&service).into_iter().flatten() {
            let ports = slice.ports.iter().flatten();
            let mut matching = ports.filter(|candidate| {
                let protocol = candidate.protocol.as_deref().unwrap_or("TCP");
                (candidate.name.as_deref().unwrap_or_default(), protocol) == port
            });
            let number = matching.find_map(|candidate| u16::try_from(candidate.port?).ok());
            let Some(number) = number.filter(|number| *number != 0) else { continue };
            for endpoint in &slice.endpoints {
                let is_doubted = endpoint.node_name.as_ref().is_some_and(|node| self.doubted.contains(node));
                backends.add(endpoint, number, node, is_doubted);
            }
        }
        for list in [&mut backends.ready, &mut backends.leaving, &mut backends.doubted] {
            list.sort_unstable();
            list.dedup();
        }
        backends
    }
}

impl Backends {
    fn add(&mut self, endpoint: &Endpoint, port: u16, node: &str, is_doubted: bool) {
        let conditions = endpoint.conditions.as_ref();
        let ready = conditions.and_then(|conditions| conditions.ready).unwrap_or(true);
        let serving = conditions.and_then(|conditions| conditions.serving).unwrap_or(ready);
        let terminating = conditions.and_then(|conditions| conditions.terminating).unwrap_or(false);
        // All addresses of an endpoint are the same pod; Kubernetes, too, uses the first.
        let address = endpoint.addresses.first().and_then(|text| text.parse().ok());
        let Some(address) = address.filter(|address| routable(*address)) else { return };
        let local = endpoint.node_name.as_deref() == Some(node);
        let backend = Backend { address, port, local };
        match (ready, serving && terminating) {
            (true, _) if is_doubted => self.doubted.push(backend),
            (true, _) => self.ready.push(backend),
            (false, true) if !is_doubted => self.leaving.push(backend),
            _ => {}
        }
    }

    /// Those that get new connections: the ready ones; when there is none, those that are leaving but still serve
    /// (KEP-1669: better than nobody while everything is replaced); when there is none of them either, those whose
    /// hosts are doubted.
    pub fn choose(&self, local_only: bool) -> Vec<Backend> {
        let eligible = |list: &[Backend]| -> Vec<Backend> {
            list.iter().filter(|backend| backend.local || !local_only).copied().collect()
        };
        let leaving: &[Backend] =
            if drover_api::mutants::active("E08-nobody-rather-than-leaving") { &[] } else { &self.leaving };
        let in_order = [&self.ready, leaving, &self.doubted].into_iter().map(eligible);
        in_order.into_iter().find(|list| !list.is_empty()).unwrap_or_default()
    }
}

/// Addresses that a Service may lead to. Hand-written endpoints must not reach what is private to the node
/// (CVE-2021-25737).
fn routable(address: Ipv4Addr) -> bool {
    let private = address.is_loopback() || address.is_link_local() || address.is_unspecified();
    if drover_api::mutants::active("A54-endpoints-to-the-node") {
        return true;
    }
    !(private || address.is_multicast() || address.is_broadcast())
}
