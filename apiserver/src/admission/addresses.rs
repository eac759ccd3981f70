//! Services get cluster addresses and node ports that no other Service has.
//!
//! What is in use is read from the Services, never from a bitmap beside them. The write carries a comparison on the
//! allocation key, so that of two servers that chose from the same state only one commits.

use std::{collections::BTreeSet, net::Ipv4Addr};

use bytes::Bytes;
use drover_api::{
    object::{at, str_at},
    status::{ApiError, FieldError},
};
use drover_store::{Compare, Operation as StoreOperation};
use serde_json::{Value, json};

use super::{Effects, Operation, Request, Settings};
use crate::registry::SERVICE_ALLOCATIONS;

pub(super) fn admit(
    settings: &Settings,
    request: &Request<'_>,
    object: &mut Value,
    effects: &mut Effects,
) -> Result<(), ApiError> {
    if request.operation == Operation::Delete || !request.is_main("", "Service") {
        return Ok(());
    }
    let used = Used::by_others(request);
    if let Some(old) = request.old {
        carry_over(object, old);
    }
    let before = Used::of(request.old.unwrap_or(&Value::Null));
    let choose = |count: u64| request.environment.below(count.max(1));
    assign_address(settings, object, &used, &choose)
        .and_then(|()| assign_ports(settings, object, &used, &choose))
        .map_err(|error| ApiError::invalid(request.kind, request.name, &[error]))?;
    let after = Used::of(object);
    let takes = !after.addresses.is_subset(&before.addresses) || !after.ports.is_subset(&before.ports);
    if let Some(revision) = request.allocation_revision.filter(|_| takes) {
        let key = Bytes::from_static(SERVICE_ALLOCATIONS.as_bytes());
        effects.compares.push(Compare { key: key.clone(), mod_revision: revision });
        effects.operations.push(StoreOperation::Put { key, value: Bytes::from_static(b"{}") });
    }
    Ok(())
}

/// Addresses and ports that Services hold.
#[derive(Debug, Default)]
struct Used {
    addresses: BTreeSet<Ipv4Addr>,
    ports: BTreeSet<u16>,
}

impl Used {
    fn of(service: &Value) -> Self {
        let mut used = Self::default();
        used.add(service);
        used
    }

    fn by_others(request: &Request<'_>) -> Self {
        let mut used = Self::default();
        for service in request.world.list("", "services", "") {
            if service.namespace() != request.namespace || service.name() != request.name {
                used.add(&service.to_value());
            }
        }
        used
    }

    fn add(&mut self, service: &Value) {
        self.addresses.extend(str_at(service, &["spec", "clusterIP"]).parse::<Ipv4Addr>());
        let ports = at(service, &["spec", "ports"]).and_then(Value::as_array).into_iter().flatten();
        self.ports.extend(ports.filter_map(node_port));
        let health = at(service, &["spec", "healthCheckNodePort"]).and_then(Value::as_u64);
        self.ports.extend(health.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0));
    }
}

fn node_port(port: &Value) -> Option<u16> {
    port.get("nodePort").and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0)
}

fn needs_address(service: &Value) -> bool {
    str_at(service, &["spec", "type"]) != "ExternalName"
}

fn needs_ports(service: &Value) -> bool {
    match str_at(service, &["spec", "type"]) {
        "NodePort" => true,
        "LoadBalancer" => {
            at(service, &["spec", "allocateLoadBalancerNodePorts"]).and_then(Value::as_bool).unwrap_or(true)
        }
        _ => false,
    }
}

/// Keeps what the Service has when an update leaves it out, and drops what its new type has no use for.
fn carry_over(service: &mut Value, old: &Value) {
    if !needs_address(service) {
        for field in ["clusterIP", "clusterIPs"] {
            let unchanged = at(service, &["spec", field]) == at(old, &["spec", field]);
            if let Some(spec) = service["spec"].as_object_mut().filter(|_| unchanged) {
                spec.remove(field);
            }
        }
    } else if str_at(service, &["spec", "clusterIP"]).is_empty() && needs_address(old) {
        let held = str_at(old, &["spec", "clusterIP"]).to_owned();
        if !held.is_empty() {
            service["spec"]["clusterIP"] = held.clone().into();
            service["spec"]["clusterIPs"] = json!([held]);
        }
    }
    let keeps = matches!(str_at(service, &["spec", "type"]), "NodePort" | "LoadBalancer");
    let old_ports = at(old, &["spec", "ports"]).and_then(Value::as_array).cloned().unwrap_or_default();
    for port in service["spec"].get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        let same = |found: &&Value| found["port"] == port["port"] && found["protocol"] == port["protocol"];
        let held = old_ports.iter().find(same).and_then(node_port);
        match (keeps, node_port(port)) {
            (true, None) => {
                if let Some(held) = held {
                    port["nodePort"] = held.into();
                }
            }
            (false, Some(stated)) if held == Some(stated) => {
                if let Some(fields) = port.as_object_mut() {
                    fields.remove("nodePort");
                }
            }
            (true | false, _) => {}
        }
    }
}

fn assign_address(
    settings: &Settings,
    service: &mut Value,
    used: &Used,
    choose: &dyn Fn(u64) -> u64,
) -> Result<(), FieldError> {
    if !needs_address(service) {
        return Ok(());
    }
    let first_listed = at(service, &["spec", "clusterIPs", "0"]).or_else(|| service.pointer("/spec/clusterIPs/0"));
    let listed = first_listed.and_then(Value::as_str).unwrap_or_default().to_owned();
    let stated = str_at(service, &["spec", "clusterIP"]).to_owned();
    let stated = if stated.is_empty() { listed } else { stated };
    let address = match stated.as_str() {
        "None" => stated,
        "" => free_address(settings, used, choose)?.to_string(),
        _ => {
            // Malformed addresses are validation's to report.
            let Ok(address) = stated.parse() else { return Ok(()) };
            check_address(settings, used, address)?;
            stated
        }
    };
    service["spec"]["clusterIPs"] = json!([address]);
    service["spec"]["clusterIP"] = address.into();
    Ok(())
}

fn check_address(settings: &Settings, used: &Used, address: Ipv4Addr) -> Result<(), FieldError> {
    let (base, size) = network(settings);
    let offset = u32::from(address).wrapping_sub(base);
    if offset == 0 || offset >= size - 1 {
        let (network, prefix) = settings.service_cidr;
        return Err(invalid(
            "spec.clusterIPs[0]",
            &format!(
                "\"{address}\": failed to allocate IP {address}: the provided IP ({address}) is not in the valid range. The range of valid IPs is {network}/{prefix}"
            ),
        ));
    }
    if used.addresses.contains(&address) {
        return Err(invalid(
            "spec.clusterIPs",
            &format!("[\"{address}\"]: failed to allocate IP {address}: provided IP is already allocated"),
        ));
    }
    Ok(())
}

/// Chooses a free address at random; the first one is kept for Service `default/kubernetes`, which states it.
fn free_address(settings: &Settings, used: &Used, choose: &dyn Fn(u64) -> u64) -> Result<Ipv4Addr, FieldError> {
    let (base, size) = network(settings);
    let count = size.saturating_sub(3);
    let start = u32::try_from(choose(u64::from(count))).unwrap_or(0);
    (0..count)
        .map(|step| Ipv4Addr::from(base + 2 + (start + step) % count))
        .find(|address| !used.addresses.contains(address))
        .ok_or_else(|| invalid("spec.clusterIPs", "[]: failed to allocate a serviceIP: range is full"))
}

/// First address and number of addresses of the Service network.
fn network(settings: &Settings) -> (u32, u32) {
    let (network, prefix) = settings.service_cidr;
    let size = 1_u32.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(u32::MAX).max(4);
    (u32::from(network) & !(size - 1), size)
}

fn assign_ports(
    settings: &Settings,
    service: &mut Value,
    used: &Used,
    choose: &dyn Fn(u64) -> u64,
) -> Result<(), FieldError> {
    let wanted = needs_ports(service);
    let Some(ports) = service["spec"].get_mut("ports").and_then(Value::as_array_mut) else { return Ok(()) };
    let mut own = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let Some(stated) = node_port(port) else { continue };
        let field = format!("spec.ports[{index}].nodePort");
        if !settings.node_ports.contains(&stated) {
            let (low, high) = (settings.node_ports.start(), settings.node_ports.end());
            return Err(invalid(
                &field,
                &format!("{stated}: provided port is not in the valid range. The range of valid ports is {low}-{high}"),
            ));
        }
        if used.ports.contains(&stated) {
            return Err(invalid(&field, &format!("{stated}: provided port is already allocated")));
        }
        own.insert(stated);
    }
    if !wanted {
        return Ok(());
    }
    for (index, port) in ports.iter_mut().enumerate() {
        if node_port(port).is_some() {
            continue;
        }
        let free = free_port(settings, used, &own, choose).ok_or_else(|| {
            let field = format!("spec.ports[{index}].nodePort");
            invalid(&field, "0: failed to allocate a nodePort: range is full")
        })?;
        own.insert(free);
        port["nodePort"] = free.into();
    }
    Ok(())
}

fn free_port(settings: &Settings, used: &Used, own: &BTreeSet<u16>, choose: &dyn Fn(u64) -> u64) -> Option<u16> {
    let (low, high) = (u32::from(*settings.node_ports.start()), u32::from(*settings.node_ports.end()));
    let count = (high + 1).saturating_sub(low);
    let start = u32::try_from(choose(u64::from(count))).unwrap_or(0);
    (0..count)
        .filter_map(|step| u16::try_from(low + (start + step) % count).ok())
        .find(|port| !used.ports.contains(port) && !own.contains(port))
}

fn invalid(field: &str, message: &str) -> FieldError {
    FieldError { reason: "FieldValueInvalid", field: field.to_owned(), message: format!("Invalid value: {message}") }
}
