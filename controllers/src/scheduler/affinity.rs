//! Node selectors: plain maps, required terms and preferred terms.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PreferredSchedulingTerm};

/// Whether the labels hold every pair of `selector`.
pub fn matches_map(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// Whether a node satisfies any term; a selector without terms matches no node, as in Kubernetes.
pub fn matches_selector(selector: &NodeSelector, node: &str, labels: &BTreeMap<String, String>) -> bool {
    selector.node_selector_terms.iter().any(|term| matches_term(term, node, labels))
}

/// Returns the sum of the weights of the preferred terms that a node satisfies.
pub fn preference(terms: &[PreferredSchedulingTerm], node: &str, labels: &BTreeMap<String, String>) -> i64 {
    let satisfied = terms.iter().filter(|term| matches_term(&term.preference, node, labels));
    satisfied.map(|term| i64::from(term.weight)).sum()
}

/// An empty term matches nothing.
fn matches_term(term: &NodeSelectorTerm, node: &str, labels: &BTreeMap<String, String>) -> bool {
    let expressions = term.match_expressions.iter().flatten();
    let fields = term.match_fields.iter().flatten();
    if expressions.clone().next().is_none() && fields.clone().next().is_none() {
        return false;
    }
    let label = |requirement: &NodeSelectorRequirement| {
        matches_requirement(requirement, labels.get(&requirement.key).map(String::as_str))
    };
    let field = |requirement: &NodeSelectorRequirement| {
        requirement.key == "metadata.name" && matches_requirement(requirement, Some(node))
    };
    expressions.clone().all(label) && fields.clone().all(field)
}

fn matches_requirement(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let listed = || requirement.values.iter().flatten().any(|wanted| Some(wanted.as_str()) == value);
    match requirement.operator.as_str() {
        "In" => listed(),
        "NotIn" => !listed(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compare(requirement, value).is_some_and(std::cmp::Ordering::is_gt),
        "Lt" => compare(requirement, value).is_some_and(std::cmp::Ordering::is_lt),
        _ => false, // Validation refuses other operators.
    }
}

fn compare(requirement: &NodeSelectorRequirement, value: Option<&str>) -> Option<std::cmp::Ordering> {
    let bound: i64 = requirement.values.as_ref()?.first()?.parse().ok()?;
    Some(value?.parse::<i64>().ok()?.cmp(&bound))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(term: &serde_json::Value) -> bool {
        let selector: NodeSelector = serde_json::from_value(json!({"nodeSelectorTerms": [term]})).unwrap();
        let labels = BTreeMap::from([("zone".to_owned(), "a".to_owned()), ("disks".to_owned(), "4".to_owned())]);
        matches_selector(&selector, "n1", &labels)
    }

    fn expression(key: &str, operator: &str, values: &[&str]) -> serde_json::Value {
        json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]})
    }

    #[test]
    fn every_operator_means_what_kubernetes_means() {
        assert!(check(&expression("zone", "In", &["a", "b"])));
        assert!(!check(&expression("zone", "In", &["b"])));
        assert!(check(&expression("absent", "NotIn", &["x"])), "a missing label is not in any list");
        assert!(check(&expression("zone", "Exists", &[])));
        assert!(check(&expression("absent", "DoesNotExist", &[])));
        assert!(check(&expression("disks", "Gt", &["3"])));
        assert!(!check(&expression("disks", "Lt", &["4"])));
        assert!(!check(&expression("zone", "Gt", &["1"])), "a label that is no number compares with nothing");
    }

    #[test]
    fn fields_select_by_name_and_an_empty_term_selects_nothing() {
        assert!(check(&json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]})));
        assert!(!check(&json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n2"]}]})));
        assert!(!check(&json!({})));
    }
}
