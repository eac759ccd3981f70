//! A client whose every request carries the epoch of the lead.

use std::{
    fmt,
    task::{Context, Poll},
};

use futures::{FutureExt, future::BoxFuture};
use http::{HeaderName, HeaderValue, Request, Response};
use kube::client::Body;
use tokio_util::sync::CancellationToken;
use tower::Service;

const FENCE: HeaderName = HeaderName::from_static("drover-fence");
/// What the server puts into an answer that refuses a write for its epoch.
const STALE: &[u8] = b"stale";

/// Sends requests through another client, as the leader of one epoch.
#[derive(Clone)]
pub struct FencedClient {
    client: kube::Client,
    epoch: HeaderValue,
    lost: CancellationToken,
}

impl FencedClient {
    /// Wraps `client`; `lost` is cancelled when the server refuses a write because somebody else leads by now.
    pub fn wrap(client: kube::Client, fence: &str, epoch: u64, lost: CancellationToken) -> kube::Client {
        let namespace = client.default_namespace().to_owned();
        // Names of fences are plain text; should one not be, the server refuses the request for want of a fence.
        let epoch = HeaderValue::from_str(&format!("{fence}/{epoch}")).unwrap_or(HeaderValue::from_static("none"));
        kube::Client::new(Self { client, epoch, lost }, namespace)
    }
}

impl fmt::Debug for FencedClient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("FencedClient").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

impl Service<Request<Body>> for FencedClient {
    type Response = Response<Body>;
    type Error = kube::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, kube::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), kube::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        request.headers_mut().insert(FENCE, self.epoch.clone());
        let (client, lost) = (self.client.clone(), self.lost.clone());
        async move {
            let response = client.send(request).await?;
            if response.headers().get(FENCE).is_some_and(|value| value.as_bytes() == STALE) {
                lost.cancel();
            }
            Ok(response)
        }
        .boxed()
    }
}
