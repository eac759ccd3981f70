//! The streams the API server asks for through the tunnel: logs, exec, attach, port-forward, stats.
//!
//! Owns the HTTP/2 server on the tunnel and nothing that listens: the agent dials out, and on the byte stream it gets
//! the roles invert. Logs are read only through the engine by container id; no route holds a path of the host
//! (faults A43). A request that the client drops takes its work with it.

mod dial;
mod exec;
mod frames;
mod logs;
mod portforward;
mod reply;
mod routes;
mod service;
mod stats;
mod tunnel;

#[cfg(test)]
mod tests;

pub use dial::{DialError, InProcessDialer, TlsDialer, TlsDialerConfig};
pub use service::StreamService;
pub use tunnel::run_tunnel;
