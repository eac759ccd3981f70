//! Watching what was applied until it is there: what is seen, how far it is, how it is drawn.
//!
//! [`state()`], `tree` and `stuck` are pure functions of a [`World`]; only [`wait()`] watches and prints.

mod state;
mod stuck;
#[cfg(test)]
mod tests;
mod tree;
mod wait;
mod world;

pub(crate) use state::{State, state};
pub(crate) use wait::{Outcome, Settings, wait};
pub(crate) use world::{Target, World};
