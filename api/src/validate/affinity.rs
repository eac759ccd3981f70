//! Where pods may run: affinity, tolerations, spread constraints; and the selectors of nodes in them.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{cursor::At, report::Errors, selector};
use crate::names;

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
pub(super) const TAINT_EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// Checks a pod's affinity.
pub(super) fn affinity(affinity: &At<'_, '_>, errors: &mut Errors) {
    let node = affinity.get("nodeAffinity");
    if node.get(REQUIRED).is_set() {
        node_selector(&node.get(REQUIRED), errors);
    }
    for term in node.get(PREFERRED).items() {
        weight(&term.get("weight"), errors);
        node_selector_term(&term.get("preference"), errors);
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let pods = affinity.get(kind);
        for term in pods.get(REQUIRED).items() {
            pod_term(&term, errors);
        }
        for term in pods.get(PREFERRED).items() {
            weight(&term.get("weight"), errors);
            pod_term(&term.get("podAffinityTerm"), errors);
        }
    }
}

/// Checks a selector of nodes: of a pod's affinity or of a volume's.
pub(super) fn node_selector(node_selector: &At<'_, '_>, errors: &mut Errors) {
    let terms = node_selector.get("nodeSelectorTerms");
    if terms.is_empty() {
        errors.required(&terms, "must have at least one node selector term");
    }
    for term in terms.items() {
        node_selector_term(&term, errors);
    }
}

fn node_selector_term(term: &At<'_, '_>, errors: &mut Errors) {
    for requirement in term.get("matchExpressions").items() {
        let (key, values) = (requirement.get("key"), requirement.get("values"));
        match requirement.get("operator").text() {
            "In" | "NotIn" => {
                if values.is_empty() {
                    errors.required(&values, "must be specified when `operator` is 'In' or 'NotIn'");
                }
            }
            "Exists" | "DoesNotExist" => {
                if !values.is_empty() {
                    errors.forbidden(&values, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
                }
            }
            "Gt" | "Lt" => {
                if values.len() != 1 {
                    errors.required(&values, "must be specified single value when `operator` is 'Lt' or 'Gt'");
                }
            }
            _ => errors.invalid(&requirement.get("operator"), "not a valid selector operator"),
        }
        errors.check(&key, names::qualified_name(key.text()));
    }
    for requirement in term.get("matchFields").items() {
        let (operator, values) = (requirement.get("operator"), requirement.get("values"));
        if !matches!(operator.text(), "In" | "NotIn") {
            errors.invalid(&operator, "not a valid selector operator");
        } else if values.len() != 1 {
            errors
                .required(&values, "must be only one value when `operator` is 'In' or 'NotIn' for node field selector");
        }
        if requirement.get("key").text() != "metadata.name" {
            errors.invalid(&requirement.get("key"), "not a valid field selector key");
        }
    }
}

fn weight(weight: &At<'_, '_>, errors: &mut Errors) {
    if !weight.number().is_some_and(|number| (1..=100).contains(&number)) {
        errors.invalid_value(weight, &Value::from(weight.number().unwrap_or(0)), "must be in the range 1-100");
    }
}

fn pod_term(term: &At<'_, '_>, errors: &mut Errors) {
    selector::label_selector(&term.get("labelSelector"), errors);
    selector::label_selector(&term.get("namespaceSelector"), errors);
    for namespace in term.get("namespaces").items() {
        errors.check(&namespace, names::dns_label(namespace.text()));
    }
    topology_key(&term.get("topologyKey"), errors);
}

fn topology_key(key: &At<'_, '_>, errors: &mut Errors) {
    if key.text().is_empty() {
        errors.required(key, "can not be empty");
    }
    errors.check_text(key, key.text(), names::qualified_name(key.text()));
}

/// Checks a pod's tolerations.
pub(super) fn tolerations(list: &At<'_, '_>, errors: &mut Errors) {
    for toleration in list.items() {
        let (key, operator) = (toleration.get("key"), toleration.get("operator"));
        let (value, effect) = (toleration.get("value"), toleration.get("effect"));
        if !key.text().is_empty() {
            errors.check(&key, names::qualified_name(key.text()));
        } else if operator.text() != "Exists" {
            errors.invalid(
                &operator,
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            );
        }
        if toleration.get("tolerationSeconds").is_set() && effect.text() != "NoExecute" {
            errors.invalid(&effect, "effect must be 'NoExecute' when `tolerationSeconds` is set");
        }
        match operator.text() {
            "" | "Equal" => {
                let messages = names::label_value(value.text());
                if !messages.is_empty() {
                    errors.invalid_value(&operator, value.value(), &messages.join(";"));
                }
            }
            "Exists" => {
                if !value.text().is_empty() {
                    let detail = "value must be empty when `operator` is 'Exists'";
                    errors.invalid_value(&operator, toleration.value(), detail);
                }
            }
            _ => errors.not_supported(&operator, &["Equal", "Exists"]),
        }
        if !effect.text().is_empty() {
            errors.one_of(&effect, &TAINT_EFFECTS);
        }
    }
}

/// Checks a pod's topology spread constraints.
pub(super) fn spread_constraints(list: &At<'_, '_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for constraint in list.items() {
        let skew = constraint.get("maxSkew");
        if skew.number().unwrap_or(0) <= 0 {
            errors.invalid_value(&skew, &Value::from(skew.number().unwrap_or(0)), "must be greater than zero");
        }
        let (key, action) = (constraint.get("topologyKey"), constraint.get("whenUnsatisfiable"));
        topology_key(&key, errors);
        if !matches!(action.text(), "DoNotSchedule" | "ScheduleAnyway") {
            errors.not_supported(&action, &["DoNotSchedule", "ScheduleAnyway"]);
        }
        let pair = format!("{{{}, {}}}", key.text(), action.text());
        if !seen.insert(pair.clone()) {
            errors.duplicate_value(&constraint.get("{topologyKey, whenUnsatisfiable}"), &Value::from(pair));
        }
        selector::label_selector(&constraint.get("labelSelector"), errors);
    }
}
