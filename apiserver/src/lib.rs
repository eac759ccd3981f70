//! The API server: identities, authorisation, discovery, resources, watch and streams over one TLS port.
//!
//! Owns everything between a client's bytes and the store. May not run controllers, dial an address that a user named,
//! or know Docker. Started by the `drover` binary through [`start`].

mod administration;
pub mod admission;
pub mod audit;
mod authn;
pub mod authz;
mod bootstrap;
pub mod cache;
mod discovery;
mod fence;
mod front;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod health;
mod join;
mod metrics;
mod objects;
pub mod pki;
mod reach;
pub mod registry;
pub mod request;
pub mod rest;
mod restore;
mod reviews;
pub mod sealing;
mod server;
mod servers;
mod streams;
mod tokens;
pub mod tunnel;
pub mod volatile;

pub(crate) use server::tls_versions;
pub use server::{Config, Error, Handle, InProcess, InProcessConfig, LocalService, TlsError, start};
pub use servers::identity::{IdentityError, cluster_of};
pub use tokens::KeyError;
