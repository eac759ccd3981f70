//! What a decision was made of: for every node, why or why not.

use std::collections::BTreeMap;

use serde::Serialize;

use super::filter::Refusal;
use super::rank::{Rank, Strategy};

/// Nodes listed in a trace; the rest is counted. Keeps the published text under 32 KiB.
const NODES_MAX: usize = 150;

/// The account of one decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Trace {
    /// How nodes that fit were ordered.
    pub strategy: Strategy,
    /// The node chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The verdicts: the chosen node first, then by preference, then those refused.
    pub nodes: Vec<Verdict>,
    /// Nodes looked at but not listed.
    pub omitted: usize,
}

/// What was said of one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// The node.
    pub node: String,
    /// Whether the pod would fit.
    pub fits: bool,
    /// The numbers that ranked it, or why it was refused.
    pub why: String,
}

impl Trace {
    /// Writes the account of a decision.
    pub fn new<'a>(
        strategy: Strategy,
        chosen: Option<&str>,
        fitting: impl Iterator<Item = (&'a str, &'a Rank)>,
        refusals: &BTreeMap<String, Refusal>,
    ) -> Self {
        let fitting = fitting.map(|(node, rank)| (node, Ok(rank)));
        let refused = refusals.iter().map(|(node, refusal)| (node.as_str(), Err(refusal)));
        let mut all = fitting.chain(refused);
        let mut nodes: Vec<Verdict> =
            all.by_ref().take(NODES_MAX).map(|(node, verdict)| Verdict::new(node, verdict)).collect();
        let rest: Vec<_> = all.collect();
        let hidden = rest.iter().position(|(node, _)| Some(*node) == chosen);
        nodes.extend(hidden.map(|position| Verdict::new(rest[position].0, rest[position].1)));
        nodes.sort_by_key(|verdict| Some(verdict.node.as_str()) != chosen);
        let omitted = rest.len() - usize::from(hidden.is_some());
        Self { strategy, node: chosen.map(str::to_owned), nodes, omitted }
    }
}

impl Verdict {
    fn new(node: &str, verdict: Result<&Rank, &Refusal>) -> Self {
        let why = verdict.map_or_else(ToString::to_string, describe);
        Self { node: node.to_owned(), fits: verdict.is_ok(), why }
    }
}

fn describe(rank: &Rank) -> String {
    let percent = rank.load.abs() / 10_000;
    let mut parts = vec![format!("{percent}% used with the pod"), format!("{} pods", rank.pods.abs())];
    if rank.siblings > 0 {
        parts.push(format!("{} of the same controller", rank.siblings));
    }
    if rank.unpreferred != 0 {
        parts.push(format!("preferred by {}", -rank.unpreferred));
    }
    if rank.crowd > 0 {
        parts.push(format!("{} to be spread from", rank.crowd));
    }
    if rank.unwelcome > 0 {
        parts.push(format!("{} PreferNoSchedule taints", rank.unwelcome));
    }
    parts.join(", ")
}

/// Counts refusals by reason, as Kubernetes words it: `0/3 nodes are available: 1 Insufficient cpu, 2 …`.
pub fn message(refusals: &BTreeMap<String, Refusal>) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for refusal in refusals.values() {
        *counts.entry(&refusal.reason).or_default() += 1;
    }
    let mut reasons: Vec<String> = counts.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    reasons.sort();
    if reasons.is_empty() {
        return "0/0 nodes are available: no node has joined.".to_owned();
    }
    format!("0/{} nodes are available: {}.", refusals.len(), reasons.join(", "))
}
