//! Startup, readiness and liveness probes, run from the host against a pod's address.
//!
//! Owns the probe tasks and their protocols; [`threshold`] is the pure part that turns outcomes into verdicts.

mod grpc;
mod http;
mod network;
mod task;
mod threshold;

use k8s_openapi::{api::core::v1::Container, apimachinery::pkg::util::intstr::IntOrString};

pub use http::{HttpRequest, http_get};
pub use network::NetworkProber;
pub(crate) use task::probe_of;
pub use task::{ProbeTarget, ProbeTasks, ProbeVerdict};
pub use threshold::{ProbeKind, Threshold};

/// Finds the number of a port that a manifest gives by number or by name.
pub fn resolve_port(port: &IntOrString, container: &Container) -> Option<u16> {
    match port {
        IntOrString::Int(number) => u16::try_from(*number).ok(),
        IntOrString::String(name) => {
            let ports = container.ports.iter().flatten();
            let mut named = ports.filter(|port| port.name.as_deref() == Some(name));
            let number = named.next().and_then(|port| u16::try_from(port.container_port).ok());
            number.or_else(|| name.parse().ok())
        }
    }
}
