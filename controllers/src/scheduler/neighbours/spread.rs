//! `topologySpreadConstraints`: how unevenly pods may lie over domains of nodes.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, TopologySpreadConstraint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::term::{Labels, labels_of, narrowed};
use crate::objects::selector::matches;
use crate::scheduler::filter::{Refusal, is_selected, is_tolerated};
use crate::scheduler::index::Index;
use crate::scheduler::node::Offer;
use crate::scheduler::shape::{Placed, Shape};

/// One constraint, complete.
#[derive(Debug, Clone, PartialEq)]
pub struct Constraint {
    selector: Option<LabelSelector>,
    topology_key: String,
    max_skew: i64,
    /// Domains below which the emptiest counts as empty.
    min_domains: i64,
    /// `DoNotSchedule`; otherwise it only ranks.
    required: bool,
    /// Whether nodes that the pod's own selectors rule out count (`nodeAffinityPolicy: Ignore`).
    counts_unselected: bool,
    /// Whether nodes whose taints the pod does not tolerate are left out (`nodeTaintsPolicy: Honor`).
    leaves_tainted_out: bool,
}

/// How the pods that a constraint means lie now.
#[derive(Debug)]
pub(super) struct Lie<'a> {
    constraint: &'a Constraint,
    /// Pods by domain; a domain without any has its zero.
    domains: BTreeMap<&'a str, i64>,
    least: i64,
    /// Whether the pod to be placed is one of those meant.
    counts_itself: bool,
}

impl Constraint {
    /// Reads all constraints of a pod.
    pub(in crate::scheduler) fn read_all(pod: &Pod) -> Vec<Self> {
        let constraints = pod.spec.iter().flat_map(|spec| spec.topology_spread_constraints.iter().flatten());
        constraints.map(|constraint| Self::read(constraint, labels_of(pod))).collect()
    }

    fn read(constraint: &TopologySpreadConstraint, labels: &Labels) -> Self {
        let selector = constraint.label_selector.clone();
        Self {
            selector: narrowed(selector, constraint.match_label_keys.as_deref(), "In", labels),
            topology_key: constraint.topology_key.clone(),
            max_skew: constraint.max_skew.into(),
            min_domains: constraint.min_domains.unwrap_or(1).into(),
            required: constraint.when_unsatisfiable == "DoNotSchedule",
            counts_unselected: constraint.node_affinity_policy.as_deref() == Some("Ignore"),
            leaves_tainted_out: constraint.node_taints_policy.as_deref() == Some("Honor"),
        }
    }

    fn means(&self, namespace: &str, pod: &Placed) -> bool {
        pod.namespace == namespace
            && !pod.leaving
            && self.selector.as_ref().is_some_and(|selector| matches(selector, Some(&pod.labels)))
    }

    fn counts(&self, shape: &Shape, name: &str, offer: &Offer) -> bool {
        (self.counts_unselected || is_selected(shape, name, offer))
            && (!self.leaves_tainted_out || is_tolerated(offer, &shape.tolerations))
    }
}

impl<'a> Lie<'a> {
    /// Counts. A node counts that has the keys of all constraints of its kind, as in Kubernetes.
    pub(super) fn of(constraint: &'a Constraint, shape: &Shape, index: &'a Index) -> Self {
        let fellows = shape.spread.iter().filter(|other| other.required == constraint.required);
        let keys: Vec<&str> = fellows.map(|other| other.topology_key.as_str()).collect();
        let mut domains: BTreeMap<&str, i64> = BTreeMap::new();
        for (name, node) in index.nodes() {
            let Some(offer) = &node.offer else { continue };
            let has_all = keys.iter().all(|key| offer.labels.contains_key(*key));
            let domain = offer.labels.get(&constraint.topology_key).filter(|_| has_all);
            let Some(domain) = domain.filter(|_| constraint.counts(shape, name, offer)) else { continue };
            let here = node.pods.values().filter(|pod| constraint.means(&shape.placed.namespace, pod)).count();
            *domains.entry(domain).or_default() += i64::try_from(here).unwrap_or(i64::MAX);
        }
        let few = i64::try_from(domains.len()).unwrap_or(i64::MAX) < constraint.min_domains;
        let least = if few { 0 } else { domains.values().copied().min().unwrap_or(0) };
        let counts_itself = constraint.means(&shape.placed.namespace, &shape.placed);
        Self { constraint, domains, least, counts_itself }
    }

    /// Refuses a node whose domain would then be too full.
    pub(super) fn check(&self, offer: &Offer) -> Result<(), Refusal> {
        let Constraint { topology_key, max_skew, required: true, .. } = self.constraint else { return Ok(()) };
        let reason = "node(s) didn't match pod topology spread constraints";
        let Some(domain) = offer.labels.get(topology_key) else {
            return Err(Refusal::new(format!("{reason} (missing required label)"), format!("no label {topology_key}")));
        };
        let here = self.domains.get(domain.as_str()).copied().unwrap_or(0);
        let skew = here + i64::from(self.counts_itself) - self.least;
        if skew > *max_skew && !drover_api::mutants::active("S10-skew-ignored") {
            let detail =
                format!("{here} in {topology_key}={domain}, {} in the emptiest, skew at most {max_skew}", self.least);
            return Err(Refusal::new(reason, detail));
        }
        Ok(())
    }

    /// How many pods lie in the node's domain already, for a constraint that only ranks.
    pub(super) fn crowd(&self, offer: &Offer) -> i64 {
        if self.constraint.required {
            return 0;
        }
        let domain = offer.labels.get(&self.constraint.topology_key);
        // A node outside of every domain is the last choice.
        let outside = self.domains.values().copied().sum::<i64>().saturating_add(1);
        domain.and_then(|domain| self.domains.get(domain.as_str())).copied().unwrap_or(outside)
    }
}
