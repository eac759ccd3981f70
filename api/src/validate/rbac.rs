//! Roles and their bindings.

use super::{cursor::At, report::Errors, selector};
use crate::names;

const GROUP: &str = "rbac.authorization.k8s.io";

/// Checks a Role.
pub(super) fn role(root: &At<'_, '_>, errors: &mut Errors) {
    rules(root, true, errors);
}

/// Checks a ClusterRole.
pub(super) fn cluster_role(root: &At<'_, '_>, errors: &mut Errors) {
    rules(root, false, errors);
    let aggregation = root.get("aggregationRule");
    if aggregation.is_set() {
        let selectors = aggregation.get("clusterRoleSelectors");
        if selectors.is_empty() {
            errors.required(&selectors, "at least one clusterRoleSelector required if aggregationRule is non-nil");
        }
        for item in selectors.items() {
            selector::label_selector(&item, errors);
        }
    }
}

/// Checks a RoleBinding.
pub(super) fn role_binding(root: &At<'_, '_>, errors: &mut Errors) {
    binding(root, &["Role", "ClusterRole"], true, errors);
}

/// Checks a ClusterRoleBinding.
pub(super) fn cluster_role_binding(root: &At<'_, '_>, errors: &mut Errors) {
    binding(root, &["ClusterRole"], false, errors);
}

/// Checks what may not change in a binding: what it grants.
pub(super) fn binding_update(root: &At<'_, '_>, old: &At<'_, '_>, errors: &mut Errors) {
    if root.get("roleRef").value() != old.get("roleRef").value() {
        errors.invalid(&root.get("roleRef"), "cannot change roleRef");
    }
}

fn rules(root: &At<'_, '_>, namespaced: bool, errors: &mut Errors) {
    for rule in root.get("rules").items() {
        if rule.get("verbs").is_empty() {
            errors.required(&rule.get("verbs"), "verbs must contain at least one value");
        }
        let urls = rule.get("nonResourceURLs");
        if !urls.is_empty() {
            if namespaced {
                errors.invalid(&urls, "namespaced rules cannot apply to non-resource URLs");
            }
            if ["apiGroups", "resources", "resourceNames"].iter().any(|field| !rule.get(field).is_empty()) {
                errors.invalid(&urls, "rules cannot apply to both regular resources and non-resource URLs");
            }
            continue;
        }
        if rule.get("apiGroups").is_empty() {
            errors.required(&rule.get("apiGroups"), "resource rules must supply at least one api group");
        }
        if rule.get("resources").is_empty() {
            errors.required(&rule.get("resources"), "resource rules must supply at least one resource");
        }
    }
}

fn binding(root: &At<'_, '_>, kinds: &[&str], namespaced: bool, errors: &mut Errors) {
    let reference = root.get("roleRef");
    if reference.get("apiGroup").text() != GROUP {
        errors.not_supported(&reference.get("apiGroup"), &[GROUP]);
    }
    if !kinds.contains(&reference.get("kind").text()) {
        errors.not_supported(&reference.get("kind"), kinds);
    }
    let name = reference.get("name");
    if name.text().is_empty() {
        errors.required(&name, "");
    } else {
        errors.check(&name, names::path_segment(name.text()));
    }
    for item in root.get("subjects").items() {
        subject(&item, namespaced, errors);
    }
}

fn subject(subject: &At<'_, '_>, namespaced: bool, errors: &mut Errors) {
    let (name, group) = (subject.get("name"), subject.get("apiGroup"));
    if name.text().is_empty() {
        errors.required(&name, "");
    }
    match subject.get("kind").text() {
        "ServiceAccount" => {
            if !name.text().is_empty() {
                errors.check(&name, names::dns_subdomain(name.text()));
            }
            if !group.text().is_empty() {
                errors.not_supported(&group, &[""]);
            }
            if !namespaced && subject.get("namespace").text().is_empty() {
                errors.required(&subject.get("namespace"), "");
            }
        }
        "User" | "Group" => {
            if group.text() != GROUP {
                errors.not_supported(&group, &[GROUP]);
            }
        }
        _ => errors.not_supported(&subject.get("kind"), &["ServiceAccount", "User", "Group"]),
    }
}
