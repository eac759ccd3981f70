//! Label selectors as typed objects carry them.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// Whether labels satisfy a selector. An empty selector matches everything, as in the workload kinds.
pub fn matches(selector: &LabelSelector, labels: Option<&Labels>) -> bool {
    let empty = Labels::new();
    let labels = labels.unwrap_or(&empty);
    let wanted = selector.match_labels.iter().flatten();
    let equal = wanted.into_iter().all(|(name, value)| labels.get(name) == Some(value));
    equal && selector.match_expressions.iter().flatten().all(|requirement| satisfies(requirement, labels))
}

/// Whether the selector has no requirement.
pub fn is_empty(selector: &LabelSelector) -> bool {
    selector.match_labels.iter().flatten().next().is_none()
        && selector.match_expressions.iter().flatten().next().is_none()
}

/// Whether labels contain every pair of a plain map, as Services select. An empty map selects nothing.
pub fn map_matches(wanted: &Labels, labels: Option<&Labels>) -> bool {
    !wanted.is_empty() && wanted.iter().all(|(name, value)| labels.and_then(|labels| labels.get(name)) == Some(value))
}

fn satisfies(requirement: &LabelSelectorRequirement, labels: &Labels) -> bool {
    let value = labels.get(&requirement.key);
    let listed = value.is_some_and(|value| requirement.values.iter().flatten().any(|allowed| allowed == value));
    match requirement.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        // Validation knows no other operator; one that slips through must select nothing rather than everything.
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(selector: serde_json::Value, labels: serde_json::Value) -> bool {
        let labels: Labels = serde_json::from_value(labels).unwrap();
        matches(&serde_json::from_value(selector).unwrap(), Some(&labels))
    }

    #[test]
    fn every_requirement_must_hold() {
        let selector = json!({"matchLabels": {"app": "web"}, "matchExpressions": [
            {"key": "tier", "operator": "In", "values": ["a", "b"]}, {"key": "old", "operator": "DoesNotExist"}]});
        assert!(check(selector.clone(), json!({"app": "web", "tier": "b"})));
        assert!(!check(selector.clone(), json!({"app": "web", "tier": "c"})));
        assert!(!check(selector.clone(), json!({"app": "web", "tier": "a", "old": ""})));
        assert!(!check(selector, json!({"tier": "a"})));
    }

    #[test]
    fn a_label_that_is_absent_is_in_no_set() {
        assert!(check(json!({"matchExpressions": [{"key": "x", "operator": "NotIn", "values": ["a"]}]}), json!({})));
        assert!(!check(json!({"matchExpressions": [{"key": "x", "operator": "Exists"}]}), json!({})));
    }

    #[test]
    fn an_empty_service_selector_selects_nothing() {
        assert!(!map_matches(&Labels::new(), Some(&Labels::new())));
    }
}
