//! Whether the hosts next to this one are there, asked of their kernels and not of their agents.
//!
//! Each node asks a few others ([`choose`]) by ICMP echo, several times a second. Who stops answering is lost
//! ([`Hearing`]); what is heard and what is lost goes onto this node's Lease at once, where the controllers put it
//! together, and to this node's proxy, which sends no new connection to where this node hears nobody. A kernel answers
//! however busy its host is, and whether its engine or agent lives or not: what is found here is the loss of a host or
//! of the way to it, within about a second, and nothing else.

mod choose;
mod echo;
mod hearing;
mod runner;

pub use choose::{NEIGHBOURS_MAX, choose};
pub use hearing::Hearing;
pub use runner::{NeighboursConfig, run};

use std::collections::BTreeSet;

/// What a node says of those it asks. One that has not answered yet is in neither.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Heard {
    /// They answer.
    pub heard: BTreeSet<String>,
    /// They answered once and do so no more.
    pub lost: BTreeSet<String>,
}

/// The nodes that new connections are better kept from: those that this node has lost, and those that the controllers
/// doubt. Never this node itself.
pub fn doubted(heard: &Heard, suspects: &BTreeSet<String>, own: &str) -> BTreeSet<String> {
    heard.lost.union(suspects).filter(|node| *node != own).cloned().collect()
}
