//! Which pods a rule of affinity means, and within which domain of nodes.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Pod, PodAffinityTerm};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

use crate::objects::selector::matches;

/// Labels of a pod, a node or a namespace.
pub type Labels = BTreeMap<String, String>;

/// The labels of a pod.
pub(super) fn labels_of(pod: &Pod) -> &Labels {
    static NONE: Labels = Labels::new();
    pod.metadata.labels.as_ref().unwrap_or(&NONE)
}

/// One term of pod affinity or anti-affinity, complete: its own pod's namespace and labels are worked into it.
#[derive(Debug, Clone, PartialEq)]
pub struct Term {
    /// `None` means no pod, as in Kubernetes.
    selector: Option<LabelSelector>,
    namespaces: BTreeSet<String>,
    /// Namespaces by label, beside those by name.
    namespace_selector: Option<LabelSelector>,
    /// The label of nodes whose equal values make a domain.
    pub(super) topology_key: String,
}

impl Term {
    /// Reads a term of a pod.
    pub(super) fn read(term: &PodAffinityTerm, namespace: &str, labels: &Labels) -> Self {
        let mut namespaces: BTreeSet<String> = term.namespaces.iter().flatten().cloned().collect();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.insert(namespace.to_owned());
        }
        let selector = term.label_selector.clone();
        let selector = narrowed(selector, term.match_label_keys.as_deref(), "In", labels);
        Self {
            selector: narrowed(selector, term.mismatch_label_keys.as_deref(), "NotIn", labels),
            namespaces,
            namespace_selector: term.namespace_selector.clone(),
            topology_key: term.topology_key.clone(),
        }
    }

    /// Whether the term means a pod of this namespace with these labels.
    pub(super) fn means(&self, namespace: &str, labels: &Labels, namespaces: &BTreeMap<String, Labels>) -> bool {
        let by_label = |selector| matches(selector, namespaces.get(namespace));
        let inside = self.namespaces.contains(namespace) || self.namespace_selector.as_ref().is_some_and(by_label);
        inside && self.selector.as_ref().is_some_and(|selector| matches(selector, Some(labels)))
    }
}

/// A selector that also asks for the values which these keys have in `labels`; keys that are not there ask for nothing.
pub(super) fn narrowed(
    selector: Option<LabelSelector>,
    keys: Option<&[String]>,
    operator: &str,
    labels: &Labels,
) -> Option<LabelSelector> {
    let mut selector = selector?;
    let known = keys.into_iter().flatten().filter_map(|key| Some((key, labels.get(key)?)));
    let asked: Vec<LabelSelectorRequirement> = known
        .map(|(key, value)| LabelSelectorRequirement {
            key: key.clone(),
            operator: operator.to_owned(),
            values: Some(vec![value.clone()]),
        })
        .collect();
    selector.match_expressions.get_or_insert_default().extend(asked);
    Some(selector)
}
