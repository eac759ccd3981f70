//! The Node object and its lease: what this host offers, how it is, and that it lives.
//!
//! [`facts`] reads the host, [`object`] builds the Node from facts (pure), [`heartbeat`] renews the lease with the
//! proxy's acknowledgement, [`NodeReporter`] writes the status when it changes.

mod facts;
mod heartbeat;
mod object;
mod reporter;

pub use facts::{HostFacts, HostPressure, HostView, ThisHost, detect_address, oom_score_floor};
pub use heartbeat::{acknowledged_revision, heartbeat};
pub use object::{NodeIdentity, NodeInput, build_labels, build_status};
pub use reporter::{NodeReporter, announce_network, register};
