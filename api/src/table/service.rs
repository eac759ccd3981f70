//! Services, Endpoints and EndpointSlices.

use serde_json::Value;

use super::{
    age,
    column::{AGE, NAME, Printer, count, items, labels, text, text_or, wide},
};
use crate::object::{self, at, str_at};

/// Most addresses or ports that a cell lists before it only counts.
const LISTED_MAX: usize = 3;

pub(super) const SERVICE: Printer = Printer {
    columns: &[
        NAME,
        text("Type", "How the service is made reachable."),
        text("Cluster-IP", "The address inside the cluster."),
        text("External-IP", "The addresses outside the cluster."),
        text("Port(s)", "The ports, with node port and protocol."),
        AGE,
        wide("Selector", "The labels of the pods behind the service."),
    ],
    cells: service,
};

pub(super) const ENDPOINTS: Printer =
    Printer { columns: &[NAME, text("Endpoints", "The ready addresses and their ports."), AGE], cells: endpoints };

pub(super) const ENDPOINT_SLICE: Printer = Printer {
    columns: &[
        NAME,
        text("AddressType", "The kind of the addresses."),
        text("Ports", "The ports that the endpoints serve."),
        text("Endpoints", "The addresses of the endpoints."),
        AGE,
    ],
    cells: endpoint_slice,
};

fn service(object: &Value, now_secs: i64) -> Vec<Value> {
    let first_ip = items(object, &["spec", "clusterIPs"]).first().and_then(Value::as_str).unwrap_or_default();
    let ip = if first_ip.is_empty() { text_or(object, &["spec", "clusterIP"], "<none>") } else { first_ip };
    vec![
        object::name(object).into(),
        str_at(object, &["spec", "type"]).into(),
        ip.into(),
        external_ip(object).into(),
        ports(object).into(),
        age::of(object, now_secs).into(),
        labels(at(object, &["spec", "selector"])).into(),
    ]
}

fn external_ip(object: &Value) -> String {
    let external = items(object, &["spec", "externalIPs"]).iter().filter_map(Value::as_str);
    match str_at(object, &["spec", "type"]) {
        "ClusterIP" | "NodePort" => {
            let list: Vec<&str> = external.collect();
            if list.is_empty() { "<none>".to_owned() } else { list.join(",") }
        }
        "LoadBalancer" => {
            let ingress = items(object, &["status", "loadBalancer", "ingress"]).iter();
            let mut list: Vec<&str> =
                ingress.map(|point| text_or(point, &["ip"], str_at(point, &["hostname"]))).collect();
            list.retain(|address| !address.is_empty());
            list.extend(external);
            if list.is_empty() { "<pending>".to_owned() } else { list.join(",") }
        }
        "ExternalName" => str_at(object, &["spec", "externalName"]).to_owned(),
        _ => "<unknown>".to_owned(),
    }
}

fn ports(object: &Value) -> String {
    let port = |port: &Value| {
        let (number, protocol) = (count(port, &["port"]), str_at(port, &["protocol"]));
        match count(port, &["nodePort"]) {
            0 => format!("{number}/{protocol}"),
            node_port => format!("{number}:{node_port}/{protocol}"),
        }
    };
    let list: Vec<String> = items(object, &["spec", "ports"]).iter().map(port).collect();
    if list.is_empty() { "<none>".to_owned() } else { list.join(",") }
}

fn endpoints(object: &Value, now_secs: i64) -> Vec<Value> {
    vec![object::name(object).into(), endpoint_list(object).into(), age::of(object, now_secs).into()]
}

fn endpoint_list(object: &Value) -> String {
    let subsets = items(object, &["subsets"]);
    if subsets.is_empty() {
        return "<none>".to_owned();
    }
    let mut list = Shortened::default();
    for subset in subsets {
        let (addresses, ports) = (items(subset, &["addresses"]), items(subset, &["ports"]));
        if ports.is_empty() {
            addresses.iter().for_each(|address| list.push(|| str_at(address, &["ip"]).to_owned()));
        }
        for port in ports {
            for address in addresses {
                list.push(|| host_port(str_at(address, &["ip"]), count(port, &["port"])));
            }
        }
    }
    list.text("")
}

fn host_port(ip: &str, port: i64) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

fn endpoint_slice(object: &Value, now_secs: i64) -> Vec<Value> {
    let mut ports = Shortened::default();
    for port in items(object, &["ports"]) {
        ports.push(|| match (port.get("port").and_then(Value::as_i64), port.get("name").and_then(Value::as_str)) {
            (Some(number), _) => number.to_string(),
            (None, Some(name)) => name.to_owned(),
            (None, None) => "*".to_owned(),
        });
    }
    let mut addresses = Shortened::default();
    for endpoint in items(object, &["endpoints"]) {
        for address in items(endpoint, &["addresses"]) {
            addresses.push(|| address.as_str().unwrap_or_default().to_owned());
        }
    }
    vec![
        object::name(object).into(),
        str_at(object, &["addressType"]).into(),
        ports.text("<unset>").into(),
        addresses.text("<unset>").into(),
        age::of(object, now_secs).into(),
    ]
}

/// A list that shows its first few items and counts the others.
#[derive(Debug, Default)]
struct Shortened {
    shown: Vec<String>,
    total: usize,
}

impl Shortened {
    fn push(&mut self, item: impl FnOnce() -> String) {
        self.total += 1;
        if self.shown.len() < LISTED_MAX {
            self.shown.push(item());
        }
    }

    fn text(&self, empty: &str) -> String {
        let shown = self.shown.join(",");
        match self.total.saturating_sub(LISTED_MAX) {
            0 if shown.is_empty() => empty.to_owned(),
            0 => shown,
            more => format!("{shown} + {more} more..."),
        }
    }
}
