//! The API server: identities, authorisation, discovery, resources, watch and streams over one TLS port.
//!
//! Owns everything between a client's bytes and the store. May not run controllers, dial any address, or know
//! Docker. Started by the `drover` binary through [`start`](server::start).

pub mod pki;
pub mod request;
