//! Pods and their containers.

use drover_api::{
    object::{self, str_at},
    quantity::Quantity,
};
use serde_json::Value;

use super::{Page, explain, items, spell};
use crate::output::{Style, Text};

/// The parts of a pod.
pub(super) fn describe(found: &Value, events: &[Value], page: &mut Page) {
    page.field("Status", &drover_api::table::pod_status(found).reason);
    if let Some(reason) = explain::pod(found, events) {
        page.field("Waits for", &reason.what);
        page.field("Try", reason.hint.as_deref().unwrap_or_default());
    }
    let (node, host) = (str_at(found, &["spec", "nodeName"]), str_at(found, &["status", "hostIP"]));
    page.field("Node", &if node.is_empty() { "<none>".to_owned() } else { format!("{node}/{host}") });
    page.field("IP", str_at(found, &["status", "podIP"]));
    page.field("QoS class", str_at(found, &["status", "qosClass"]));
    page.field("Service account", str_at(found, &["spec", "serviceAccountName"]));
    page.field("Priority class", str_at(found, &["spec", "priorityClassName"]));
    page.map("Node selector", object::at(found, &["spec", "nodeSelector"]));
    for (title, containers, statuses) in [
        ("Init containers", "initContainers", "initContainerStatuses"),
        ("Containers", "containers", "containerStatuses"),
    ] {
        let listed = items(found, &["spec", containers]);
        if !listed.is_empty() {
            page.heading(title);
        }
        for one in listed {
            let name = str_at(one, &["name"]);
            let status = items(found, &["status", statuses]).iter().find(|status| str_at(status, &["name"]) == name);
            container(one, status, page);
        }
    }
    volumes(found, page);
}

/// One container, with its status when there is one.
pub(super) fn container(spec: &Value, status: Option<&Value>, page: &mut Page) {
    page.line(Text::new().plain("  ").with(Style::Cyan, str_at(spec, &["name"])));
    let mut field = |name: &str, value: &str| page.indented(2, name, value);
    field("Image", str_at(spec, &["image"]));
    if let Some(status) = status {
        field("Container ID", str_at(status, &["containerID"]));
        field("Image ID", str_at(status, &["imageID"]));
        field("State", &state(&status["state"]));
        field("Last state", &state(&status["lastState"]));
        field("Ready", &spell(&status["ready"]));
        field("Restarts", &spell(&status["restartCount"]));
    }
    let words = |name: &str| items(spec, &[name]).iter().map(spell).collect::<Vec<_>>().join(" ");
    field("Command", &words("command"));
    field("Arguments", &words("args"));
    let ports = items(spec, &["ports"])
        .iter()
        .map(|port| format!("{}/{}", spell(&port["containerPort"]), str_at(port, &["protocol"])));
    field("Ports", &ports.collect::<Vec<_>>().join(", "));
    for (name, part) in [("Requests", "requests"), ("Limits", "limits")] {
        let pairs = object::at(spec, &["resources", part]).and_then(Value::as_object);
        let pairs = pairs.into_iter().flatten().map(|(key, value)| format!("{key} {}", spell(value)));
        field(name, &pairs.collect::<Vec<_>>().join(", "));
    }
    for (name, part) in [("Startup", "startupProbe"), ("Readiness", "readinessProbe"), ("Liveness", "livenessProbe")] {
        field(name, &spec.get(part).map(probe).unwrap_or_default());
    }
    for variable in items(spec, &["env"]) {
        let from = variable.get("valueFrom").map(|from| format!("<{}>", source(from)));
        let value = from.unwrap_or_else(|| str_at(variable, &["value"]).to_owned());
        field("Env", &format!("{}={value}", str_at(variable, &["name"])));
    }
    for mount in items(spec, &["volumeMounts"]) {
        let read_only = if mount["readOnly"] == true { " (read-only)" } else { "" };
        field("Mount", &format!("{} from {}{read_only}", str_at(mount, &["mountPath"]), str_at(mount, &["name"])));
    }
}

/// What all containers of a pod ask for, as text.
pub(super) fn requests(pod: &Value, resource: &str) -> String {
    let asked = items(pod, &["spec", "containers"]).iter();
    let asked =
        asked.filter_map(|one| Quantity::from_value(object::at(one, &["resources", "requests", resource])?).ok());
    asked.fold(Quantity::ZERO, |sum, one| sum + one).to_string()
}

fn state(state: &Value) -> String {
    let Some((name, detail)) = state.as_object().and_then(|fields| fields.iter().next()) else { return String::new() };
    let mut text = name.clone();
    let mut add = |label: &str, value: &str| {
        if !value.is_empty() {
            text.push_str(&format!(", {label}{value}"));
        }
    };
    add("", str_at(detail, &["reason"]));
    add("exit code ", &detail.get("exitCode").map(spell).unwrap_or_default());
    add("since ", str_at(detail, &["startedAt"]));
    add("until ", str_at(detail, &["finishedAt"]));
    add("", str_at(detail, &["message"]));
    text
}

fn probe(probe: &Value) -> String {
    let action = if let Some(http) = probe.get("httpGet") {
        format!("HTTP GET :{}{}", spell(&http["port"]), str_at(http, &["path"]))
    } else if let Some(tcp) = probe.get("tcpSocket") {
        format!("TCP :{}", spell(&tcp["port"]))
    } else if let Some(grpc) = probe.get("grpc") {
        format!("gRPC :{} {}", spell(&grpc["port"]), str_at(grpc, &["service"]))
    } else {
        let words = items(probe, &["exec", "command"]).iter().map(spell).collect::<Vec<_>>();
        format!("exec [{}]", words.join(" "))
    };
    let number = |field: &str, otherwise: i64| probe[field].as_i64().unwrap_or(otherwise);
    format!(
        "{action}, every {} s, timeout {} s, {} failures",
        number("periodSeconds", 10),
        number("timeoutSeconds", 1),
        number("failureThreshold", 3)
    )
}

/// `secret db key password`, `field metadata.name`.
fn source(from: &Value) -> String {
    for (part, word) in [("secretKeyRef", "secret"), ("configMapKeyRef", "config map")] {
        if let Some(reference) = from.get(part) {
            return format!("{word} {} key {}", str_at(reference, &["name"]), str_at(reference, &["key"]));
        }
    }
    match from.get("fieldRef") {
        Some(field) => format!("field {}", str_at(field, &["fieldPath"])),
        None => format!("resource {}", str_at(from, &["resourceFieldRef", "resource"])),
    }
}

fn volumes(found: &Value, page: &mut Page) {
    let listed = items(found, &["spec", "volumes"]);
    if !listed.is_empty() {
        page.heading("Volumes");
    }
    for volume in listed {
        let kind = volume.as_object().into_iter().flatten().find(|(key, _)| *key != "name");
        let Some((kind, detail)) = kind else { continue };
        let named = ["claimName", "secretName", "name", "path"].iter().find_map(|field| detail[*field].as_str());
        page.indented(1, str_at(volume, &["name"]), &format!("{kind} {}", named.unwrap_or_default()));
    }
}
