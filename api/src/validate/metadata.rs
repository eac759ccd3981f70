//! `metadata` of every kind, and Namespaces, which are little more.

use std::collections::BTreeSet;

use super::{cursor::At, report::Errors, selector};
use crate::{
    kinds::{Kind, NameRule},
    names,
};

/// Checks the metadata of an object that is to be created.
pub(super) fn create(kind: &Kind, root: &At<'_, '_>, errors: &mut Errors) {
    if !is_stored(kind) {
        return;
    }
    let metadata = root.get("metadata");
    let generate_name = metadata.get("generateName");
    if !generate_name.text().is_empty() {
        errors.check(&generate_name, check_name(kind.name_rule, &mask_trailing_dash(generate_name.text())));
    }
    let name = metadata.get("name");
    if name.text().is_empty() {
        errors.required(&name, "name or generateName is required");
    } else {
        errors.check(&name, check_name(kind.name_rule, name.text()));
    }
    let namespace = metadata.get("namespace");
    match (kind.namespaced, namespace.text()) {
        (true, "") => errors.required(&namespace, ""),
        (true, text) => errors.check(&namespace, names::dns_label(text)),
        (false, "") => {}
        (false, _) => errors.forbidden(&namespace, "not allowed on this type"),
    }
    errors.non_negative(&metadata.get("generation"));
    parts(&metadata, errors);
    for finalizer in metadata.get("finalizers").items() {
        fully_qualified(&finalizer, errors);
    }
}

/// Checks the metadata of an object that is to replace another. Fields that the new one leaves out count as kept.
pub(super) fn update(kind: &Kind, root: &At<'_, '_>, old: &At<'_, '_>, errors: &mut Errors) {
    if !is_stored(kind) {
        return;
    }
    let (metadata, old) = (root.get("metadata"), old.get("metadata"));
    if old.get("deletionTimestamp").is_set() {
        no_new_finalizers(&metadata.get("finalizers"), &old.get("finalizers"), errors);
    }
    let generation = metadata.get("generation");
    if generation.number().is_some_and(|number| number < old.get("generation").number().unwrap_or(0)) {
        errors.invalid(&generation, "must not be decremented");
    }
    for field in ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        let kept = !metadata.get(field).is_set() || metadata.get(field).value() == "";
        if !kept {
            errors.immutable(&metadata.get(field), &old.get(field));
        }
    }
    parts(&metadata, errors);
}

/// Checks the finalizers of a Namespace's spec, which are like those of metadata.
pub(super) fn namespace(root: &At<'_, '_>, errors: &mut Errors) {
    let list = root.get("spec.finalizers");
    for finalizer in list.items() {
        errors.check(&finalizer, names::qualified_name(finalizer.text()));
        fully_qualified(&finalizer, errors);
    }
}

/// Refuses finalizers without a domain, which nobody could tell from Kubernetes' own.
fn fully_qualified(finalizer: &At<'_, '_>, errors: &mut Errors) {
    let standard = matches!(finalizer.text(), "kubernetes" | "orphan" | "foregroundDeletion");
    if !standard && !finalizer.text().contains('/') {
        errors.invalid(finalizer, "name is neither a standard finalizer name nor is it fully qualified");
    }
}

/// Checks annotations: keys, and their size together.
pub(super) fn annotations(annotations: &At<'_, '_>, errors: &mut Errors) {
    let mut bytes = 0;
    for (key, value) in annotations.entries() {
        errors.check_text(annotations, key, names::qualified_name(&key.to_lowercase()));
        bytes += key.len() + value.text().len();
    }
    if bytes > names::ANNOTATIONS_BYTES_MAX {
        errors.too_long(annotations, names::ANNOTATIONS_BYTES_MAX);
    }
}

/// Whether objects of the kind are stored, and so have a name: not the bodies of subresources and reviews.
fn is_stored(kind: &Kind) -> bool {
    !matches!(kind.group, "authentication.k8s.io" | "authorization.k8s.io" | "autoscaling" | "metrics.k8s.io")
        && !matches!(kind.kind, "Binding" | "Eviction")
}

fn check_name(rule: NameRule, name: &str) -> Vec<String> {
    match rule {
        NameRule::DnsSubdomain => names::dns_subdomain(name),
        NameRule::DnsLabel => names::dns_label(name),
        NameRule::DnsLabel1035 => names::dns_label_1035(name),
        NameRule::PathSegment => names::path_segment(name),
    }
}

/// A base may end in a dash, because characters follow.
fn mask_trailing_dash(base: &str) -> String {
    match base.strip_suffix('-') {
        Some(rest) if !rest.is_empty() => format!("{rest}a"),
        _ => base.to_owned(),
    }
}

fn parts(metadata: &At<'_, '_>, errors: &mut Errors) {
    selector::labels(&metadata.get("labels"), errors);
    annotations(&metadata.get("annotations"), errors);
    owner_references(&metadata.get("ownerReferences"), errors);
    finalizers(&metadata.get("finalizers"), errors);
}

fn owner_references(list: &At<'_, '_>, errors: &mut Errors) {
    let mut controller: Option<String> = None;
    for owner in list.items() {
        for (field, problem) in [
            ("apiVersion", "version must not be empty"),
            ("kind", "must not be empty"),
            ("name", "must not be empty"),
            ("uid", "must not be empty"),
        ] {
            if owner.get(field).text().is_empty() {
                errors.invalid(&owner.get(field), problem);
            }
        }
        if owner.get("apiVersion").text() == "v1" && owner.get("kind").text() == "Event" {
            errors.invalid(&owner, "/v1, Kind=Event is disallowed from being an owner");
        }
        if owner.get("controller").is_true() {
            let name = owner.get("name").text().to_owned();
            if let Some(first) = &controller {
                errors.invalid(
                    list,
                    &format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {first} \
                         and {name}"
                    ),
                );
            } else {
                controller = Some(name);
            }
        }
    }
}

fn finalizers(list: &At<'_, '_>, errors: &mut Errors) {
    for finalizer in list.items() {
        errors.check_text(list, finalizer.text(), names::qualified_name(finalizer.text()));
    }
    let has = |name: &str| list.items().any(|finalizer| finalizer.text() == name);
    if has("orphan") && has("foregroundDeletion") {
        errors.invalid(list, "finalizer orphan and foregroundDeletion cannot be both set");
    }
}

fn no_new_finalizers(list: &At<'_, '_>, old: &At<'_, '_>, errors: &mut Errors) {
    let known: BTreeSet<&str> = old.items().map(|finalizer| finalizer.text()).collect();
    let extra: Vec<&str> =
        list.items().map(|item| item.text()).filter(|name| !known.contains(*name)).take(10).collect();
    if !extra.is_empty() {
        errors.forbidden(
            list,
            &format!("no new finalizers can be added if the object is being deleted, found new finalizers {extra:?}"),
        );
    }
}
