//! Which of the nodes that fit is best.

use serde::Serialize;

use super::affinity::preference;
use super::classic;
use super::filter::unwelcome;
use super::node::NodeState;
use super::shape::Shape;

/// How to choose among the nodes that fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// Fewest pods of the same controller, then the least used node.
    #[default]
    Spread,
    /// The most used node that still fits.
    Binpack,
    /// Any node that fits, drawn by the seed passed in.
    Random,
}

impl Strategy {
    /// Reads the name that users write.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "spread" => Some(Self::Spread),
            "binpack" => Some(Self::Binpack),
            "random" => Some(Self::Random),
            _ => None,
        }
    }
}

/// A node's place in the order of preference: the least is the best. The fields are compared in this order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Rank {
    /// Taints that ask to stay away.
    pub unwelcome: i64,
    /// Preferred terms satisfied, negated so that more is less.
    pub unpreferred: i64,
    /// Pods in the domains of the constraints of topology spread that only rank.
    pub crowd: i64,
    /// Pods of the same controller (spread), 0 otherwise.
    pub siblings: i64,
    /// Used share of the scarcest resource with the pod on the node, in millionths; negated for binpack.
    pub load: i64,
    /// Pods on the node; negated for binpack.
    pub pods: i64,
}

impl Rank {
    /// Ranks a node that fits.
    pub fn of(strategy: Strategy, shape: &Shape, name: &str, node: &NodeState) -> Self {
        let Some(offer) = &node.offer else {
            return Self { unwelcome: i64::MAX, unpreferred: 0, crowd: 0, siblings: 0, load: 0, pods: 0 };
        };
        let terms = shape.node_affinity.preferred_during_scheduling_ignored_during_execution.as_deref();
        let sign = if strategy == Strategy::Binpack { -1 } else { 1 };
        Self {
            unwelcome: unwelcome(offer, &shape.tolerations),
            unpreferred: -preference(terms.unwrap_or_default(), name, &offer.labels)
                - classic::preference(shape, name, node, offer),
            crowd: 0,
            siblings: if strategy == Strategy::Spread { node.siblings(&shape.placed.owner) } else { 0 },
            load: sign * load(shape, node, &offer.allocatable),
            pods: sign * i64::try_from(node.pods.len()).unwrap_or(i64::MAX),
        }
    }
}

/// Returns the used share of the scarcer of CPU and memory, in millionths, as if the pod were on the node.
fn load(shape: &Shape, node: &NodeState, allocatable: &super::requests::Amounts) -> i64 {
    let share = |name: &str| {
        let total = i128::from(allocatable.of(name));
        let used = i128::from(node.used.of(name)) + i128::from(shape.placed.requests.of(name));
        if total <= 0 { 0 } else { i64::try_from(used * 1_000_000 / total).unwrap_or(i64::MAX) }
    };
    share("cpu").max(share("memory"))
}
