//! Attacks as data: cases of requests with the answers they must get, played against a real API server over real TLS.
//!
//! Owns the server it starts and the certificates it mints; needs neither root nor an engine. Cases live in
//! `tests/attacks/*.json`, one file a group; `docs/security.md` says which attack each one is.

mod case;
mod identity;
mod play;
mod server;
mod wire;

pub use case::{Case, Group, groups};
pub use identity::{Authority, Identity, Wish};
pub use play::{Outcome, play};
pub use server::{Answer, Server};
pub use wire::{Stream, connect, connect_as};
