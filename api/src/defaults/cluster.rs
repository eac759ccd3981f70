//! Namespaces, Nodes, PriorityClasses, join tokens, role bindings and token requests.

use serde_json::{Value, json};

use super::edit::{Fields, canonicalise_resources, each, ensured, existing, is_unset, set, text};

const RBAC_GROUP: &str = "rbac.authorization.k8s.io";
/// Label that repeats a namespace's name, so that selectors can name namespaces.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// Fills in a Namespace.
pub(super) fn namespace(fields: &mut Fields) {
    if let Some(metadata) = ensured(fields, "metadata") {
        let name = text(metadata, "name").to_owned();
        if !name.is_empty()
            && let Some(labels) = ensured(metadata, "labels")
        {
            labels.insert(NAME_LABEL.to_owned(), name.into());
        }
    }
    // An emptied finalizer list is how a namespace is finished off, so only an absent one is filled in.
    if let Some(spec) = ensured(fields, "spec")
        && spec.get("finalizers").is_none_or(Value::is_null)
        && !is_deleted(fields)
        && let Some(spec) = existing(fields, "spec")
    {
        spec.insert("finalizers".to_owned(), json!(["kubernetes"]));
    }
    if let Some(status) = ensured(fields, "status") {
        set(status, "phase", "Active");
    }
}

/// Fills in a Node.
pub(super) fn node(fields: &mut Fields) {
    ensured(fields, "spec");
    if let Some(status) = existing(fields, "status") {
        canonicalise_resources(status, "capacity");
        canonicalise_resources(status, "allocatable");
        if let Some(capacity) = status.get("capacity").filter(|capacity| capacity.is_object()).cloned() {
            set(status, "allocatable", capacity);
        }
    }
}

/// Fills in a PriorityClass.
pub(super) fn priority_class(fields: &mut Fields) {
    set(fields, "preemptionPolicy", "PreemptLowerPriority");
}

/// Fills in an IngressClass.
pub(super) fn ingress_class(fields: &mut Fields) {
    if let Some(spec) = existing(fields, "spec")
        && let Some(parameters) = existing(spec, "parameters")
    {
        set(parameters, "scope", "Cluster");
    }
}

/// Fills in a JoinToken: it lets one node in.
pub(super) fn join_token(fields: &mut Fields) {
    if let Some(spec) = existing(fields, "spec") {
        set(spec, "maxUses", 1);
    }
}

/// Fills in a RoleBinding or ClusterRoleBinding.
pub(super) fn role_binding(fields: &mut Fields) {
    if let Some(role) = existing(fields, "roleRef") {
        set(role, "apiGroup", RBAC_GROUP);
    }
    for subject in each(fields, "subjects") {
        if is_unset(subject, "apiGroup") && matches!(text(subject, "kind"), "User" | "Group") {
            set(subject, "apiGroup", RBAC_GROUP);
        }
    }
}

/// Fills in a TokenRequest.
pub(super) fn token_request(fields: &mut Fields) {
    if let Some(spec) = ensured(fields, "spec") {
        set(spec, "expirationSeconds", 3600);
    }
}

fn is_deleted(fields: &Fields) -> bool {
    fields.get("metadata").and_then(|metadata| metadata.get("deletionTimestamp")).is_some_and(|at| !at.is_null())
}
