//! Endpoints and EndpointSlices.

use std::{collections::BTreeSet, net::IpAddr};

use super::{cursor::At, pod::ip_address, report::Errors};
use crate::names;

const ENDPOINTS_MAX: usize = 1000;
const ADDRESSES_MAX: usize = 100;
const PORTS_MAX: usize = 20_000;

/// Checks Endpoints.
pub(super) fn endpoints(root: &At<'_, '_>, errors: &mut Errors) {
    for subset in root.get("subsets").items() {
        let lists = [subset.get("addresses"), subset.get("notReadyAddresses")];
        if lists.iter().all(At::is_empty) {
            errors.required(&subset, "must specify `addresses` or `notReadyAddresses`");
        }
        for list in &lists {
            for address in list.items() {
                endpoint_address(&address, errors);
            }
        }
        let ports = subset.get("ports");
        for port in ports.items() {
            let name = port.get("name");
            if !name.text().is_empty() {
                errors.check(&name, names::dns_label(name.text()));
            } else if ports.len() > 1 {
                errors.required(&name, "");
            }
            let number = port.get("port").number().unwrap_or(0);
            errors.check_number(&port.get("port"), number, names::port_number(number));
            errors.one_of(&port.get("protocol"), &["SCTP", "TCP", "UDP"]);
        }
    }
}

/// Checks an EndpointSlice.
pub(super) fn endpoint_slice(root: &At<'_, '_>, errors: &mut Errors) {
    let family = root.get("addressType");
    errors.one_of(&family, &["FQDN", "IPv4", "IPv6"]);
    let endpoints = root.get("endpoints");
    if endpoints.len() > ENDPOINTS_MAX {
        errors.too_many(&endpoints, ENDPOINTS_MAX);
    } else {
        for endpoint in endpoints.items() {
            slice_endpoint(&endpoint, family.text(), errors);
        }
    }
    let ports = root.get("ports");
    if ports.len() > PORTS_MAX {
        return errors.too_many(&ports, PORTS_MAX);
    }
    let mut seen = BTreeSet::new();
    for port in ports.items() {
        let name = port.get("name");
        if !name.text().is_empty() {
            errors.check(&name, names::dns_label(name.text()));
        }
        if !seen.insert(name.text().to_owned()) {
            errors.duplicate(&name);
        }
        errors.one_of(&port.get("protocol"), &["SCTP", "TCP", "UDP"]);
        if let Some(number) = port.get("port").number() {
            errors.check(&port.get("port"), names::port_number(number));
        }
    }
}

/// Checks what may not change in an EndpointSlice.
pub(super) fn endpoint_slice_update(root: &At<'_, '_>, old: &At<'_, '_>, errors: &mut Errors) {
    errors.immutable(&root.get("addressType"), &old.get("addressType"));
}

fn endpoint_address(address: &At<'_, '_>, errors: &mut Errors) {
    ip_address(&address.get("ip"), errors);
    not_special(&address.get("ip"), errors);
    names_of(address, errors);
}

fn slice_endpoint(endpoint: &At<'_, '_>, family: &str, errors: &mut Errors) {
    let addresses = endpoint.get("addresses");
    if addresses.is_empty() {
        errors.required(&addresses, "must contain at least 1 address");
    } else if addresses.len() > ADDRESSES_MAX {
        errors.too_many(&addresses, ADDRESSES_MAX);
    }
    for address in addresses.items() {
        match (family, address.text().parse()) {
            ("IPv4", Ok(IpAddr::V4(_))) | ("IPv6", Ok(IpAddr::V6(_))) => not_special(&address, errors),
            ("IPv4", _) => errors.invalid(&address, "must be an IPv4 address"),
            ("IPv6", _) => errors.invalid(&address, "must be an IPv6 address"),
            ("FQDN", _) => errors.check(&address, names::dns_subdomain(address.text())),
            _ => {}
        }
    }
    names_of(endpoint, errors);
}

fn names_of(endpoint: &At<'_, '_>, errors: &mut Errors) {
    let (host, node) = (endpoint.get("hostname"), endpoint.get("nodeName"));
    if !host.text().is_empty() {
        errors.check(&host, names::dns_label(host.text()));
    }
    if node.is_set() {
        errors.check(&node, names::dns_subdomain(node.text()));
    }
}

/// Refuses addresses that mean the host itself or a link: traffic to them would not leave the node.
fn not_special(at: &At<'_, '_>, errors: &mut Errors) {
    let Ok(address) = at.text().parse::<IpAddr>() else {
        return;
    };
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    let link_local_multicast = match address {
        IpAddr::V4(v4) => v4.octets()[..3] == [224, 0, 0],
        IpAddr::V6(v6) => v6.segments()[0] & 0xff0f == 0xff02,
    };
    if address.is_unspecified() {
        errors.invalid(at, &format!("may not be unspecified ({})", at.text()));
    }
    if address.is_loopback() {
        errors.invalid(at, "may not be in the loopback range (127.0.0.0/8, ::1/128)");
    }
    if link_local {
        errors.invalid(at, "may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    }
    if link_local_multicast {
        errors.invalid(at, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)");
    }
}
