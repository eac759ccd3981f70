//! Nodes.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{affinity::TAINT_EFFECTS, cursor::At, report::Errors, resources, service::is_cidr};
use crate::names;

/// Checks a Node.
pub(super) fn node(root: &At<'_, '_>, errors: &mut Errors) {
    taints(&root.get("spec.taints"), errors);
    status(root, errors);
    let ranges = root.get("spec.podCIDRs");
    let mut seen = BTreeSet::new();
    for range in ranges.items() {
        if !is_cidr(range.text()) {
            errors.invalid(&range, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)");
        }
        if !seen.insert(range.text().to_owned()) {
            errors.duplicate(&range);
        }
    }
    let range = root.get("spec.podCIDR");
    if !range.text().is_empty() && !is_cidr(range.text()) {
        errors.invalid(&range, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)");
    }
}

/// Checks the status of a Node: amounts that a node can have, addresses that are not repeated.
pub(super) fn status(root: &At<'_, '_>, errors: &mut Errors) {
    for list in ["status.capacity", "status.allocatable"] {
        resources::amounts(&root.get(list), errors);
        root.get(list).entries().for_each(|(_, amount)| resources::bounded(&amount, errors));
    }
    let mut seen = BTreeSet::new();
    for address in root.get("status.addresses").items() {
        if !seen.insert(address.value().to_string()) {
            errors.duplicate(&address);
        }
    }
}

/// Checks what may not change in a Node.
pub(super) fn update(root: &At<'_, '_>, old: &At<'_, '_>, errors: &mut Errors) {
    let (spec, old) = (root.get("spec"), old.get("spec"));
    for (field, named) in [("podCIDR", "podCIDR"), ("podCIDRs", "podCIDR"), ("providerID", "providerID")] {
        let was = old.get(field);
        let unset = !was.is_set() || was.value() == "" || was.value() == &json!([]);
        if !unset && was.value() != spec.get(field).value() {
            let detail = format!("node updates may not change {named} except from \"\" to valid");
            errors.forbidden(&spec.get(field), &detail);
        }
    }
    let rest = |spec: &At<'_, '_>| {
        let mut fields = spec.map().cloned().unwrap_or_else(Map::new);
        for field in ["podCIDR", "podCIDRs", "providerID", "taints", "unschedulable"] {
            fields.remove(field);
        }
        fields.retain(|_, value: &mut Value| !value.is_null());
        fields
    };
    if rest(&spec) != rest(&old) {
        errors.forbidden(&spec, "node updates may only change labels, taints, or capacity");
    }
}

fn taints(list: &At<'_, '_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for taint in list.items() {
        let (key, value, effect) = (taint.get("key"), taint.get("value"), taint.get("effect"));
        errors.check(&key, names::qualified_name(key.text()));
        errors.check(&value, names::label_value(value.text()));
        errors.one_of(&effect, &TAINT_EFFECTS);
        if !seen.insert((key.text().to_owned(), effect.text().to_owned())) {
            errors.duplicate_with(&taint, "taints must be unique by key and effect pair");
        }
    }
}
