//! Pod network, service proxy and runtime wrapper on this machine's kernel and Docker Engine.
//!
//! Each test makes a network of its own, with names and addresses made from its process id, and removes it.

#![expect(clippy::unwrap_used, reason = "the helpers of a test may fail it")]

mod bridge_mode;
mod fabric;
mod lab;
mod pods;
mod proxy;
mod runtime;
