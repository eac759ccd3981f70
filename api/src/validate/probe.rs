//! Probes, lifecycle hooks, references to a pod's own fields, and seccomp profiles.

use serde_json::Value;

use super::{cursor::At, report::Errors, volume};
use crate::{names, quantity::Quantity};

/// Fields of a pod that an environment variable may show.
pub(super) const ENV_FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// Fields of a pod that a file of a downward API volume may show.
pub(super) const FILE_FIELDS: [&str; 5] =
    ["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];
const CONTAINER_RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

/// Checks a probe, if there is one. `kind` is its field's name.
pub(super) fn probe(probe: &At<'_, '_>, kind: &str, errors: &mut Errors) {
    if !probe.is_set() {
        return;
    }
    handler(probe, &["exec", "httpGet", "tcpSocket", "grpc"], errors);
    for field in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"] {
        errors.non_negative(&probe.get(field));
    }
    let threshold = probe.get("successThreshold");
    if kind != "readinessProbe" && threshold.number().is_some_and(|number| number != 1) {
        errors.invalid(&threshold, "must be 1");
    }
    let grace = probe.get("terminationGracePeriodSeconds");
    if let Some(seconds) = grace.number() {
        if kind == "readinessProbe" {
            errors.invalid(&grace, "must not be set for readinessProbes");
        } else if seconds <= 0 {
            errors.invalid(&grace, "must be greater than 0");
        }
    }
}

/// Checks the hooks of a container.
pub(super) fn lifecycle(hooks: &At<'_, '_>, errors: &mut Errors) {
    for hook in ["postStart", "preStop"] {
        if hooks.get(hook).is_set() {
            handler(&hooks.get(hook), &["exec", "httpGet", "tcpSocket", "sleep"], errors);
        }
    }
}

fn handler(at: &At<'_, '_>, kinds: &[&str], errors: &mut Errors) {
    let mut found = 0;
    for kind in kinds {
        let action = at.get(kind);
        if !action.is_set() {
            continue;
        }
        found += 1;
        if found > 1 {
            errors.forbidden(&action, "may not specify more than 1 handler type");
            continue;
        }
        match *kind {
            "exec" => {
                if action.get("command").is_empty() {
                    errors.required(&action.get("command"), "");
                }
            }
            "httpGet" => http_get(&action, errors),
            "sleep" => errors.non_negative(&action.get("seconds")),
            "grpc" => {
                let port = action.get("port");
                errors.check(&port, names::port_number(port.number().unwrap_or(0)));
            }
            _ => port(&action.get("port"), errors),
        }
    }
    if found == 0 {
        errors.required(at, "must specify a handler type");
    }
}

fn http_get(action: &At<'_, '_>, errors: &mut Errors) {
    if action.get("path").text().is_empty() {
        errors.required(&action.get("path"), "");
    }
    port(&action.get("port"), errors);
    let scheme = action.get("scheme");
    if !matches!(scheme.text(), "HTTP" | "HTTPS") {
        errors.not_supported(&scheme, &["HTTP", "HTTPS"]);
    }
    for header in action.get("httpHeaders").items() {
        let name = header.get("name");
        errors.check(&name, names::http_header(name.text()));
    }
}

/// Checks a port that is given by number or by name.
pub(super) fn port(port: &At<'_, '_>, errors: &mut Errors) {
    match port.value() {
        Value::String(name) => errors.check(port, names::port_name(name)),
        Value::Number(number) => errors.check(port, names::port_number(number.as_i64().unwrap_or(0))),
        Value::Null => errors.invalid_value(port, &Value::from(0), &names::port_number(0).join("; ")),
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
            errors.invalid(port, "must be an integer or a port name");
        }
    }
}

/// Checks a reference to a field of the pod.
pub(super) fn field_reference(reference: &At<'_, '_>, supported: &[&str], errors: &mut Errors) {
    let (version, path) = (reference.get("apiVersion"), reference.get("fieldPath"));
    if version.text().is_empty() {
        return errors.required(&version, "");
    }
    if path.text().is_empty() {
        return errors.required(&path, "");
    }
    if version.text() != "v1" {
        let detail = format!("error converting fieldPath: unsupported pod version: {}", version.text());
        return errors.invalid(&path, &detail);
    }
    let subscript = path.text().split_once("['").and_then(|(field, rest)| Some((field, rest.strip_suffix("']")?)));
    match subscript {
        Some(("metadata.annotations", key)) => {
            errors.check_text(reference, key, names::qualified_name(&key.to_lowercase()));
        }
        Some(("metadata.labels", key)) => errors.check_text(reference, key, names::qualified_name(key)),
        Some((field, _)) => errors.invalid_value(reference, &Value::from(field), "does not support subscript"),
        None if supported.contains(&path.text()) => {}
        None => errors.not_supported(&path, supported),
    }
}

/// Checks a reference to a request or limit of a container.
pub(super) fn resource_reference(reference: &At<'_, '_>, in_volume: bool, errors: &mut Errors) {
    let (container, resource) = (reference.get("containerName"), reference.get("resource"));
    if in_volume && container.text().is_empty() {
        errors.required(&container, "");
    } else if resource.text().is_empty() {
        errors.required(&resource, "");
    } else if !CONTAINER_RESOURCES.contains(&resource.text())
        && !["requests.hugepages-", "limits.hugepages-"].iter().any(|prefix| resource.text().starts_with(prefix))
    {
        errors.not_supported(&resource, &CONTAINER_RESOURCES);
    }
    let divisor = reference.get("divisor");
    let amount = Quantity::from_value(divisor.value()).unwrap_or(Quantity::ZERO);
    if amount.is_zero() {
        return;
    }
    let allowed: &[&str] = match resource.text().rsplit('.').next().unwrap_or_default() {
        "cpu" => &["1m", "1"],
        _ => &["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"],
    };
    if !allowed.contains(&amount.to_string().as_str()) {
        let detail = format!("only divisor's values {} are supported with this resource", allowed.join(", "));
        errors.invalid(&divisor, &detail);
    }
}

/// Checks a seccomp profile, if there is one.
pub(super) fn seccomp(profile: &At<'_, '_>, errors: &mut Errors) {
    if !profile.is_set() {
        return;
    }
    let (kind, file) = (profile.get("type"), profile.get("localhostProfile"));
    errors.one_of(&kind, &["Localhost", "RuntimeDefault", "Unconfined"]);
    if kind.text() == "Localhost" {
        if !file.is_set() {
            errors.required(&file, "must be set when seccomp type is Localhost");
        } else {
            volume::descending_path(&file, errors);
        }
    } else if file.is_set() {
        errors.invalid(&file, "can only be set when seccomp type is Localhost");
    }
}
