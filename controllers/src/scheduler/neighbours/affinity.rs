//! `podAffinity` and `podAntiAffinity`: which pods a pod must, may not, or would rather lie beside.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Pod, WeightedPodAffinityTerm};

use super::term::{Labels, Term, labels_of};
use crate::scheduler::filter::Refusal;
use crate::scheduler::index::Index;
use crate::scheduler::node::{NodeState, Offer};
use crate::scheduler::shape::{Placed, Shape};

/// The rules of a pod.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rules {
    /// Required affinity.
    pub(super) together: Vec<Term>,
    /// Preferred terms with their weights, those of anti-affinity negative.
    pub(super) prefers: Vec<(i64, Term)>,
}

/// A label of nodes and a value of it.
type Domain<'a> = (&'a str, &'a str);

/// Where the pods are that the rules mean.
#[derive(Debug)]
pub(super) struct Company<'a> {
    shape: &'a Shape,
    /// Domains of pods that all terms of the required affinity mean, by term.
    together: Vec<BTreeSet<&'a str>>,
    /// The first of a group: nobody is meant yet, and the pod means itself.
    is_first: bool,
    apart: BTreeSet<Domain<'a>>,
    /// Domains that pods which are there keep this one out of.
    closed: BTreeSet<Domain<'a>>,
    weights: BTreeMap<Domain<'a>, i64>,
}

impl Rules {
    /// Reads a pod.
    pub(in crate::scheduler) fn read(pod: &Pod) -> Self {
        let (namespace, labels) = own(pod);
        let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref());
        let together = affinity.and_then(|affinity| affinity.pod_affinity.as_ref());
        let apart = affinity.and_then(|affinity| affinity.pod_anti_affinity.as_ref());
        let weighted = |term: &WeightedPodAffinityTerm, sign: i64| {
            (sign * i64::from(term.weight), Term::read(&term.pod_affinity_term, namespace, labels))
        };
        let wanted = together.and_then(|rule| rule.preferred_during_scheduling_ignored_during_execution.as_ref());
        let unwanted = apart.and_then(|rule| rule.preferred_during_scheduling_ignored_during_execution.as_ref());
        let required = together.and_then(|rule| rule.required_during_scheduling_ignored_during_execution.as_ref());
        Self {
            together: required.into_iter().flatten().map(|term| Term::read(term, namespace, labels)).collect(),
            prefers: wanted
                .into_iter()
                .flatten()
                .map(|term| weighted(term, 1))
                .chain(unwanted.into_iter().flatten().map(|term| weighted(term, -1)))
                .collect(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.together.is_empty() && self.prefers.is_empty()
    }

    /// Whether pods that come can make room for this one.
    pub(super) fn needs_company(&self) -> bool {
        !self.together.is_empty()
    }
}

/// Reads the required anti-affinity of a pod, which holds for pods that come after it as well.
pub(in crate::scheduler) fn required_distance(pod: &Pod) -> Vec<Term> {
    let (namespace, labels) = own(pod);
    let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref());
    let apart = affinity.and_then(|affinity| affinity.pod_anti_affinity.as_ref());
    let required = apart.and_then(|rule| rule.required_during_scheduling_ignored_during_execution.as_ref());
    required.into_iter().flatten().map(|term| Term::read(term, namespace, labels)).collect()
}

fn own(pod: &Pod) -> (&str, &Labels) {
    (pod.metadata.namespace.as_deref().unwrap_or_default(), labels_of(pod))
}

/// Domains that pods which are there keep a pod out of.
pub(super) fn closed<'a>(index: &'a Index, pod: &Placed) -> BTreeSet<Domain<'a>> {
    let mut closed = BTreeSet::new();
    for (node, other) in index.keeping_distance() {
        for term in &other.apart {
            let means = term.means(&pod.namespace, &pod.labels, index.namespaces());
            if let Some(domain) = domain(term, node).filter(|_| means) {
                closed.insert(domain);
            }
        }
    }
    closed
}

fn domain<'a>(term: &'a Term, node: &'a NodeState) -> Option<Domain<'a>> {
    let value = node.offer.as_ref()?.labels.get(&term.topology_key)?;
    Some((&term.topology_key, value))
}

impl<'a> Company<'a> {
    /// Looks at every pod.
    pub(super) fn of(shape: &'a Shape, closed: BTreeSet<Domain<'a>>, index: &'a Index) -> Self {
        let Rules { together: required, prefers } = &shape.neighbours;
        let mut company = Self {
            shape,
            together: vec![BTreeSet::new(); required.len()],
            is_first: false,
            apart: BTreeSet::new(),
            closed,
            weights: BTreeMap::new(),
        };
        let means = |term: &Term, pod: &Placed| term.means(&pod.namespace, &pod.labels, index.namespaces());
        for node in index.nodes().values() {
            for pod in node.pods.values() {
                if !required.is_empty() && required.iter().all(|term| means(term, pod)) {
                    for (domains, term) in company.together.iter_mut().zip(required) {
                        domains.extend(domain(term, node).map(|(_, value)| value));
                    }
                }
                let apart = shape.placed.apart.iter().filter(|term| means(term, pod));
                company.apart.extend(apart.filter_map(|term| domain(term, node)));
                for (weight, term) in prefers.iter().filter(|(_, term)| means(term, pod)) {
                    if let Some(domain) = domain(term, node) {
                        *company.weights.entry(domain).or_default() += weight;
                    }
                }
            }
        }
        let alone = company.together.iter().all(BTreeSet::is_empty);
        company.is_first = alone && required.iter().all(|term| means(term, &shape.placed));
        company
    }

    /// Refuses a node, in the order in which Kubernetes asks.
    pub(super) fn check(&self, offer: &Offer) -> Result<(), Refusal> {
        let shut = |domains: &BTreeSet<Domain<'_>>| {
            let found = domains.iter().find(|(key, value)| offer.labels.get(*key).is_some_and(|own| own == value));
            found.map(|(key, value)| format!("{key}={value}"))
        };
        for (term, domains) in self.shape.neighbours.together.iter().zip(&self.together) {
            let value = offer.labels.get(&term.topology_key);
            let fits = value.is_some_and(|value| self.is_first || domains.contains(value.as_str()));
            if !fits && !drover_api::mutants::active("S10-affinity-ignored") {
                let key = &term.topology_key;
                let detail =
                    value.map_or_else(|| format!("no label {key}"), |value| format!("nobody in {key}={value}"));
                return Err(Refusal::new("node(s) didn't match pod affinity rules", detail));
            }
        }
        if let Some(detail) = shut(&self.apart).filter(|_| !drover_api::mutants::active("S10-anti-affinity-ignored")) {
            return Err(Refusal::new("node(s) didn't match pod anti-affinity rules", detail));
        }
        match shut(&self.closed).filter(|_| !drover_api::mutants::active("S10-others-anti-affinity-ignored")) {
            Some(detail) => Err(Refusal::new("node(s) didn't satisfy existing pods anti-affinity rules", detail)),
            None => Ok(()),
        }
    }

    /// Sum of the weights of all pods in the node's domains that the preferred terms mean.
    pub(super) fn preference(&self, offer: &Offer) -> i64 {
        let here =
            self.weights.iter().filter(|((key, value), _)| offer.labels.get(*key).is_some_and(|own| own == value));
        here.map(|(_, weight)| weight).sum()
    }
}
