//! What may change in a Pod once it exists: very little.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{cursor::At, report::Errors};
use crate::names;

const IMMUTABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,\
`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing \
tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// Checks an update of a Pod against what it was.
pub(super) fn update(root: &At<'_, '_>, old: &At<'_, '_>, errors: &mut Errors) {
    let (spec, old) = (root.get("spec"), old.get("spec"));
    for list in ["containers", "initContainers"] {
        if spec.get(list).len() != old.get(list).len() {
            return errors.forbidden(&spec.get(list), "pod updates may not add or remove containers");
        }
    }
    active_deadline(&spec.get("activeDeadlineSeconds"), &old.get("activeDeadlineSeconds"), errors);
    only_added_tolerations(&spec.get("tolerations"), &old.get("tolerations"), errors);
    let changed = changed_fields(&spec, &old);
    if !changed.is_empty() {
        errors.forbidden(&spec, &format!("{IMMUTABLE}\nchanged: {}", changed.join(", ")));
    }
}

/// Checks a write of a Pod's status.
pub(super) fn update_status(root: &At<'_, '_>, old: &At<'_, '_>, errors: &mut Errors) {
    let (node, old_node) = (root.get("spec.nodeName"), old.get("spec.nodeName"));
    if node.text() != old_node.text() {
        errors.forbidden(&root.get("status.nodeName"), "may not be changed directly");
    }
    let nominated = root.get("status.nominatedNodeName");
    if !nominated.text().is_empty() {
        errors.check(&nominated, names::dns_subdomain(nominated.text()));
    }
    let policy = old.get("spec.restartPolicy");
    if policy.text() == "Always" {
        return;
    }
    for list in ["status.containerStatuses", "status.initContainerStatuses"] {
        finished_stay_finished(&root.get(list), &old.get(list), policy.text(), errors);
    }
}

fn active_deadline(deadline: &At<'_, '_>, old: &At<'_, '_>, errors: &mut Errors) {
    match (deadline.number(), old.number()) {
        (Some(new), Some(old)) if new > old => {
            errors.invalid(deadline, "must be less than or equal to previous value");
        }
        (None, Some(_)) => errors.invalid(deadline, "must not update from a positive integer to nil value"),
        _ => {}
    }
}

fn only_added_tolerations(list: &At<'_, '_>, old: &At<'_, '_>, errors: &mut Errors) {
    let present: BTreeSet<String> = list.items().map(|toleration| without_seconds(toleration.value())).collect();
    if !old.items().all(|toleration| present.contains(&without_seconds(toleration.value()))) {
        errors.forbidden(list, "existing toleration can not be modified except its tolerationSeconds");
    }
}

fn without_seconds(toleration: &Value) -> String {
    let mut toleration = toleration.clone();
    if let Some(fields) = toleration.as_object_mut() {
        fields.remove("tolerationSeconds");
        fields.retain(|_, value| !value.is_null() && value != "");
    }
    toleration.to_string()
}

/// Returns the paths of the fields that differ and may not.
fn changed_fields(spec: &At<'_, '_>, old: &At<'_, '_>) -> Vec<String> {
    let empty = Map::new();
    let (new_fields, old_fields) = (spec.map().unwrap_or(&empty), old.map().unwrap_or(&empty));
    let keys: BTreeSet<&String> = new_fields.keys().chain(old_fields.keys()).collect();
    let mut changed = Vec::new();
    for key in keys {
        let (new, old) = (new_fields.get(key).unwrap_or(&Value::Null), old_fields.get(key).unwrap_or(&Value::Null));
        match key.as_str() {
            "activeDeadlineSeconds" | "tolerations" => {}
            "terminationGracePeriodSeconds" if new == 1 && old.as_i64().is_some_and(|seconds| seconds < 0) => {}
            "schedulingGates" if is_subset(new, old) => {}
            "containers" | "initContainers" => changed.extend(changed_containers(key, new, old)),
            _ if same(new, old) => {}
            _ => changed.push(format!("spec.{key}")),
        }
    }
    changed.truncate(20);
    changed
}

fn changed_containers(list: &str, new: &Value, old: &Value) -> Vec<String> {
    let (Some(new), Some(old)) = (new.as_array(), old.as_array()) else {
        return if same(new, old) { Vec::new() } else { vec![format!("spec.{list}")] };
    };
    let differs = |new: &Value, old: &Value| {
        let (Some(new), Some(old)) = (new.as_object(), old.as_object()) else {
            return new != old;
        };
        let keys: BTreeSet<&String> = new.keys().chain(old.keys()).filter(|key| *key != "image").collect();
        let field = |fields: &Map<String, Value>, key: &str| fields.get(key).cloned().unwrap_or(Value::Null);
        keys.into_iter().any(|key| !same(&field(new, key), &field(old, key)))
    };
    let pairs = new.iter().zip(old).enumerate();
    pairs.filter(|(_, (new, old))| differs(new, old)).map(|(index, _)| format!("spec.{list}[{index}]")).collect()
}

/// Whether two values mean the same: nothing, `null`, `[]`, `{}` and `""` are one to Kubernetes.
fn same(new: &Value, old: &Value) -> bool {
    let is_nothing = |value: &Value| match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    };
    new == old || (is_nothing(new) && is_nothing(old))
}

fn is_subset(new: &Value, old: &Value) -> bool {
    let texts =
        |value: &Value| -> BTreeSet<String> { value.as_array().into_iter().flatten().map(Value::to_string).collect() };
    texts(new).is_subset(&texts(old))
}

fn finished_stay_finished(list: &At<'_, '_>, old: &At<'_, '_>, policy: &str, errors: &mut Errors) {
    let running: BTreeSet<String> = list
        .items()
        .filter(|status| !status.get("state.terminated").is_set())
        .map(|status| status.get("name").text().to_owned())
        .collect();
    for (status, old) in list.items().zip(old.items()) {
        let finished = old.get("state.terminated");
        let restarts = policy == "OnFailure" && finished.get("exitCode").number() != Some(0);
        if finished.is_set() && !restarts && running.contains(old.get("name").text()) {
            errors.forbidden(&status.get("state"), "may not be transitioned to non-terminated state");
        }
    }
}
