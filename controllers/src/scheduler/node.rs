//! A node as the scheduler sees it: what it offers and what is taken.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Node, Taint};

use super::classic;
use super::requests::Amounts;
use super::shape::{HostPort, Placed};

/// What a node offers, from its object.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Offer {
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Taints.
    pub taints: Vec<Taint>,
    /// `status.allocatable`.
    pub allocatable: Amounts,
    /// `spec.unschedulable`: cordoned.
    pub cordoned: bool,
    /// The Ready condition is True.
    pub ready: bool,
    /// Being deleted.
    pub deleting: bool,
    /// What Swarm knew of every engine, by its key.
    pub facts: BTreeMap<&'static str, String>,
    /// The images that the node says it has.
    pub images: BTreeSet<String>,
}

/// A node with the pods placed on it, bound or assumed.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NodeState {
    /// `None` for a node whose object has not been seen: pods may name it, nothing is placed there.
    pub offer: Option<Offer>,
    /// Sum of what the pods here ask for.
    pub used: Amounts,
    /// The pods here, by uid.
    pub pods: BTreeMap<String, Placed>,
}

impl Offer {
    /// Reads a node object.
    pub fn read(node: &Node) -> Self {
        let spec = node.spec.clone().unwrap_or_default();
        let status = node.status.as_ref();
        let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        let images = status.and_then(|status| status.images.as_deref()).unwrap_or_default();
        Self {
            labels: node.metadata.labels.clone().unwrap_or_default(),
            taints: spec.taints.unwrap_or_default(),
            allocatable: Amounts::read(status.and_then(|status| status.allocatable.as_ref())),
            cordoned: spec.unschedulable.unwrap_or(false),
            ready: conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True"),
            deleting: node.metadata.deletion_timestamp.is_some(),
            facts: classic::facts(node),
            images: images.iter().flat_map(|image| image.names.iter().flatten().cloned()).collect(),
        }
    }
}

impl NodeState {
    /// Puts a pod on the node, in place of an earlier version of the same pod.
    pub fn put(&mut self, uid: &str, pod: Placed) {
        self.take(uid);
        self.used.add(&pod.requests);
        self.pods.insert(uid.to_owned(), pod);
    }

    /// Takes a pod off the node; returns whether it was here.
    pub fn take(&mut self, uid: &str) -> bool {
        let Some(pod) = self.pods.remove(uid) else { return false };
        self.used.subtract(&pod.requests);
        true
    }

    /// Returns the host port of a pod here that clashes with one of `wanted`, and that pod.
    pub fn clashing_port(&self, wanted: &[HostPort]) -> Option<(&HostPort, &Placed)> {
        let mut taken = self.pods.values().flat_map(|pod| pod.host_ports.iter().map(move |port| (port, pod)));
        taken.find(|(port, _)| wanted.iter().any(|other| port.clashes(other)))
    }

    /// Returns how many pods of the same owner are here.
    pub fn siblings(&self, owner: &str) -> i64 {
        if owner.is_empty() {
            return 0;
        }
        i64::try_from(self.pods.values().filter(|pod| pod.owner == owner).count()).unwrap_or(i64::MAX)
    }
}
