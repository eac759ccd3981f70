//! What placement depends on in a pod: pods of one shape are interchangeable to the scheduler.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeAffinity, Pod, Toleration};

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
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Placed {
    /// What it asks for.
    pub requests: Amounts,
    /// Ports on the node.
    pub host_ports: Vec<HostPort>,
    /// Uid of its controller, empty for none.
    pub owner: String,
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
    /// Rules that this scheduler does not know: such a pod is refused with this reason rather than placed against it.
    pub unsupported: Option<&'static str>,
}

impl Shape {
    /// Reads a pod.
    pub fn read(pod: &Pod) -> Self {
        let spec = pod.spec.clone().unwrap_or_default();
        let annotations = pod.metadata.annotations.as_ref();
        let strategy = annotations.and_then(|all| all.get(STRATEGY_ANNOTATION)).and_then(|text| Strategy::parse(text));
        let unsupported = unsupported(pod);
        let affinity = spec.affinity.and_then(|affinity| affinity.node_affinity);
        Self {
            placed: Placed::read(pod),
            node_selector: spec.node_selector.unwrap_or_default(),
            node_affinity: affinity.unwrap_or_default(),
            tolerations: spec.tolerations.unwrap_or_default(),
            strategy,
            unsupported,
        }
    }

    /// Returns a text that is equal for pods of equal shape.
    pub fn class(&self) -> String {
        format!("{self:?}")
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
        Self { requests: of_pod(spec), host_ports: on_host.collect(), owner: owner.unwrap_or_default() }
    }
}

fn unsupported(pod: &Pod) -> Option<&'static str> {
    let spec = pod.spec.as_ref()?;
    let affinity = spec.affinity.as_ref();
    let required = affinity.is_some_and(|affinity| {
        let together = affinity.pod_affinity.as_ref();
        let apart = affinity.pod_anti_affinity.as_ref();
        together
            .is_some_and(|rule| rule.required_during_scheduling_ignored_during_execution.iter().flatten().count() > 0)
            || apart.is_some_and(|rule| {
                rule.required_during_scheduling_ignored_during_execution.iter().flatten().count() > 0
            })
    });
    if required {
        return Some("required pod affinity and anti-affinity are not supported yet");
    }
    let constraints = spec.topology_spread_constraints.iter().flatten();
    let hard = constraints.into_iter().any(|constraint| constraint.when_unsatisfiable == "DoNotSchedule");
    hard.then_some("topologySpreadConstraints with DoNotSchedule are not supported yet")
}
