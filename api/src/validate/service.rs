//! Services.

use std::{collections::BTreeSet, net::IpAddr, ops::RangeInclusive};

use serde_json::{Value, json};

use super::{cursor::At, pod::ip_address, probe, report::Errors, selector};
use crate::{names, status::FieldError};

/// Checks that every node port a Service names lies in the range that the cluster gives out.
pub fn node_ports(object: &Value, range: &RangeInclusive<u16>) -> Vec<FieldError> {
    let mut errors = Errors::default();
    let root = At::root(object);
    for port in root.get("spec.ports").items() {
        let node_port = port.get("nodePort");
        let inside = |number: i64| u16::try_from(number).is_ok_and(|number| range.contains(&number));
        if node_port.number().is_some_and(|number| number != 0 && !inside(number)) {
            let detail = format!(
                "provided port is not in the valid range. The range of valid ports is {}-{}",
                range.start(),
                range.end()
            );
            errors.invalid(&node_port, &detail);
        }
    }
    errors.into_list()
}

/// Checks a Service.
pub(super) fn service(root: &At<'_, '_>, errors: &mut Errors) {
    let spec = root.get("spec");
    let kind = spec.get("type");
    errors.one_of(&kind, &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"]);
    ports(&spec, errors);
    selector::labels(&spec.get("selector"), errors);
    by_type(&spec, errors);
    session_affinity(&spec, errors);
    if kind.text() != "ExternalName" {
        cluster_ips(&spec, errors);
    }
    if !spec.get("externalIPs").is_empty() {
        // By design: whoever may create Services could otherwise take over any address (CVE-2020-8554).
        errors.forbidden(&spec.get("externalIPs"), "external IPs are not supported");
    }
    for (field, supported) in
        [("externalTrafficPolicy", ["Cluster", "Local"]), ("internalTrafficPolicy", ["Cluster", "Local"])]
    {
        if !spec.get(field).text().is_empty() {
            errors.one_of(&spec.get(field), &supported);
        }
    }
}

/// Checks what may not change in a Service. An address that is left out counts as kept.
pub(super) fn update(root: &At<'_, '_>, old: &At<'_, '_>, errors: &mut Errors) {
    let (spec, old) = (root.get("spec"), old.get("spec"));
    let external = |spec: &At<'_, '_>| spec.get("type").text() == "ExternalName";
    let (address, was) = (spec.get("clusterIP"), old.get("clusterIP"));
    let kept = address.text().is_empty() || was.text().is_empty() || address.text() == was.text();
    if !kept && !external(&spec) && !external(&old) {
        let ips = spec.get("clusterIPs");
        let first = ips.items().next();
        let shown = if ips.is_set() { ips.value().clone() } else { json!([address.text()]) };
        errors.invalid_value(first.as_ref().unwrap_or(&address), &shown, "may not change once set");
    }
}

fn is_headless(spec: &At<'_, '_>) -> bool {
    spec.get("clusterIP").text() == "None"
}

fn by_type(spec: &At<'_, '_>, errors: &mut Errors) {
    let kind = spec.get("type").text();
    match kind {
        "LoadBalancer" | "NodePort" if is_headless(spec) => {
            let detail = format!("may not be set to 'None' for {kind} services");
            errors.invalid(&spec.get("clusterIP"), &detail);
        }
        "ExternalName" => {
            for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                let value = spec.get(field);
                if value.is_set() && value.value() != "" && value.value() != &json!([]) {
                    errors.forbidden(&value, "may not be set for ExternalName services");
                }
            }
            let name = spec.get("externalName");
            match name.text().trim_end_matches('.') {
                "" => errors.required(&name, ""),
                text => errors.check_text(&name, text, names::dns_subdomain(text)),
            }
        }
        _ => {}
    }
    let external_policy = spec.get("externalTrafficPolicy");
    if !matches!(kind, "LoadBalancer" | "NodePort") && !external_policy.text().is_empty() {
        errors.invalid(&external_policy, "may only be set for externally-accessible services");
    }
    if kind != "LoadBalancer" {
        for field in ["loadBalancerSourceRanges", "allocateLoadBalancerNodePorts", "loadBalancerClass"] {
            let value = spec.get(field);
            if value.is_set() && value.value() != &json!([]) {
                errors.forbidden(&value, "may only be used when `type` is 'LoadBalancer'");
            }
        }
    }
    for range in spec.get("loadBalancerSourceRanges").items() {
        if !is_cidr(range.text()) {
            errors.invalid(&range, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)");
        }
    }
}

fn ports(spec: &At<'_, '_>, errors: &mut Errors) {
    let list = spec.get("ports");
    let kind = spec.get("type").text();
    if list.is_empty() && !is_headless(spec) && kind != "ExternalName" {
        errors.required(&list, "");
    }
    let (mut port_names, mut numbers, mut node_ports) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for item in list.items() {
        port(&item, list.len() > 1, errors);
        let name = item.get("name");
        if !name.text().is_empty() && !port_names.insert(name.text().to_owned()) {
            errors.duplicate(&name);
        }
        let protocol = item.get("protocol").text().to_owned();
        let number = item.get("port").number().unwrap_or(0);
        if !numbers.insert((protocol.clone(), number)) {
            errors.duplicate_value(&item, &json!({"protocol": protocol, "port": number}));
        }
        let node_port = item.get("nodePort");
        if let Some(number) = node_port.number().filter(|number| *number != 0) {
            errors.check(&node_port, names::port_number(number));
            if kind == "ClusterIP" {
                errors.forbidden(&node_port, "may not be used when `type` is 'ClusterIP'");
            }
            if !node_ports.insert((protocol, number)) {
                errors.duplicate(&node_port);
            }
        }
    }
}

fn port(item: &At<'_, '_>, name_required: bool, errors: &mut Errors) {
    let name = item.get("name");
    if !name.text().is_empty() {
        errors.check(&name, names::dns_label(name.text()));
    } else if name_required {
        errors.required(&name, "");
    }
    let number = item.get("port");
    let value = number.number().unwrap_or(0);
    errors.check_number(&number, value, names::port_number(value));
    errors.one_of(&item.get("protocol"), &["SCTP", "TCP", "UDP"]);
    let target = item.get("targetPort");
    if target.is_set() {
        probe::port(&target, errors);
    }
    let app_protocol = item.get("appProtocol");
    if !app_protocol.text().is_empty() {
        errors.check(&app_protocol, names::qualified_name(app_protocol.text()));
    }
}

fn session_affinity(spec: &At<'_, '_>, errors: &mut Errors) {
    let (affinity, config) = (spec.get("sessionAffinity"), spec.get("sessionAffinityConfig"));
    errors.one_of(&affinity, &["ClientIP", "None"]);
    match affinity.text() {
        "ClientIP" => {
            let timeout = config.get("clientIP.timeoutSeconds");
            match timeout.number() {
                None => errors.required(&config, "when session affinity type is ClientIP"),
                Some(seconds) if !(1..=86_400).contains(&seconds) => {
                    errors.invalid(&timeout, "must be greater than 0 and less than 86400");
                }
                Some(_) => {}
            }
        }
        "None" if config.is_set() => errors.forbidden(&config, "must not be set when session affinity is None"),
        _ => {}
    }
}

fn cluster_ips(spec: &At<'_, '_>, errors: &mut Errors) {
    let (address, list) = (spec.get("clusterIP"), spec.get("clusterIPs"));
    let first = list.items().next().map(|ip| ip.text().to_owned());
    match (address.text(), first.as_deref()) {
        ("", Some(_)) => errors.invalid(&list, "must be empty when clusterIP is not specified"),
        (text, Some(first)) if text != first => errors.invalid(&list, "first value must match `clusterIP`"),
        _ => {}
    }
    for (index, ip) in list.items().enumerate() {
        if ip.text() == "None" {
            if list.len() > 1 {
                errors.invalid(&list, "'None' must be the first and only value");
            }
        } else {
            ip_address(&ip, errors);
        }
        if index == 2 {
            errors.invalid(&list, "may only hold up to 2 values");
        }
    }
    if list.is_empty() && !matches!(address.text(), "" | "None") {
        ip_address(&address, errors);
    }
    let policy = spec.get("ipFamilyPolicy");
    if policy.is_set() {
        errors.one_of(&policy, &["PreferDualStack", "RequireDualStack", "SingleStack"]);
    }
    let mut families = BTreeSet::new();
    for family in spec.get("ipFamilies").items() {
        if !matches!(family.text(), "IPv4" | "IPv6") {
            errors.not_supported(&family, &["IPv4", "IPv6"]);
        }
        if !families.insert(family.text().to_owned()) {
            errors.duplicate(&family);
        }
    }
}

/// Whether a text is an address and a prefix length that fits it.
pub(super) fn is_cidr(text: &str) -> bool {
    let Some((address, length)) = text.trim().split_once('/') else {
        return false;
    };
    let max = match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    length.bytes().all(|byte| byte.is_ascii_digit()) && length.parse::<u8>().is_ok_and(|length| length <= max)
}
