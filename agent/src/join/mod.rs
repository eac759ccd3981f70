//! How this host becomes a node of a cluster elsewhere, and stays one.
//!
//! The host makes a key once and keeps it for good. With a join token the cluster lets the key in; what comes back, a
//! certificate and what a node must know of its cluster, is kept, so that the agent starts without a server. The
//! certificate is renewed at every start and at two thirds of its life by a request that the key itself signs, which the
//! servers take also long after the certificate has ended.
//!
//! The agent dials out only: API and tunnel go over [`Dialer`], to whichever of the servers answers.

mod ask;
mod client;
mod dial;
mod identity;
mod member;
mod server;
mod state;
#[cfg(test)]
mod tests;
mod trust;

use std::path::PathBuf;

pub use ask::AskError;
pub use dial::{Dialer, TlsTunnelDialer};
pub use identity::IdentityError;
pub use member::{Member, join};
pub use server::{Server, ServerError};
pub use state::{Membership, StateError};
pub use trust::{Trust, TrustError};

/// How to join.
#[derive(Debug, Clone)]
pub struct JoinOptions {
    /// The servers; the first that answers is used.
    pub servers: Vec<Server>,
    /// `id.secret`, for the first time.
    pub token: Option<String>,
    /// How to know the cluster's servers the first time; later by the authority that was kept.
    pub trust: Option<Trust>,
    /// The node's name.
    pub node_name: String,
    /// Refuse to join another cluster than this.
    pub cluster_name: Option<String>,
    /// Holds `pki/` and `membership.json`.
    pub data_dir: PathBuf,
}

/// Why this host is no node.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The files of an earlier start cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The key or certificate cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Nothing says which authority to trust.
    #[error(
        "the first time this host must be told how to know the servers: give --ca-pin (droverctl token create prints it) or --ca-file"
    )]
    NoTrust,
    /// The servers cannot be known.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The cluster does not want this host.
    #[error("the cluster refuses this host: {0}")]
    Refused(String),
    /// The data directory belongs to a node of another name or cluster.
    #[error("{} belongs to node {kept_node:?} of cluster {kept_cluster:?}: give another --data-dir, or the same names", dir.display())]
    Another {
        /// The directory.
        dir: PathBuf,
        /// Its node.
        kept_node: String,
        /// Its cluster.
        kept_cluster: String,
    },
    /// The client cannot be built.
    #[error("cannot build the client of the API")]
    Client(#[source] Box<dyn std::error::Error + Send + Sync>),
}
