//! `fieldRef` and `resourceFieldRef`, for environments and downward API volumes alike.

use drover_api::quantity::Quantity;
use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};

use crate::seams::PodFacts;

/// What a fieldRef names; `None` when there is no such field.
pub(crate) fn field(pod: &Pod, facts: &PodFacts, path: &str) -> Option<String> {
    let meta = &pod.metadata;
    let (labels, annotations) = (meta.labels.as_ref(), meta.annotations.as_ref());
    if let Some(key) = subscript(path, "metadata.labels") {
        return Some(labels.and_then(|labels| labels.get(key)).cloned().unwrap_or_default());
    }
    if let Some(key) = subscript(path, "metadata.annotations") {
        return Some(annotations.and_then(|annotations| annotations.get(key)).cloned().unwrap_or_default());
    }
    let spec = pod.spec.as_ref();
    let address = |address: Option<std::net::IpAddr>| address.map(|address| address.to_string()).unwrap_or_default();
    let text = match path {
        "metadata.name" => meta.name.clone().unwrap_or_default(),
        "metadata.namespace" => meta.namespace.clone().unwrap_or_default(),
        "metadata.uid" => meta.uid.clone().unwrap_or_default(),
        "metadata.labels" => listing(labels),
        "metadata.annotations" => listing(annotations),
        "spec.nodeName" => facts.node_name.clone(),
        "spec.serviceAccountName" => spec.and_then(|spec| spec.service_account_name.clone()).unwrap_or_default(),
        "status.podIP" | "status.podIPs" => address(facts.pod_ip),
        "status.hostIP" | "status.hostIPs" => address(facts.host_ip),
        _ => return None,
    };
    Some(text)
}

/// `metadata.labels['key']` for the prefix `metadata.labels`.
fn subscript<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    path.strip_prefix(prefix)?.strip_prefix("['")?.strip_suffix("']")
}

/// All pairs as a downward API file has them: one `key="value"` a line, sorted.
fn listing(map: Option<&std::collections::BTreeMap<String, String>>) -> String {
    let lines: Vec<String> = map.into_iter().flatten().map(|(key, value)| format!("{key}={value:?}")).collect();
    lines.join("\n")
}

/// What a resourceFieldRef names, in units of its divisor, rounded up.
///
/// # Errors
/// A sentence for users.
pub(crate) fn resource(
    container: &Container,
    selector: &ResourceFieldSelector,
    facts: &PodFacts,
) -> Result<String, String> {
    let name = selector.resource.as_str();
    let resources = container.resources.clone().unwrap_or_default();
    let (list, kind) = match name.split_once('.') {
        Some(("limits", kind)) => (resources.limits, kind),
        Some(("requests", kind)) => (resources.requests, kind),
        Some(_) | None => return Err(format!("unsupported container resource : {name}")),
    };
    let known = matches!(kind, "cpu" | "memory" | "ephemeral-storage") || kind.starts_with("hugepages-");
    if !known {
        return Err(format!("unsupported container resource : {name}"));
    }
    let parse = |text: &str| Quantity::parse(text).map_err(|error| format!("{name}: {error}"));
    let given = list.as_ref().and_then(|list| list.get(kind)).map(|quantity| parse(&quantity.0)).transpose()?;
    let amount = given.unwrap_or_else(|| match (name.starts_with("limits."), kind) {
        (true, "cpu") => Quantity::from_units(i64::try_from(facts.node_allocatable_cpu_cores).unwrap_or(i64::MAX)),
        (true, "memory") => {
            Quantity::from_bytes(i64::try_from(facts.node_allocatable_memory_bytes).unwrap_or(i64::MAX))
        }
        (_, _) => Quantity::ZERO,
    });
    let divisor = selector.divisor.as_ref().map(|divisor| divisor.0.as_str()).filter(|text| !text.is_empty());
    let divisor = parse(divisor.unwrap_or("1"))?;
    let divisor = if divisor.is_zero() { Quantity::from_units(1) } else { divisor };
    // A CPU is counted in thousandths, all else in whole units.
    let (amount, divisor) = match kind {
        "cpu" => (amount.milli_value(), divisor.milli_value()),
        _ => (amount.value(), divisor.value()),
    };
    let quotient = i128::from(amount).div_euclid(i128::from(divisor.max(1)));
    let rest = i128::from(amount).rem_euclid(i128::from(divisor.max(1)));
    Ok((quotient + i128::from(rest > 0)).to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn facts() -> PodFacts {
        PodFacts {
            pod_ip: Some("10.1.2.3".parse().unwrap()),
            host_ip: Some("192.0.2.1".parse().unwrap()),
            node_name: "n1".to_owned(),
            node_allocatable_cpu_cores: 4,
            node_allocatable_memory_bytes: 1 << 30,
        }
    }

    #[test]
    fn every_field_has_its_value() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": { "name": "web", "namespace": "ns", "uid": "u", "labels": { "b": "2", "a": "x\"y" },
                "annotations": { "example.com/k": "v" } },
            "spec": { "containers": [], "serviceAccountName": "robot" },
        }))
        .unwrap();
        let table = [
            ("metadata.name", Some("web")),
            ("metadata.namespace", Some("ns")),
            ("metadata.uid", Some("u")),
            ("metadata.labels['b']", Some("2")),
            ("metadata.labels['none']", Some("")),
            ("metadata.annotations['example.com/k']", Some("v")),
            ("metadata.labels", Some("a=\"x\\\"y\"\nb=\"2\"")),
            ("spec.nodeName", Some("n1")),
            ("spec.serviceAccountName", Some("robot")),
            ("status.podIP", Some("10.1.2.3")),
            ("status.podIPs", Some("10.1.2.3")),
            ("status.hostIP", Some("192.0.2.1")),
            ("status.hostIPs", Some("192.0.2.1")),
            ("status.phase", None),
            ("metadata.labels[b]", None),
        ];
        for (path, value) in table {
            assert_eq!(field(&pod, &facts(), path).as_deref(), value, "{path}");
        }
    }

    #[test]
    fn resources_are_divided_and_rounded_up() {
        let container: Container = serde_json::from_value(json!({
            "name": "c",
            "resources": { "limits": { "memory": "64Mi" }, "requests": { "cpu": "250m", "memory": "1500k" } },
        }))
        .unwrap();
        let table = [
            ("requests.cpu", None, Ok("1")),
            ("requests.cpu", Some("1m"), Ok("250")),
            ("requests.cpu", Some("0"), Ok("1")),
            ("limits.cpu", None, Ok("4")),
            ("limits.cpu", Some("1m"), Ok("4000")),
            ("limits.memory", Some("1Mi"), Ok("64")),
            ("limits.memory", None, Ok("67108864")),
            ("requests.memory", Some("1Mi"), Ok("2")),
            ("requests.ephemeral-storage", None, Ok("0")),
            ("limits.gpu", None, Err("unsupported container resource : limits.gpu")),
            ("cpu", None, Err("unsupported container resource : cpu")),
        ];
        for (resource_name, divisor, expected) in table {
            let selector: ResourceFieldSelector =
                serde_json::from_value(json!({ "resource": resource_name, "divisor": divisor })).unwrap();
            let result = resource(&container, &selector, &facts());
            assert_eq!(result, expected.map(str::to_owned).map_err(str::to_owned), "{resource_name} {divisor:?}");
        }
    }
}
