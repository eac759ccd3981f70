//! Reaching an agent whose tunnel ends at another server: the request goes there, and its answer comes back.

use std::sync::Arc;

use drover_api::status::ApiError;
use futures::future::join_all;
use http::{Method, Uri};
use hyper::body::Incoming;
use tokio::time::timeout;

use super::{
    PATH, PATIENCE, Servers,
    connection::{Peer, request},
};
use crate::front::{Body, Request, Response, text_response};

impl Servers {
    /// Finds the server at which the agent of `node` is connected, and sends it the agent's request; `None` when no
    /// server has it. `Err` gives the request's failure.
    pub(crate) async fn forward(
        &self,
        node: &str,
        mut request: Request,
    ) -> Option<Result<http::Response<Incoming>, ApiError>> {
        let peer = self.holder(node).await?;
        let asked = request.uri().path_and_query().map_or("/", |asked| asked.as_str());
        let uri = format!("https://kubernetes.default.svc{PATH}nodes/{node}/agent{asked}");
        *request.uri_mut() = uri.parse().ok()?;
        Some(peer.send(request).await.map_err(|error| {
            tracing::warn!(node.name = node, %error, "the server that holds the node's tunnel cannot be asked");
            ApiError::new(503, "ServiceUnavailable", format!("node {node:?} cannot be reached: its server hung up"))
        }))
    }

    async fn holder(&self, node: &str) -> Option<Arc<Peer>> {
        let asked = self.others().await.into_iter().map(async |peer| {
            let question = request(Method::GET, &format!("nodes/{node}"), Body::empty());
            let answer = timeout(PATIENCE, peer.send(question)).await.ok()?.ok()?;
            answer.status().is_success().then_some(peer)
        });
        join_all(asked).await.into_iter().flatten().next()
    }

    /// Answers another server: whether an agent is connected here, or what it answers. Never passed on.
    pub(super) async fn answer_for_agent(&self, mut request: Request) -> Result<Response, ApiError> {
        let tunnels = self.tunnels.get().ok_or_else(|| ApiError::internal("this server has no tunnels yet"))?;
        let rest = request.uri().path_and_query().map(|asked| asked.as_str()).unwrap_or_default();
        let rest = rest.strip_prefix(PATH).and_then(|rest| rest.strip_prefix("nodes/")).unwrap_or_default();
        let (node, asked) = rest.split_once("/agent/").map_or((rest, None), |(node, asked)| (node, Some(asked)));
        let node = node.to_owned();
        let Some(asked) = asked else {
            let known = tunnels.nodes().contains(&node);
            return Ok(text_response(if known { 200 } else { 404 }, Body::empty()));
        };
        let uri: Uri =
            format!("http://agent/{asked}").parse().map_err(|_| ApiError::bad_request("no path of an agent"))?;
        *request.uri_mut() = uri;
        *request.version_mut() = http::Version::HTTP_2;
        Ok(tunnels.send_here(&node, request).await?.map(Body::new))
    }
}
