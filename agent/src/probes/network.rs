//! Probes over this host's network.

use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Probe;
use tokio::net::TcpStream;

use super::{HttpRequest, grpc::grpc_check, http_get, resolve_port};
use crate::seams::{ProbeSubject, Prober};

/// [`Prober`] from this host against a pod's address.
#[derive(Debug, Clone, Copy, Default)]
pub struct NetworkProber;

#[async_trait]
impl Prober for NetworkProber {
    async fn probe(&self, subject: ProbeSubject<'_>, probe: &Probe, limit: Duration) -> Result<(), String> {
        let address = || subject.address.map(|ip| ip.to_string()).ok_or_else(|| "the pod has no address".to_owned());
        let host = |given: &Option<String>| given.clone().filter(|host| !host.is_empty()).map_or_else(address, Ok);
        if let Some(get) = &probe.http_get {
            let port =
                resolve_port(&get.port, subject.container).ok_or_else(|| format!("unknown port {:?}", get.port))?;
            return http_get(&HttpRequest::new(get, host(&get.host)?, port), limit).await.map(drop);
        }
        if let Some(tcp) = &probe.tcp_socket {
            let port =
                resolve_port(&tcp.port, subject.container).ok_or_else(|| format!("unknown port {:?}", tcp.port))?;
            let host = host(&tcp.host)?;
            return match tokio::time::timeout(limit, TcpStream::connect((host.as_str(), port))).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => Err(format!("dial tcp {host}:{port}: {error}")),
                Err(_) => Err(format!("dial tcp {host}:{port}: i/o timeout")),
            };
        }
        if let Some(grpc) = &probe.grpc {
            let port = u16::try_from(grpc.port).map_err(|_| format!("invalid port {}", grpc.port))?;
            return grpc_check(&address()?, port, grpc.service.as_deref().unwrap_or_default(), limit).await;
        }
        Err("the probe has no handler".to_owned())
    }
}
