//! The DNS server on the node's bridge gateway: names of Services and pods, everything else forwarded.
//!
//! [`Zone::new`] turns objects into records and [`answer`] a question into an answer, both pure; [`Server`] owns the
//! sockets. It answers nobody outside the cluster's addresses, and keeps its last records when the control plane is gone.

mod answer;
mod message;
mod server;
mod upstream;
mod zone;

pub use answer::{Answer, answer};
pub use server::{BindError, DnsConfig, Server};
pub use upstream::resolvers;
pub use zone::{Data, DnsInput, Zone};

/// Reads a message and returns what would be sent back without looking anything up.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn refusal(bytes: &[u8]) -> Option<Vec<u8>> {
    match message::read(bytes) {
        message::Incoming::Refuse(reply) => Some(reply),
        message::Incoming::Question(_) | message::Incoming::Ignore => None,
    }
}
