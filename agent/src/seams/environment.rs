//! Container environments as the life cycle sees them.

use std::{fmt, net::IpAddr};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Container, Pod};

/// Resolves the environment of a container.
#[async_trait]
pub trait PodEnvironment: Send + Sync + fmt::Debug {
    /// Returns the variables in order, later ones winning, with `$(NAME)` expanded: service variables, then envFrom,
    /// then env.
    async fn resolve(
        &self,
        pod: &Pod,
        container: &Container,
        facts: &PodFacts,
    ) -> Result<Vec<(String, String)>, EnvironmentError>;
}

/// What a fieldRef can name that is not in the pod object yet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PodFacts {
    /// `status.podIP`.
    pub pod_ip: Option<IpAddr>,
    /// `status.hostIP`.
    pub host_ip: Option<IpAddr>,
    /// `spec.nodeName`.
    pub node_name: String,
    /// What resourceFieldRef gives for an absent cpu limit, in cores.
    pub node_allocatable_cpu_cores: u64,
    /// What resourceFieldRef gives for an absent memory limit.
    pub node_allocatable_memory_bytes: u64,
}

/// Why an environment cannot be resolved: the container waits with `CreateContainerConfigError`.
#[derive(Debug, Clone, thiserror::Error)]
#[error("environment: {message}")]
pub struct EnvironmentError {
    /// One sentence, shown to users: `configmap "x" not found`.
    pub message: String,
}
