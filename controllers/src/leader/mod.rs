//! One leader at a time: who runs the controllers, when there are several that could.
//!
//! A Lease says who leads and that it lives; the API server's fence makes sure of it. Taking the lead raises the fence,
//! and every write of the controllers then carries its epoch, so that a leader which was paused writes nothing when it
//! wakes (S12). So the Lease need not be safe, only live: a leader that cannot renew it goes on until somebody else
//! leads. Owns the Lease `kube-system/drover-controllers`. Called by the manager.

mod client;
mod election;
mod plan;
#[cfg(test)]
mod tests;

pub use client::FencedClient;
pub use election::{Term, run};

/// How to take part in the election.
#[derive(Debug, Clone)]
pub struct Election {
    /// Names this candidate: unique among those that live, and best the same after a restart, which then takes the lead
    /// back at once.
    pub identity: String,
}
