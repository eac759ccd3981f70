//! What an agent says of its node (`GET /v1/stats`).

use drover_api::status::ApiError;
use http::Method;
use http_body_util::{BodyExt, Limited};
use serde::Deserialize;

use crate::{front::Body, streams::agent, tunnel::Tunnels};

/// A node of some hundred pods says less than 100 KiB.
const STATS_BYTES_MAX: usize = 4 << 20;

/// Numbers of a node.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Stats {
    pub(super) node: Used,
    pub(super) pods: Vec<Pod>,
}

/// Numbers of a pod.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Pod {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) containers: Vec<Container>,
}

/// Numbers of a container.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Container {
    pub(super) name: String,
    #[serde(flatten)]
    pub(super) used: Used,
}

/// What is used right now.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Used {
    pub(super) cpu_nano_cores: u64,
    pub(super) memory_bytes: u64,
}

/// Asks the agent of `node`.
pub(super) async fn fetch(tunnels: &Tunnels, node: &str) -> Result<Stats, ApiError> {
    let request = agent::request(Method::GET, "stats", &[], Body::empty());
    let body = agent::ask(tunnels, node, request).await?;
    let bytes = Limited::new(body, STATS_BYTES_MAX).collect().await;
    let bytes = bytes.map_err(|_| ApiError::internal("the node's numbers broke off"))?.to_bytes();
    serde_json::from_slice(&bytes).map_err(|_| ApiError::internal("the node's numbers are malformed"))
}
