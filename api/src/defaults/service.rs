//! Services and what stands behind them: Endpoints and EndpointSlices.

use serde_json::{Value, json};

use super::edit::{Fields, each, ensured, existing, is_unset, set, text};

/// Seconds that a client sticks to one endpoint under `sessionAffinity: ClientIP`: three hours.
const AFFINITY_TIMEOUT_SECS: i64 = 10_800;

/// Fills in a Service. Addresses and node ports are allocated later, by admission.
pub(super) fn service(fields: &mut Fields) {
    let Some(spec) = ensured(fields, "spec") else {
        return;
    };
    set(spec, "type", "ClusterIP");
    session_affinity(spec);
    for port in each(spec, "ports") {
        set(port, "protocol", "TCP");
        let zero = port.get("targetPort").and_then(Value::as_i64) == Some(0);
        if (zero || is_unset(port, "targetPort"))
            && let Some(number) = port.get("port").cloned()
        {
            port.insert("targetPort".to_owned(), number);
        }
    }
    let kind = text(spec, "type").to_owned();
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer") {
        set(spec, "externalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        set(spec, "allocateLoadBalancerNodePorts", true);
    }
    if kind != "ExternalName" {
        set(spec, "internalTrafficPolicy", "Cluster");
        set(spec, "ipFamilyPolicy", "SingleStack");
        let family = if text(spec, "clusterIP").contains(':') { "IPv6" } else { "IPv4" };
        set(spec, "ipFamilies", json!([family]));
    }
}

fn session_affinity(spec: &mut Fields) {
    set(spec, "sessionAffinity", "None");
    match text(spec, "sessionAffinity") {
        "None" => {
            spec.remove("sessionAffinityConfig");
        }
        "ClientIP" => {
            if let Some(config) = ensured(spec, "sessionAffinityConfig")
                && let Some(client) = ensured(config, "clientIP")
            {
                set(client, "timeoutSeconds", AFFINITY_TIMEOUT_SECS);
            }
        }
        _ => {}
    }
}

/// Fills in Endpoints.
pub(super) fn endpoints(fields: &mut Fields) {
    for subset in each(fields, "subsets") {
        for port in each(subset, "ports") {
            set(port, "protocol", "TCP");
        }
    }
}

/// Fills in an EndpointSlice.
pub(super) fn endpoint_slice(fields: &mut Fields) {
    for port in each(fields, "ports") {
        set(port, "protocol", "TCP");
        if port.get("name").is_none_or(Value::is_null) {
            port.insert("name".to_owned(), "".into());
        }
    }
    for endpoint in each(fields, "endpoints") {
        // A condition of `null` means unknown and reads as absent everywhere, so it is stored as absent.
        if let Some(conditions) = existing(endpoint, "conditions") {
            conditions.retain(|_, value| !value.is_null());
        }
    }
}
