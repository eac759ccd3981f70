//! Nodes: their address ranges, whether they live, and what a dead one means for its pods.
//!
//! Three controllers. `nodeipam` gives each Node its pod range; `nodelifecycle` turns silence into conditions and
//! taints; `tainteviction` removes pods that do not tolerate their node's taints. The node's own agent owns everything
//! else about it.

pub mod cidr;
pub mod eviction;
pub mod heartbeats;
pub mod ipam;
pub mod lifecycle;
pub mod published;
