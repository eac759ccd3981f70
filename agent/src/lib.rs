//! The node agent: runs the pods bound to one node on that node's Docker Engine.
//!
//! Owns everything on the node side: containers, pod network, service proxy, DNS, volumes, probes, logs and exec.
//! It reaches cluster state only through the Kubernetes API (a [`kube::Client`] passed in), listens on nothing, and
//! never touches a container, volume or network that it did not create.

mod causes;
pub mod chance;
pub mod clock;
pub mod ids;

pub mod engine;
pub mod seams;
pub mod source;

pub mod config;
pub mod ledger;
pub mod status;

pub mod pod;
pub mod probes;

pub mod join;
pub mod neighbours;
pub mod node;

pub mod dns;
mod ingress;
pub mod network;
pub mod proxy;

pub mod environment;
pub mod hollow;
pub mod streams;
pub mod volumes;

#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod run;
#[cfg(test)]
mod testing;
mod uninstall;

pub use run::{Config, Error, IngressPorts, run};
pub use uninstall::{UninstallConfig, uninstall};
