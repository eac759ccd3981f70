//! The scheduler: decides on which node each pod runs, and says why.
//!
//! Owns `spec.nodeName` of unbound pods, their PodScheduled condition, and the annotation that asks for a volume on a
//! node. [`place::place`] is the decision, pure over an [`index::Index`] of nodes that is kept up to date by events;
//! the controller below observes, asks for a decision, and writes it. It never starts a container.

pub mod affinity;
pub mod claims;
mod classic;
pub mod filter;
pub mod index;
pub mod neighbours;
pub mod node;
pub mod place;
pub mod rank;
pub mod requests;
pub mod shape;
pub mod trace;

mod controller;

pub(crate) use controller::register;
pub use rank::Strategy;
