//! The life of a pod: observe, plan, apply.
//!
//! [`plan`] decides, purely; one actor per pod carries out and never blocks another; [`routes`] says when Services
//! may send a pod traffic and when they have stopped. Nothing here restarts a container because the agent restarted.

pub mod action;
pub mod observed;
pub mod plan;
pub mod routes;
