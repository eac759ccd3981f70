//! The simulator: a whole cluster in one thread under virtual time, driven through faults by one seed.
//!
//! Owns the simulated world (network, clocks, chance, disks, engines) and the judgement; everything that decides is the
//! shipping code: store, API server, controllers, agents. A seed determines a [`Schedule`] of faults and user actions;
//! [`play`] runs it with the oracles of `drover-invariants` looking on; a schedule that fails is shortened by [`shrink`].

pub mod chance;
pub mod clock;
pub mod runtime;

pub mod faults;
pub mod user;

mod connection;
mod link;
mod transport;
mod watch_body;
mod wire;

mod disk;
mod store;

mod observe;
mod parts;

mod run;
mod schedule;
mod shrink;

pub use run::{Depth, Outcome, play};
pub use schedule::{Event, Schedule};
pub use shrink::shrink;
