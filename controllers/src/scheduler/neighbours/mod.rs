//! What placement depends on in other pods: affinity, anti-affinity and topology spread, with Kubernetes' meanings.
//!
//! Most pods have no such rules and meet nobody who has: for them the index answers, and this module costs one look at
//! the pods that keep others away. For the others every decision counts all pods anew, in one pass: each decision changes
//! the counts, so that there is nothing to remember.
//!
//! Left out: preferred terms of pods that are there already do not rank nodes for those that come.

pub mod affinity;
pub mod spread;
pub mod term;
#[cfg(test)]
mod tests;

use affinity::{Company, closed};
use spread::Lie;

use super::filter::Refusal;
use super::index::Index;
use super::node::NodeState;
use super::rank::Rank;
use super::shape::Shape;

/// The pods around, as far as they matter to one pod.
#[derive(Debug)]
pub struct Neighbours<'a> {
    company: Company<'a>,
    spread: Vec<Lie<'a>>,
}

impl<'a> Neighbours<'a> {
    /// Looks around; `None` where no other pod matters.
    pub fn of(shape: &'a Shape, index: &'a Index) -> Option<Self> {
        let closed = closed(index, &shape.placed);
        let rules = !shape.neighbours.is_empty() || !shape.placed.apart.is_empty() || !shape.spread.is_empty();
        (rules || !closed.is_empty()).then(|| Self {
            company: Company::of(shape, closed, index),
            spread: shape.spread.iter().map(|constraint| Lie::of(constraint, shape, index)).collect(),
        })
    }

    /// Checks the rules that other pods decide.
    ///
    /// # Errors
    /// The [`Refusal`] of the first that refuses.
    pub fn check(&self, node: &NodeState) -> Result<(), Refusal> {
        let Some(offer) = &node.offer else { return Ok(()) };
        self.spread.iter().try_for_each(|lie| lie.check(offer))?;
        self.company.check(offer)
    }

    /// The rank of a node, with what other pods make of it.
    pub fn rank(&self, rank: Rank, node: &NodeState) -> Rank {
        let Some(offer) = &node.offer else { return rank };
        Rank {
            unpreferred: rank.unpreferred - self.company.preference(offer),
            crowd: self.spread.iter().map(|lie| lie.crowd(offer)).sum(),
            ..rank
        }
    }
}

/// Whether a pod that found no place may find one when others come.
pub fn waits_for_others(shape: &Shape) -> bool {
    shape.neighbours.needs_company() || !shape.spread.is_empty()
}
