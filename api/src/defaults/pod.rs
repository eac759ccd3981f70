//! Pods and pod templates.

use serde_json::{Map, Value, json};

use super::edit::{Fields, canonicalise_resources, each, ensured, existing, is_unset, set, set_number, text};
use crate::quantity::Quantity;

/// Mode of projected files unless stated: 0644.
const FILE_MODE: i64 = 0o644;

/// Fills in a Pod: its spec as in a template, and what only a Pod proper gets.
pub(super) fn pod(fields: &mut Fields) {
    if let Some(spec) = ensured(fields, "spec") {
        pod_spec(spec);
        set(spec, "enableServiceLinks", true);
        let host_network = spec.get("hostNetwork").and_then(Value::as_bool).unwrap_or(false);
        for list in ["containers", "initContainers"] {
            for container in each(spec, list) {
                requests_from_limits(container);
                if host_network {
                    each(container, "ports").for_each(host_port_from_container_port);
                }
            }
        }
    }
    let class = qos_class(fields.get("spec").unwrap_or(&Value::Null));
    if let Some(status) = ensured(fields, "status") {
        set(status, "phase", "Pending");
        set(status, "qosClass", class);
    }
}

/// Fills in the spec of a Pod or of a pod template.
pub(super) fn pod_spec(spec: &mut Fields) {
    set(spec, "dnsPolicy", "ClusterFirst");
    set(spec, "restartPolicy", "Always");
    set(spec, "schedulerName", "default-scheduler");
    set(spec, "terminationGracePeriodSeconds", 30);
    set(spec, "securityContext", Map::new());
    // The two spellings of one field are kept alike, so that either kind of client reads it.
    if let Some(account) = spec.get("serviceAccountName").filter(|name| name.as_str() != Some("")).cloned() {
        set(spec, "serviceAccount", account);
    } else if let Some(account) = spec.get("serviceAccount").filter(|name| name.is_string()).cloned() {
        set(spec, "serviceAccountName", account);
    }
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        each(spec, list).for_each(container);
    }
    each(spec, "volumes").for_each(volume);
    canonicalise_resources(spec, "overhead");
}

/// Returns the quality-of-service class that a pod's requests and limits earn it.
///
/// Guaranteed: every container limits CPU and memory and requests exactly that. BestEffort: none asks for any.
pub fn qos_class(spec: &Value) -> &'static str {
    let mut any = false;
    let mut guaranteed = true;
    let lists = ["containers", "initContainers"].into_iter().filter_map(|list| spec.get(list)?.as_array());
    for container in lists.flatten() {
        for resource in ["cpu", "memory"] {
            let amount = |list: &str| {
                let value = container.get("resources")?.get(list)?.get(resource)?;
                Quantity::from_value(value).ok().filter(|amount| *amount > Quantity::ZERO)
            };
            let (request, limit) = (amount("requests"), amount("limits"));
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some() && (request.is_none() || request == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

fn container(container: &mut Fields) {
    set(container, "terminationMessagePath", "/dev/termination-log");
    set(container, "terminationMessagePolicy", "File");
    if is_unset(container, "imagePullPolicy") && !is_unset(container, "image") {
        let policy = if names_latest(text(container, "image")) { "Always" } else { "IfNotPresent" };
        set(container, "imagePullPolicy", policy);
    }
    set(container, "resources", Map::new());
    if let Some(resources) = existing(container, "resources") {
        canonicalise_resources(resources, "limits");
        canonicalise_resources(resources, "requests");
    }
    for port in each(container, "ports") {
        set(port, "protocol", "TCP");
    }
    for probe_name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(found) = existing(container, probe_name) {
            probe(found);
        }
    }
    if let Some(hooks) = existing(container, "lifecycle") {
        for hook in ["postStart", "preStop"] {
            if let Some(handler) = existing(hooks, hook) {
                http_get(handler);
            }
        }
    }
    for variable in each(container, "env") {
        if let Some(source) = existing(variable, "valueFrom") {
            field_source(source);
        }
    }
}

/// Whether an image reference means the tag `latest`: it says so, or names neither tag nor digest.
fn names_latest(image: &str) -> bool {
    let (name, digest) = image.split_once('@').map_or((image, false), |(name, _)| (name, true));
    let last = name.rsplit('/').next().unwrap_or_default();
    match last.split_once(':') {
        Some((_, tag)) => tag == "latest",
        None => !digest,
    }
}

fn probe(probe: &mut Fields) {
    set_number(probe, "timeoutSeconds", 1);
    set_number(probe, "periodSeconds", 10);
    set_number(probe, "successThreshold", 1);
    set_number(probe, "failureThreshold", 3);
    http_get(probe);
    if let Some(grpc) = existing(probe, "grpc")
        && !grpc.contains_key("service")
    {
        grpc.insert("service".to_owned(), "".into());
    }
}

fn http_get(handler: &mut Fields) {
    if let Some(get) = existing(handler, "httpGet") {
        set(get, "path", "/");
        set(get, "scheme", "HTTP");
    }
}

fn field_source(source: &mut Fields) {
    if let Some(field) = existing(source, "fieldRef") {
        set(field, "apiVersion", "v1");
    }
    if let Some(resource) = existing(source, "resourceFieldRef") {
        set(resource, "divisor", "0");
    }
}

fn requests_from_limits(container: &mut Fields) {
    let Some(resources) = existing(container, "resources") else {
        return;
    };
    let Some(limits) = resources.get("limits").and_then(Value::as_object).filter(|limits| !limits.is_empty()).cloned()
    else {
        return;
    };
    if let Some(requests) = ensured(resources, "requests") {
        for (resource, amount) in limits {
            requests.entry(resource).or_insert(amount);
        }
    }
}

fn host_port_from_container_port(port: &mut Fields) {
    if let Some(number) = port.get("containerPort").and_then(Value::as_i64) {
        set_number(port, "hostPort", number);
    }
}

fn volume(volume: &mut Fields) {
    let sourceless = !volume.iter().any(|(key, value)| key != "name" && !value.is_null());
    if sourceless {
        volume.insert("emptyDir".to_owned(), json!({}));
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(files) = existing(volume, source) {
            set(files, "defaultMode", FILE_MODE);
            each(files, "items").for_each(field_source);
            each(files, "sources").for_each(projection);
        }
    }
    if let Some(host_path) = existing(volume, "hostPath")
        && host_path.get("type").is_none_or(Value::is_null)
    {
        host_path.insert("type".to_owned(), "".into());
    }
    if let Some(spec) = existing(volume, "ephemeral")
        .and_then(|source| existing(source, "volumeClaimTemplate"))
        .and_then(|template| existing(template, "spec"))
    {
        set(spec, "volumeMode", "Filesystem");
    }
}

fn projection(source: &mut Fields) {
    if let Some(token) = existing(source, "serviceAccountToken") {
        set(token, "expirationSeconds", 3600);
    }
    if let Some(downward) = existing(source, "downwardAPI") {
        each(downward, "items").for_each(field_source);
    }
}
