//! Who gets a connection or a request: pure functions of Services, EndpointSlices and Ingresses.
//!
//! [`endpoints`] chooses the backends of a Service port, for every proxy alike; [`ingress`] says what HAProxy must hold.
//! Whoever carries it out (the agent), shows it (`droverctl lb render`) or judges it (the controllers) is elsewhere.

pub mod endpoints;
pub mod ingress;
