//! What HAProxy must hold for the Ingresses of our class.
//!
//! [`desired`] reads the objects, [`config`] writes them in HAProxy's language, [`change`] is the difference in servers
//! that its Runtime API takes without a reload. What one Ingress asks for never disturbs another: a path that an older one
//! has is refused to the newer one, and what cannot be served is left out and named as a [`Problem`].

pub mod change;
pub mod config;
mod desired;
#[cfg(test)]
mod tests;

pub use desired::{
    Backend, Certificate, Desired, Input, Owner, PathKind, Port, Problem, Route, Served, certificates, desired,
    is_ours, owner,
};
