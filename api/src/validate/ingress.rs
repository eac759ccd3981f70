//! Ingresses and IngressClasses.

use std::net::IpAddr;

use super::{cursor::At, report::Errors};
use crate::{ingress, names};

const PATH_TYPES: [&str; 3] = ["Exact", "ImplementationSpecific", "Prefix"];
const CONTROLLER_BYTES_MAX: usize = 250;

/// Checks an Ingress.
pub(super) fn ingress(root: &At<'_, '_>, errors: &mut Errors) {
    options(root, errors);
    let spec = root.get("spec");
    let (rules, default) = (spec.get("rules"), spec.get("defaultBackend"));
    if rules.is_empty() && !default.is_set() {
        errors.invalid(&spec, "either `defaultBackend` or `rules` must be specified");
    }
    if default.is_set() {
        backend(&default, errors);
    }
    for rule in rules.items() {
        let host = rule.get("host");
        if !host.text().is_empty() {
            host_name(&host, errors);
        }
        let http = rule.get("http");
        if http.is_set() {
            paths(&http.get("paths"), errors);
        }
    }
    for tls in spec.get("tls").items() {
        for host in tls.get("hosts").items() {
            host_name(&host, errors);
        }
        let secret = tls.get("secretName");
        if !secret.text().is_empty() {
            errors.check(&secret, names::dns_subdomain(secret.text()));
        }
    }
    let class = spec.get("ingressClassName");
    if class.is_set() {
        errors.check(&class, names::dns_subdomain(class.text()));
    }
}

/// Checks what holds for a new Ingress only: it names its class in one way.
pub(super) fn create(root: &At<'_, '_>, errors: &mut Errors) {
    let (annotations, class) = (root.get("metadata.annotations"), root.get("spec.ingressClassName"));
    let annotation = annotations.key(ingress::OLD_CLASS);
    if annotation.is_set() && class.is_set() {
        errors.invalid(&annotation, "can not be set when the class field is also set");
    }
}

/// Checks the status of an Ingress.
pub(super) fn status(root: &At<'_, '_>, errors: &mut Errors) {
    for point in root.get("status.loadBalancer.ingress").items() {
        let (ip, host) = (point.get("ip"), point.get("hostname"));
        if !ip.text().is_empty() && ip.text().parse::<IpAddr>().is_err() {
            errors.invalid(&ip, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)");
        }
        if !host.text().is_empty() {
            errors.check(&host, names::dns_subdomain(host.text()));
            if host.text().parse::<IpAddr>().is_ok() {
                errors.invalid(&host, "must be a DNS name, not an IP address");
            }
        }
    }
}

/// Checks an IngressClass.
pub(super) fn class(root: &At<'_, '_>, errors: &mut Errors) {
    let spec = root.get("spec");
    let controller = spec.get("controller");
    match controller.text() {
        "" => errors.required(&controller, ""),
        long if long.len() > CONTROLLER_BYTES_MAX => errors.too_long(&controller, CONTROLLER_BYTES_MAX),
        text => match text.split_once('/') {
            None => errors.invalid(&controller, "must be a domain-prefixed path (such as \"acme.io/foo\")"),
            Some((domain, path)) => {
                errors.check(&controller, names::dns_subdomain(domain));
                if path.is_empty() || !path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte))
                {
                    errors.invalid(&controller, "Invalid path");
                }
            }
        },
    }
    let parameters = spec.get("parameters");
    if !parameters.is_set() {
        return;
    }
    for field in ["kind", "name"] {
        let at = parameters.get(field);
        match at.text() {
            "" => errors.required(&at, &format!("{field} is required")),
            text => errors.check(&at, names::path_segment(text)),
        }
    }
    let (scope, namespace) = (parameters.get("scope"), parameters.get("namespace"));
    match scope.text() {
        "Cluster" if namespace.is_set() => {
            errors.forbidden(&namespace, "parameters.namespace is forbidden when parameters.scope is set to 'Cluster'");
        }
        "Namespace" if namespace.text().is_empty() => {
            errors.required(&namespace, "parameters.namespace is required when parameters.scope is set to 'Namespace'");
        }
        "Namespace" => errors.check(&namespace, names::dns_label(namespace.text())),
        "Cluster" => {}
        _ => errors.one_of(&scope, &["Cluster", "Namespace"]),
    }
}

/// Checks what may not change in an IngressClass.
pub(super) fn class_update(root: &At<'_, '_>, old: &At<'_, '_>, errors: &mut Errors) {
    errors.immutable(&root.get("spec.controller"), &old.get("spec.controller"));
}

/// Our own annotations: a word that is not understood would otherwise be ignored without a sound.
fn options(root: &At<'_, '_>, errors: &mut Errors) {
    let annotations = root.get("metadata.annotations");
    let pairs = annotations.entries().filter_map(|(key, value)| Some((key, value.value().as_str()?)));
    for mistake in ingress::Options::read(pairs).1 {
        errors.invalid(&annotations.key(&mistake.key), &mistake.why);
    }
}

fn host_name(at: &At<'_, '_>, errors: &mut Errors) {
    let text = at.text();
    if text.parse::<IpAddr>().is_ok() {
        return errors.invalid(at, "must be a DNS name, not an IP address");
    }
    match text.strip_prefix("*.") {
        Some(rest) if names::dns_subdomain(rest).is_empty() => {}
        Some(_) => errors.invalid(
            at,
            "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist \
             of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. \
             '*.example.com')",
        ),
        None => errors.check(at, names::dns_subdomain(text)),
    }
}

fn paths(paths: &At<'_, '_>, errors: &mut Errors) {
    if paths.is_empty() {
        errors.required(paths, "");
    }
    for item in paths.items() {
        let (path, kind) = (item.get("path"), item.get("pathType"));
        match kind.text() {
            "" => errors.required(&kind, "pathType must be specified"),
            "Exact" | "Prefix" => {
                if !path.text().starts_with('/') {
                    errors.invalid(&path, "must be an absolute path");
                }
                for part in ["//", "/./", "/../", "%2f", "%2F"] {
                    if path.text().contains(part) {
                        errors.invalid(&path, &format!("must not contain '{part}'"));
                    }
                }
                for end in ["/..", "/."] {
                    if path.text().ends_with(end) {
                        errors.invalid(&path, &format!("cannot end with '{end}'"));
                    }
                }
            }
            "ImplementationSpecific" if path.text().is_empty() || path.text().starts_with('/') => {}
            "ImplementationSpecific" => errors.invalid(&path, "must be an absolute path"),
            _ => errors.not_supported(&kind, &PATH_TYPES),
        }
        // Stricter than Kubernetes: no request has such a path, and it would end in a load balancer's configuration.
        if !ingress::is_plain_path(path.text()) {
            errors.invalid(&path, "must consist of visible ASCII characters without '\"', '\\', '#' and '?'");
        }
        backend(&item.get("backend"), errors);
    }
}

fn backend(at: &At<'_, '_>, errors: &mut Errors) {
    let (service, resource) = (at.get("service"), at.get("resource"));
    if service.is_set() && resource.is_set() {
        return errors.invalid_value(at, &"".into(), "cannot set both resource and service backends");
    }
    if resource.is_set() {
        for field in ["kind", "name"] {
            if resource.get(field).text().is_empty() {
                errors.required(&resource.get(field), "");
            }
        }
        return;
    }
    if !service.is_set() {
        return errors.invalid_value(at, &"".into(), "resource or service backend is required");
    }
    let name = service.get("name");
    match name.text() {
        "" => errors.required(&name, ""),
        text => errors.check(&name, names::dns_label_1035(text)),
    }
    let (port_name, number) = (service.get("port.name"), service.get("port.number"));
    match (port_name.text(), number.number().unwrap_or(0)) {
        ("", 0) => errors.required(at, "port name or number is required"),
        ("", port) => errors.check_number(&number, port, names::port_number(port)),
        (text, 0) => errors.check(&port_name, names::port_name(text)),
        _ => errors.invalid_value(at, &"".into(), "cannot set both port name & port number"),
    }
}
