//! The Node object and its lease: what this host offers, how it is, and that it lives.
//!
//! [`facts`] reads the host, [`object`] builds the Node from facts (pure), [`Heartbeat`] renews the Lease with what this
//! node says of its proxy and its neighbours, [`published`] follows what the controllers make of it, [`NodeReporter`]
//! writes the status when it changes.

mod facts;
mod heartbeat;
mod object;
mod published;
mod reporter;

pub use facts::{HostFacts, HostPressure, HostView, ThisHost, detect_address, oom_score_floor};
pub use heartbeat::Heartbeat;
pub use object::{NodeIdentity, NodeInput, build_labels, build_status};
pub use published::{acknowledged_revision, suspects};
pub use reporter::{NodeReporter, announce_network, register};
