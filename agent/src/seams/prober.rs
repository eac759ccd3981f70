//! Probes that go over the network, as the life cycle sees them.

use std::{fmt, net::IpAddr, time::Duration};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Container, Probe};

use crate::ids::ContainerId;

/// Tries the network handler of a probe or hook (httpGet, tcpSocket, grpc); commands go to the engine.
#[async_trait]
pub trait Prober: Send + Sync + fmt::Debug {
    /// Tries once, at most for `limit`. An error is the sentence for the event.
    async fn probe(&self, subject: ProbeSubject<'_>, probe: &Probe, limit: Duration) -> Result<(), String>;
}

/// What is probed.
#[derive(Debug, Clone, Copy)]
pub struct ProbeSubject<'a> {
    /// The container.
    pub id: &'a ContainerId,
    /// Its spec.
    pub container: &'a Container,
    /// The pod's address.
    pub address: Option<IpAddr>,
}
