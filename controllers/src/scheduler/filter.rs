//! Whether a pod may run on a node: one function a rule, each answering with Kubernetes' words.

use std::fmt;

use k8s_openapi::api::core::v1::{Taint, Toleration};

use super::affinity::{matches_map, matches_selector};
use super::claims::ClaimRule;
use super::classic;
use super::node::{NodeState, Offer};
use super::shape::Shape;

/// Why a node was passed over.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refusal {
    /// Equal for all nodes refused for the same reason, so that they can be counted.
    pub reason: String,
    /// The numbers or names of this node.
    pub detail: String,
}

impl Refusal {
    pub(super) fn new(reason: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { reason: reason.into(), detail: detail.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.detail.is_empty() {
            formatter.write_str(&self.reason)
        } else {
            write!(formatter, "{} ({})", self.reason, self.detail)
        }
    }
}

/// Checks every rule and returns the first that refuses, in the order of Kubernetes' default plugins.
///
/// # Errors
/// The [`Refusal`] of that rule.
pub fn check(shape: &Shape, claims: &[ClaimRule], name: &str, node: &NodeState) -> Result<(), Refusal> {
    let offer = node.offer.as_ref().ok_or_else(|| Refusal::new("node(s) had no Node object", ""))?;
    available(offer, &shape.tolerations)?;
    tolerated(offer, &shape.tolerations)?;
    selected(shape, name, offer)?;
    classic::check(shape, name, node, offer)?;
    ports_free(shape, node)?;
    fits(shape, node, offer)?;
    claims.iter().try_for_each(|claim| claim.check(name, &offer.labels))
}

fn available(offer: &Offer, tolerations: &[Toleration]) -> Result<(), Refusal> {
    if offer.deleting {
        return Err(Refusal::new("node(s) were being deleted", ""));
    }
    let cordon = Taint {
        key: "node.kubernetes.io/unschedulable".to_owned(),
        effect: "NoSchedule".to_owned(),
        ..Taint::default()
    };
    if offer.cordoned && !tolerates(tolerations, &cordon) && !drover_api::mutants::active("S10-cordon-ignored") {
        return Err(Refusal::new("node(s) were unschedulable", ""));
    }
    if !offer.ready && !drover_api::mutants::active("S10-dead-node") {
        return Err(Refusal::new("node(s) were not ready", ""));
    }
    Ok(())
}

fn tolerated(offer: &Offer, tolerations: &[Toleration]) -> Result<(), Refusal> {
    match hard_taint(offer, tolerations) {
        Some(taint) => {
            let value = taint.value.as_deref().unwrap_or_default();
            Err(Refusal::new(format!("node(s) had untolerated taint {{{}: {value}}}", taint.key), &taint.effect))
        }
        None => Ok(()),
    }
}

/// Whether a node has no taint that keeps the pod away.
pub(super) fn is_tolerated(offer: &Offer, tolerations: &[Toleration]) -> bool {
    hard_taint(offer, tolerations).is_none()
}

fn hard_taint<'a>(offer: &'a Offer, tolerations: &[Toleration]) -> Option<&'a Taint> {
    let mut hard = offer.taints.iter().filter(|taint| taint.effect == "NoSchedule" || taint.effect == "NoExecute");
    hard.find(|taint| !tolerates(tolerations, taint))
}

/// Returns how many taints ask to stay away without forbidding it.
pub fn unwelcome(offer: &Offer, tolerations: &[Toleration]) -> i64 {
    let soft = offer.taints.iter().filter(|taint| taint.effect == "PreferNoSchedule" && !tolerates(tolerations, taint));
    i64::try_from(soft.count()).unwrap_or(i64::MAX)
}

/// Whether any toleration covers a taint; an empty key with `Exists` covers all, an empty effect every effect.
pub fn tolerates(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations.iter().any(|toleration| {
        let effect = toleration.effect.as_deref().unwrap_or_default();
        let key = toleration.key.as_deref().unwrap_or_default();
        let same_value = toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default();
        let exists = toleration.operator.as_deref() == Some("Exists");
        (effect.is_empty() || effect == taint.effect)
            && ((key.is_empty() && exists) || key == taint.key)
            && (exists || same_value)
    })
}

fn selected(shape: &Shape, name: &str, offer: &Offer) -> Result<(), Refusal> {
    match is_selected(shape, name, offer) {
        true => Ok(()),
        false => Err(Refusal::new("node(s) didn't match Pod's node affinity/selector", "")),
    }
}

/// Whether a node is one of those that the pod's own selectors name.
pub(super) fn is_selected(shape: &Shape, name: &str, offer: &Offer) -> bool {
    let required = shape.node_affinity.required_during_scheduling_ignored_during_execution.as_ref();
    matches_map(&shape.node_selector, &offer.labels)
        && required.is_none_or(|required| matches_selector(required, name, &offer.labels))
}

fn ports_free(shape: &Shape, node: &NodeState) -> Result<(), Refusal> {
    let taken = node.clashing_port(&shape.placed.host_ports);
    match taken.filter(|_| !drover_api::mutants::active("S10-port-twice")) {
        Some((port, holder)) => {
            // Who may not see other namespaces learns nothing of them.
            let name = holder.names.first().filter(|_| holder.namespace == shape.placed.namespace);
            let by = name.map_or_else(|| "a pod of another namespace".to_owned(), |name| format!("pod {name}"));
            let detail = format!("{}/{} is taken by {by}", port.port, port.protocol);
            Err(Refusal::new("node(s) didn't have free ports for the requested pod ports", detail))
        }
        None => Ok(()),
    }
}

fn fits(shape: &Shape, node: &NodeState, offer: &Offer) -> Result<(), Refusal> {
    let pods = i64::try_from(node.pods.len()).unwrap_or(i64::MAX);
    if pods + 1 > offer.allocatable.of("pods") {
        return Err(Refusal::new("Too many pods", format!("{pods} of {}", offer.allocatable.of("pods"))));
    }
    for (name, asked) in shape.placed.requests.iter().filter(|(_, asked)| *asked > 0) {
        let (used, total) = (node.used.of(name), offer.allocatable.of(name));
        if used.saturating_add(asked) > total && !drover_api::mutants::active("S10-overcommits") {
            let unit = if name == "cpu" { "m" } else { "" };
            let detail = format!("asks {asked}{unit}, {used}{unit} of {total}{unit} used");
            return Err(Refusal::new(format!("Insufficient {name}"), detail));
        }
    }
    Ok(())
}
