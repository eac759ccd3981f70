//! The route by which an agent on another host turns its connection into a tunnel.

use std::sync::Arc;

use drover_api::status::ApiError;
use http::{HeaderValue, StatusCode, header};
use hyper_util::rt::TokioIo;

use super::Tunnels;
use crate::{
    front::{Body, Request, Response},
    request::RequestInfo,
};

const PROTOCOL: &str = "drover-tunnel";

/// Answers `POST /apis/drover.dev/v1alpha1/nodes/{name}/tunnel` with 101 and takes over the connection.
///
/// # Errors
/// 400 when the request does not ask for the upgrade or its connection cannot be upgraded.
pub(crate) fn upgrade(tunnels: &Arc<Tunnels>, info: &RequestInfo, mut request: Request) -> Result<Response, ApiError> {
    let asks = request.headers().get(header::UPGRADE).is_some_and(|value| value.as_bytes() == PROTOCOL.as_bytes());
    if !asks || request.extensions().get::<hyper::upgrade::OnUpgrade>().is_none() {
        return Err(ApiError::bad_request(format!("this path needs an HTTP/1.1 upgrade to {PROTOCOL:?}")));
    }
    let upgraded = hyper::upgrade::on(&mut request);
    let (tunnels, node) = (Arc::clone(tunnels), info.name.clone());
    tunnels.tasks.clone().spawn(async move {
        let result = match upgraded.await {
            Ok(io) => tunnels.accept(&node, TokioIo::new(io)).await,
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            tracing::warn!(node.name = node, %error, "tunnel failed");
        }
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static(PROTOCOL));
    Ok(response)
}
