//! The spec of a Pod or of a pod template.

use std::{collections::BTreeSet, net::IpAddr};

use serde_json::Value;

use super::{affinity, container, cursor::At, metadata, probe, report::Errors, resources, selector, volume};
use crate::{names, placement::Rules};

/// What resolvers take: the limits that Kubernetes sets for `dnsConfig`.
const NAMESERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;
const SEARCH_LIST_CHARS_MAX: usize = 2048;
const BAD_IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";

/// Whose spec it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    Pod,
    Template,
}

/// Checks a Pod.
pub(super) fn pod(root: &At<'_, '_>, errors: &mut Errors) {
    spec(&root.get("spec"), Owner::Pod, errors);
    placement(root, errors);
}

/// Checks the expressions of classic Swarm that say where a pod goes.
fn placement(pod: &At<'_, '_>, errors: &mut Errors) {
    let annotations = pod.get("metadata.annotations");
    let annotations = annotations.entries().map(|(key, value)| (key, value.text()));
    let mut environment = Vec::new();
    for list in ["spec.containers", "spec.initContainers"] {
        for container in pod.get(list).items() {
            for variable in container.get("env").items() {
                environment.push((variable.get("name").text(), variable.get("value").text()));
            }
        }
    }
    if let Err(mistake) = Rules::read(annotations, environment.into_iter()) {
        let at = if mistake.place.starts_with("annotation") { "metadata.annotations" } else { "spec.containers" };
        errors.invalid_value(&pod.get(at), &mistake.place.into(), &mistake.why);
    }
}

/// Checks what holds only while a Pod is new.
pub(super) fn create(root: &At<'_, '_>, errors: &mut Errors) {
    let spec = root.get("spec");
    if !spec.get("ephemeralContainers").is_empty() {
        errors.forbidden(&spec.get("ephemeralContainers"), "cannot be set on create");
    }
    if !spec.get("schedulingGates").is_empty() && !spec.get("nodeName").text().is_empty() {
        errors.forbidden(&spec.get("nodeName"), "cannot be set until all schedulingGates have been cleared");
    }
}

/// Checks the template of a workload.
pub(super) fn template(template: &At<'_, '_>, errors: &mut Errors) {
    selector::labels(&template.get("metadata.labels"), errors);
    metadata::annotations(&template.get("metadata.annotations"), errors);
    let pod = template.get("spec");
    spec(&pod, Owner::Template, errors);
    if !pod.get("ephemeralContainers").is_empty() {
        errors.forbidden(&pod.get("ephemeralContainers"), "ephemeral containers not allowed in pod template");
    }
    placement(template, errors);
}

fn spec(spec: &At<'_, '_>, owner: Owner, errors: &mut Errors) {
    let volumes = volume::volumes(&spec.get("volumes"), errors);
    container::all(spec, owner, &volumes, errors);
    errors.one_of(&spec.get("restartPolicy"), &["Always", "OnFailure", "Never"]);
    errors.one_of(&spec.get("dnsPolicy"), &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"]);
    selector::labels(&spec.get("nodeSelector"), errors);
    security_context(spec, errors);
    affinity::affinity(&spec.get("affinity"), errors);
    affinity::tolerations(&spec.get("tolerations"), errors);
    affinity::spread_constraints(&spec.get("topologySpreadConstraints"), errors);
    dns_config(spec, errors);
    host_aliases(&spec.get("hostAliases"), errors);
    for gate in spec.get("readinessGates").items() {
        let condition = gate.get("conditionType");
        errors.check(&condition, names::qualified_name(condition.text()));
    }
    scheduling_gates(&spec.get("schedulingGates"), errors);
    named_objects(spec, errors);
    times(spec, errors);
    resources::amounts(&spec.get("overhead"), errors);
    if spec.get("preemptionPolicy").is_set() {
        errors.one_of(&spec.get("preemptionPolicy"), &["PreemptLowerPriority", "Never"]);
    }
}

fn named_objects(spec: &At<'_, '_>, errors: &mut Errors) {
    for field in ["serviceAccountName", "nodeName", "priorityClassName", "runtimeClassName"] {
        let name = spec.get(field);
        if !name.text().is_empty() {
            errors.check(&name, names::dns_subdomain(name.text()));
        }
    }
    for field in ["hostname", "subdomain"] {
        let name = spec.get(field);
        if !name.text().is_empty() {
            errors.check(&name, names::dns_label(name.text()));
        }
    }
}

fn times(spec: &At<'_, '_>, errors: &mut Errors) {
    errors.non_negative(&spec.get("terminationGracePeriodSeconds"));
    let deadline = spec.get("activeDeadlineSeconds");
    if let Some(seconds) = deadline.number() {
        errors.check(&deadline, names::in_range(seconds, 1, i64::from(i32::MAX)));
    }
}

fn security_context(spec: &At<'_, '_>, errors: &mut Errors) {
    let context = spec.get("securityContext");
    for field in ["fsGroup", "runAsUser", "runAsGroup"] {
        identifier(&context.get(field), errors);
    }
    for group in context.get("supplementalGroups").items() {
        identifier(&group, errors);
    }
    if spec.get("shareProcessNamespace").is_true() && spec.get("hostPID").is_true() {
        errors.invalid(&spec.get("shareProcessNamespace"), "ShareProcessNamespace and HostPID cannot both be enabled");
    }
    if context.get("fsGroupChangePolicy").is_set() {
        errors.one_of(&context.get("fsGroupChangePolicy"), &["Always", "OnRootMismatch"]);
    }
    sysctls(&context.get("sysctls"), errors);
    probe::seccomp(&context.get("seccompProfile"), errors);
}

/// Checks a user or group id.
pub(super) fn identifier(id: &At<'_, '_>, errors: &mut Errors) {
    if let Some(number) = id.number() {
        errors.check(id, names::in_range(number, 0, i64::from(i32::MAX)));
    }
}

fn sysctls(list: &At<'_, '_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for sysctl in list.items() {
        let name = sysctl.get("name");
        let segment = |text: &str| {
            let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
            edge(text.bytes().next())
                && edge(text.bytes().last())
                && text.bytes().all(|byte| edge(Some(byte)) || byte == b'-' || byte == b'_')
        };
        if name.text().is_empty() {
            errors.required(&name, "");
        } else if name.text().len() > 253 || !name.text().split(['.', '/']).all(segment) {
            errors.invalid(
                &name,
                "must have at most 253 characters and match regex \
                 ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$",
            );
        } else if !seen.insert(name.text()) {
            errors.duplicate(&name);
        }
    }
}

fn dns_config(spec: &At<'_, '_>, errors: &mut Errors) {
    let config = spec.get("dnsConfig");
    let nameservers = config.get("nameservers");
    if spec.get("dnsPolicy").text() == "None" {
        if !config.is_set() {
            return errors.required(&config, "must provide `dnsConfig` when `dnsPolicy` is None");
        }
        if nameservers.is_empty() {
            return errors.required(&nameservers, "must provide at least one DNS nameserver when `dnsPolicy` is None");
        }
    }
    if nameservers.len() > NAMESERVERS_MAX {
        errors.invalid(&nameservers, &format!("must not have more than {NAMESERVERS_MAX} nameservers"));
    }
    for server in nameservers.items() {
        ip_address(&server, errors);
    }
    let searches = config.get("searches");
    if searches.len() > SEARCHES_MAX {
        errors.invalid(&searches, &format!("must not have more than {SEARCHES_MAX} search paths"));
    }
    let characters: usize = searches.items().map(|search| search.text().len() + 1).sum();
    if characters > SEARCH_LIST_CHARS_MAX + 1 {
        errors.invalid(
            &searches,
            &format!(
                "must not have more than {SEARCH_LIST_CHARS_MAX} characters (including spaces) in the search list"
            ),
        );
    }
    for search in searches.items().filter(|search| search.text() != ".") {
        errors.check(&search, names::dns_subdomain(search.text().trim_end_matches('.')));
    }
    for option in config.get("options").items() {
        if option.get("name").text().is_empty() {
            errors.required(&option, "must not be empty");
        }
    }
}

fn host_aliases(list: &At<'_, '_>, errors: &mut Errors) {
    for alias in list.items() {
        ip_address(&alias.get("ip"), errors);
        for hostname in alias.get("hostnames").items() {
            errors.check(&hostname, names::dns_subdomain(hostname.text()));
        }
    }
}

/// Checks that a text is an IP address.
pub(super) fn ip_address(address: &At<'_, '_>, errors: &mut Errors) {
    if address.text().parse::<IpAddr>().is_err() {
        errors.invalid_value(address, &Value::from(address.text()), BAD_IP);
    }
}

fn scheduling_gates(list: &At<'_, '_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for gate in list.items() {
        let name = gate.get("name");
        errors.check(&name, names::qualified_name(name.text()));
        if !seen.insert(name.text()) {
            errors.duplicate(&name);
        }
    }
}
