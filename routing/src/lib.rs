//! Who gets a connection or a request: pure functions of Services, EndpointSlices and Ingresses.
//!
//! [`endpoints`] chooses the backends of a Service port, for every proxy alike; [`ingress`] says what HAProxy must hold.
//! Whoever carries it out (the agent), shows it (`droverctl lb render`) or judges it (the controllers) is elsewhere.

pub mod endpoints;
pub mod ingress;

use sha2::{Digest as _, Sha256};

/// A short name for a value; 48 bits among some ten thousand.
pub fn digest(value: &impl std::fmt::Debug) -> String {
    let hash = Sha256::digest(format!("{value:?}"));
    hash.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}
