//! What placement depends on in a pod: pods of one shape are interchangeable to the scheduler.

use std::collections::BTreeMap;

use drover_api::placement;
use k8s_openapi::api::core::v1::{NodeAffinity, Pod, Toleration};

use crate::objects::pods;

use super::neighbours::{
    affinity::{Rules, required_distance},
    spread::Constraint,
    term::Term,
};
use super::rank::Strategy;
use super::requests::{Amounts, of_pod};

/// Chooses the strategy for one pod, over the cluster's: `spread`, `binpack` or `random`.
pub const STRATEGY_ANNOTATION: &str = "drover.dev/placement-strategy";

/// A port that a pod takes on its node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    /// Address; empty means all.
    pub ip: String,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// Port.
    pub port: i32,
}

impl HostPort {
    /// Whether two pods cannot have both on one node: same protocol and port, and addresses that overlap.
    pub fn clashes(&self, other: &Self) -> bool {
        let everywhere = |ip: &str| ip.is_empty() || ip == "0.0.0.0";
        self.protocol == other.protocol
            && self.port == other.port
            && (self.ip == other.ip || everywhere(&self.ip) || everywhere(&other.ip))
    }
}

/// What a placed pod takes from its node.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Placed {
    /// What it asks for.
    pub requests: Amounts,
    /// Ports on the node.
    pub host_ports: Vec<HostPort>,
    /// Uid of its controller, empty for none.
    pub owner: String,
    /// Its own name and those of its containers.
    pub names: Vec<String>,
    /// The images that it runs.
    pub images: Vec<String>,
    /// Its namespace.
    pub namespace: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its required anti-affinity, which pods that come later must keep to as well.
    pub apart: Vec<Term>,
    /// Whether it is being deleted.
    pub leaving: bool,
}

/// Everything about an unplaced pod that decides where it may and should go.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// What it takes.
    pub placed: Placed,
    /// `spec.nodeSelector`.
    pub node_selector: BTreeMap<String, String>,
    /// `spec.affinity.nodeAffinity`.
    pub node_affinity: NodeAffinity,
    /// `spec.tolerations`.
    pub tolerations: Vec<Toleration>,
    /// How to choose among the nodes that fit; `None` means the cluster's strategy.
    pub strategy: Option<Strategy>,
    /// Expressions of classic Swarm; a text that is none, which validation should have refused, as the reason to wait.
    pub classic: Result<placement::Rules, String>,
    /// Affinity to other pods.
    pub neighbours: Rules,
    /// `spec.topologySpreadConstraints`.
    pub spread: Vec<Constraint>,
}

impl Shape {
    /// Reads a pod.
    pub fn read(pod: &Pod) -> Self {
        let spec = pod.spec.clone().unwrap_or_default();
        let annotations = pod.metadata.annotations.as_ref();
        let strategy = annotations.and_then(|all| all.get(STRATEGY_ANNOTATION)).and_then(|text| Strategy::parse(text));
        let affinity = spec.affinity.and_then(|affinity| affinity.node_affinity);
        Self {
            placed: Placed::read(pod),
            node_selector: spec.node_selector.unwrap_or_default(),
            node_affinity: affinity.unwrap_or_default(),
            tolerations: spec.tolerations.unwrap_or_default(),
            strategy,
            classic: pods::swarm_rules(pod).map_err(|mistake| mistake.to_string()),
            neighbours: Rules::read(pod),
            spread: Constraint::read_all(pod),
        }
    }

    /// Returns a text that is equal for pods that every node takes alike. Who the pod is does not count; neither do rules
    /// about other pods, for a pod that meets such a rule is placed without classes. Every field is named here, so that a
    /// new one is decided upon.
    pub fn class(&self) -> String {
        let Self { placed, node_selector, node_affinity, tolerations, strategy, classic, neighbours: _, spread: _ } =
            self;
        let Placed { requests, host_ports, owner, names: _, images: _, namespace, labels: _, apart: _, leaving: _ } =
            placed;
        // What is said of a port that is taken is only for those of the namespace.
        let ports = host_ports.first().map(|_| (host_ports, namespace));
        format!("{:?}", (requests, ports, owner, strategy, (node_selector, node_affinity, tolerations, classic)))
    }
}

impl Placed {
    /// Reads a pod.
    pub fn read(pod: &Pod) -> Self {
        let Some(spec) = &pod.spec else { return Self::default() };
        let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
        let ports = containers.flat_map(|container| container.ports.iter().flatten());
        let on_host = ports.filter_map(|port| {
            let number = port.host_port.filter(|number| *number > 0)?;
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
            Some(HostPort { ip: port.host_ip.clone().unwrap_or_default(), protocol, port: number })
        });
        let owners = pod.metadata.owner_references.iter().flatten();
        let owner = owners.filter(|owner| owner.controller == Some(true)).map(|owner| owner.uid.clone()).next();
        Self {
            requests: of_pod(spec),
            host_ports: on_host.collect(),
            owner: owner.unwrap_or_default(),
            names: pod
                .metadata
                .name
                .iter()
                .chain(spec.containers.iter().map(|container| &container.name))
                .cloned()
                .collect(),
            images: spec.containers.iter().filter_map(|container| container.image.clone()).collect(),
            namespace: pod.metadata.namespace.clone().unwrap_or_default(),
            labels: pod.metadata.labels.clone().unwrap_or_default(),
            apart: required_distance(pod),
            leaving: pod.metadata.deletion_timestamp.is_some(),
        }
    }
}
