//! Containers: init containers, sidecars and the others.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    cursor::At,
    pod::{Owner, identifier},
    probe,
    report::Errors,
    resources,
    volume::{self, Volumes},
};
use crate::names;

const INIT_ONLY: &str = "may not be set for init containers without restartPolicy=Always";

/// Checks all containers of a pod spec.
pub(super) fn all(spec: &At<'_, '_>, owner: Owner, volumes: &Volumes<'_>, errors: &mut Errors) {
    let (containers, init) = (spec.get("containers"), spec.get("initContainers"));
    if containers.is_empty() {
        errors.required(&containers, "");
    }
    let host_network = spec.get("hostNetwork").is_true();
    let mut names_seen = BTreeSet::new();
    let mut host_ports = BTreeSet::new();
    for container in containers.items() {
        one(&container, volumes, &mut names_seen, errors);
        if container.get("restartPolicy").is_set() {
            errors.forbidden(&container.get("restartPolicy"), "may not be set for non-init containers");
        }
        unique_host_ports(&container, &mut host_ports, errors);
        if host_network {
            host_network_ports(&container, owner, errors);
        }
    }
    let mut sidecar_ports = BTreeSet::new();
    for container in init.items() {
        one(&container, volumes, &mut names_seen, errors);
        let restart = container.get("restartPolicy");
        if restart.is_set() && restart.text() != "Always" {
            errors.not_supported(&restart, &["Always"]);
        }
        if restart.text() == "Always" {
            unique_host_ports(&container, &mut sidecar_ports, errors);
        } else {
            unique_host_ports(&container, &mut BTreeSet::new(), errors);
            for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
                if container.get(field).is_set() {
                    errors.forbidden(&container.get(field), INIT_ONLY);
                }
            }
        }
    }
}

fn one<'v>(container: &At<'_, 'v>, volumes: &Volumes<'_>, seen: &mut BTreeSet<&'v str>, errors: &mut Errors) {
    let name = container.get("name");
    if name.text().is_empty() {
        errors.required(&name, "");
    } else {
        errors.check(&name, names::dns_label(name.text()));
        if !seen.insert(name.text()) {
            errors.duplicate(&name);
        }
    }
    image(container, errors);
    errors.one_of(&container.get("terminationMessagePolicy"), &["File", "FallbackToLogsOnError"]);
    probe::lifecycle(&container.get("lifecycle"), errors);
    for kind in ["livenessProbe", "readinessProbe", "startupProbe"] {
        probe::probe(&container.get(kind), kind, errors);
    }
    ports(&container.get("ports"), errors);
    environment(container, errors);
    volume::mounts(container, volumes, errors);
    resources::requirements(&container.get("resources"), errors);
    security_context(&container.get("securityContext"), errors);
}

fn image(container: &At<'_, '_>, errors: &mut Errors) {
    let image = container.get("image");
    if image.text().is_empty() {
        errors.required(&image, "");
    } else if image.text().trim() != image.text() {
        errors.invalid(&image, "must not have leading or trailing whitespace");
    }
    let policy = container.get("imagePullPolicy");
    if policy.is_set() || !image.text().is_empty() {
        errors.one_of(&policy, &["Always", "IfNotPresent", "Never"]);
    }
}

fn ports(list: &At<'_, '_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for port in list.items() {
        let name = port.get("name");
        if !name.text().is_empty() {
            let messages = names::port_name(name.text());
            if messages.is_empty() && !seen.insert(name.text()) {
                errors.duplicate(&name);
            }
            errors.check(&name, messages);
        }
        let number = port.get("containerPort");
        match number.number() {
            None | Some(0) => errors.required(&number, ""),
            Some(value) => errors.check(&number, names::port_number(value)),
        }
        let host = port.get("hostPort");
        if let Some(value) = host.number().filter(|value| *value != 0) {
            errors.check(&host, names::port_number(value));
        }
        errors.one_of(&port.get("protocol"), &["SCTP", "TCP", "UDP"]);
    }
}

fn unique_host_ports(container: &At<'_, '_>, seen: &mut BTreeSet<String>, errors: &mut Errors) {
    for port in container.get("ports").items() {
        let host = port.get("hostPort");
        let Some(number) = host.number().filter(|number| *number != 0) else {
            continue;
        };
        let key = format!("{}/{}/{number}", port.get("protocol").text(), port.get("hostIP").text());
        if !seen.insert(key.clone()) {
            errors.duplicate_value(&host, &Value::from(key));
        }
    }
}

fn host_network_ports(container: &At<'_, '_>, owner: Owner, errors: &mut Errors) {
    for port in container.get("ports").items() {
        let (host, number) = (port.get("hostPort").number().unwrap_or(0), port.get("containerPort"));
        // In a template the host port may still be missing: it is filled in when the pod is made.
        let stated = owner == Owner::Pod || host != 0;
        if stated && Some(host) != number.number() {
            errors.invalid(&number, "must match `hostPort` when `hostNetwork` is true");
        }
    }
}

fn environment(container: &At<'_, '_>, errors: &mut Errors) {
    for variable in container.get("env").items() {
        let name = variable.get("name");
        if name.text().is_empty() {
            errors.required(&name, "");
        } else {
            errors.check(&name, names::env_var(name.text()));
        }
        let source = variable.get("valueFrom");
        if source.is_set() {
            value_source(&source, !variable.get("value").text().is_empty(), errors);
        }
    }
    let list = container.get("envFrom");
    for source in list.items() {
        let prefix = source.get("prefix");
        if !prefix.text().is_empty() {
            errors.check(&prefix, names::env_var(prefix.text()));
        }
        let (config_map, secret) = (source.get("configMapRef"), source.get("secretRef"));
        for reference in [&config_map, &secret] {
            if reference.is_set() && reference.get("name").text().is_empty() {
                errors.required(&reference.get("name"), "");
            }
        }
        match (config_map.is_set(), secret.is_set()) {
            (false, false) => {
                invalid_empty(&source, "must specify one of: `configMapRef` or `secretRef`", errors);
            }
            (true, true) => invalid_empty(&source, "may not have more than one field specified at a time", errors),
            (true, false) | (false, true) => {}
        }
    }
}

fn value_source(source: &At<'_, '_>, has_value: bool, errors: &mut Errors) {
    let fields = ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef"];
    let sources = fields.iter().filter(|field| source.get(field).is_set()).count();
    if source.get("fieldRef").is_set() {
        probe::field_reference(&source.get("fieldRef"), &probe::ENV_FIELDS, errors);
    }
    if source.get("resourceFieldRef").is_set() {
        probe::resource_reference(&source.get("resourceFieldRef"), false, errors);
    }
    for field in ["configMapKeyRef", "secretKeyRef"] {
        let reference = source.get(field);
        if reference.is_set() {
            if reference.get("name").text().is_empty() {
                errors.required(&reference.get("name"), "");
            }
            let key = reference.get("key");
            if key.text().is_empty() {
                errors.required(&key, "");
            } else {
                errors.check(&key, names::config_key(key.text()));
            }
        }
    }
    if sources == 0 {
        let detail = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef`";
        invalid_empty(source, detail, errors);
    } else if has_value {
        invalid_empty(source, "may not be specified when `value` is not empty", errors);
    } else if sources > 1 {
        invalid_empty(source, "may not have more than one field specified at a time", errors);
    }
}

fn security_context(context: &At<'_, '_>, errors: &mut Errors) {
    for field in ["runAsUser", "runAsGroup"] {
        identifier(&context.get(field), errors);
    }
    let proc_mount = context.get("procMount");
    if proc_mount.is_set() {
        errors.one_of(&proc_mount, &["Default", "Unmasked"]);
    }
    probe::seccomp(&context.get("seccompProfile"), errors);
    let escalation = context.get("allowPrivilegeEscalation");
    if escalation.is_set() && !escalation.is_true() {
        if context.get("privileged").is_true() {
            errors.invalid(context, "cannot set `allowPrivilegeEscalation` to false and `privileged` to true");
        }
        if context.get("capabilities.add").items().any(|capability| capability.text() == "CAP_SYS_ADMIN") {
            errors.invalid(
                context,
                "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN",
            );
        }
    }
}

fn invalid_empty(at: &At<'_, '_>, detail: &str, errors: &mut Errors) {
    errors.invalid_value(at, &Value::from(""), detail);
}
