//! Ingresses, on the nodes that have the label `node-role.kubernetes.io/ingress`: an HAProxy of the host, led by us.
//!
//! What it must hold is a pure function of objects ([`drover_routing::ingress`]). [`runner`] brings it there: servers come
//! and go through the Runtime API; what only a new configuration can change is checked first and taken up by a reload.
//! HAProxy is a process of its own: it serves on while the agent or the control plane is away, and is found again.

mod certificates;
mod feed;
mod process;
mod runner;
mod status;

pub(crate) use feed::{Sources, feed};
pub(crate) use process::Process;
pub(crate) use runner::{IngressConfig, run};
pub(crate) use status::announce;
