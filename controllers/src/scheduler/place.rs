//! The decision: one pod, the nodes, and which of them.

use std::collections::{BTreeMap, BTreeSet};

use super::claims::ClaimRule;
use super::filter::{Refusal, check};
use super::index::Index;
use super::neighbours::Neighbours;
use super::rank::{Rank, Strategy};
use super::shape::Shape;
use super::trace::{Trace, message};

/// Where a pod goes, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The node, or Kubernetes' sentence saying why there is none.
    pub node: Result<String, String>,
    /// The account for `droverctl why`.
    pub trace: Trace,
}

/// Chooses a node for a pod. `draw` is the random number that the random strategy uses.
///
/// The same index, shape, claims and draw always give the same node: ties go to the first name.
pub fn place(index: &mut Index, shape: &Shape, claims: &[ClaimRule], fallback: Strategy, draw: u64) -> Decision {
    let strategy = shape.strategy.unwrap_or(fallback);
    // Claims belong to one pod, and each decision moves the neighbours of the next: nothing is gained by remembering.
    let neighbours = Neighbours::of(shape, index);
    if claims.is_empty() && neighbours.is_none() {
        let class = index.class(shape, strategy);
        return decide(strategy, &class.order, &class.refusals, draw);
    }
    let mut order = BTreeSet::new();
    let mut refusals = BTreeMap::new();
    for (name, node) in index.nodes() {
        let near = || neighbours.as_ref().map_or(Ok(()), |neighbours| neighbours.check(node));
        match check(shape, claims, name, node).and_then(|()| near()) {
            Ok(()) => {
                let rank = Rank::of(strategy, shape, name, node);
                let rank = match &neighbours {
                    Some(neighbours) => neighbours.rank(rank, node),
                    None => rank,
                };
                order.insert((rank, name.clone()));
            }
            Err(refusal) => {
                refusals.insert(name.clone(), refusal);
            }
        }
    }
    decide(strategy, &order, &refusals, draw)
}

fn decide(
    strategy: Strategy,
    order: &BTreeSet<(Rank, String)>,
    refusals: &BTreeMap<String, Refusal>,
    draw: u64,
) -> Decision {
    let chosen = match strategy {
        Strategy::Spread | Strategy::Binpack => order.first(),
        Strategy::Random => {
            let count = u64::try_from(order.len().max(1)).unwrap_or(1);
            order.iter().nth(usize::try_from(draw % count).unwrap_or(0))
        }
    };
    let chosen = chosen.map(|(_, name)| name.as_str());
    let trace = Trace::new(strategy, chosen, order.iter().map(|(rank, name)| (name.as_str(), rank)), refusals);
    Decision { node: chosen.map(str::to_owned).ok_or_else(|| message(refusals)), trace }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
