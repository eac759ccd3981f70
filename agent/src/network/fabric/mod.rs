//! The way to the pods of other nodes.
//!
//! Each node has a network of addresses for its pods (`spec.podCIDR`). Where two nodes share a link, that network is a
//! route to the other node's address; elsewhere packets go through one VXLAN device, whose ends and hardware addresses
//! follow from the pods' networks alone. [`peers`] reads the Nodes, [`desired`] decides, [`diff`] compares with what the
//! kernel has, [`run`] applies it at every change and looks every second whether anybody broke it. Packets keep their
//! source address, and nothing here is asked of the control plane: what is in the kernel stays when that is away.
//!
//! Routes carry a protocol number of their own; those of others are never touched, not even when they are in the way.

mod desired;
mod diff;
mod kernel;
mod peer;
mod runner;
#[cfg(test)]
mod tests;

pub use desired::{Fabric, Hop, LocalAddress, desired};
pub use diff::{Observed, Step, diff};
pub use peer::{Own, Peer, peers};
pub use runner::{FabricConfig, remove, run};
