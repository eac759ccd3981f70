//! What may never happen, and what must happen once faults stop: one list of oracles for every test.
//!
//! Owns no I/O, no clock, no client. The simulator, property tests and end-to-end tests fill in what they can see and
//! leave the rest empty; a rule without its facts says nothing. The numbers are those of the list that it implements:
//!
//! | rule | what | looked at by |
//! |---|---|---|
//! | S1 S2 S3 S12 | an acknowledged write stays; revisions only grow; one winner a revision; no write of a past leader | [`check_writes`], [`check_durable`] |
//! | S4 S5 | a watch is the exact history after a list; both together are the state | [`check_watch`], [`check_replica`] |
//! | S6 | one container a pod and name, cluster-wide; one node a volume | [`check_invariants`] |
//! | S7 | what is not ours is as it was | [`check_foreign`] |
//! | S8 | a bound or retained volume is there | [`check_invariants`], [`check_step`] |
//! | S9 | a rollout keeps its bounds | [`check_invariants`], [`check_step`] |
//! | S10 | a node is not overcommitted; nothing is bound to a node that takes none | [`check_invariants`], [`check_step`] |
//! | S11 | one owner an address; no traffic to a pod that is being stopped | [`check_invariants`] |
//! | S13 | a pod's address is from its node's range | [`check_invariants`] |
//! | L1–L6 | converged, quiet, no leaks, no starving, no wedged deletion, and a reason for whatever is not so | [`check_invariants`], by [`World::quiet_secs`] |
//!
//! S14 (secrets) and S15 (GitOps) have tests of their own: they are about texts and sources, not about a world.

mod world;

mod facts;
mod quantity;

mod convergence;
mod deletion;
mod foreign;
mod identity;
mod leaks;
mod placement;
mod quiet;
mod reasons;
mod rollout;
mod traffic;
mod volumes;
mod watch;
mod writes;

#[cfg(test)]
mod testing;

pub use facts::is_gone;
pub use foreign::check_foreign;
pub use watch::{Change, Entry, WatchItem, WatchRecord, check_replica, check_watch};
pub use world::{Container, ContainerPhase, NodeView, Violation, World};
pub use writes::{Verb, WriteRecord, check_durable, check_writes};

/// Returns everything in `world` that breaks an invariant; empty when all hold.
pub fn check_invariants(world: &World) -> Vec<Violation> {
    let rules: [fn(&World) -> Vec<Violation>; 12] = [
        identity::check,
        volumes::check,
        rollout::check,
        placement::check,
        placement::check_addresses,
        traffic::check,
        convergence::check,
        traffic::check_tables,
        quiet::check,
        leaks::check,
        deletion::check,
        reasons::check,
    ];
    rules.iter().flat_map(|rule| rule(world)).collect()
}

/// Returns what broke an invariant on the way from one world to the next. The closer the two, the more it sees; what
/// may have happened in either order in between is not held against anybody.
pub fn check_step(before: &World, after: &World) -> Vec<Violation> {
    let rules: [fn(&World, &World) -> Vec<Violation>; 3] =
        [volumes::check_step, rollout::check_step, placement::check_step];
    rules.iter().flat_map(|rule| rule(before, after)).collect()
}
