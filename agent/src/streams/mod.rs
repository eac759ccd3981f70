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

pub use dial::InProcessDialer;
pub use service::StreamService;
pub use tunnel::run_tunnel;

/// Whether a request line of the API server is understood.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn reads_route(method: &http::Method, path: &str, query: &str, now: jiff::Timestamp) -> bool {
    routes::parse(method, path, query, now).is_ok()
}

/// Whether frames of a client are understood, given in pieces of `size`.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn reads_frames(bytes: &[u8], size: usize) -> bool {
    let mut decoder = frames::Decoder::default();
    for piece in bytes.chunks(size) {
        decoder.push(piece);
        loop {
            match decoder.next() {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return false,
            }
        }
    }
    true
}
