//! Answering other servers.

use std::{convert::Infallible, sync::Arc};

use drover_api::status::ApiError;
use drover_store::{Backend, Error, Range};
use futures::StreamExt;
use http::{HeaderName, HeaderValue, Method};
use http_body_util::{BodyExt, Limited};

use super::{
    PATH, Servers,
    remote::VOLATILE,
    wire::{self, Call, Reply},
};
use crate::{
    front::{Body, Caller, Request, Response, text_response},
    request::RequestInfo,
    volatile::kept::Kept,
};

/// Names the server that answers.
pub(super) const SERVER_HEADER: HeaderName = HeaderName::from_static("drover-server");
/// A call with its largest object, escaped, fits.
const CALL_BYTES_MAX: usize = 16 << 20;

impl Servers {
    /// Answers a request of another server.
    ///
    /// # Errors
    /// 403 for anybody else, 404 for a path that is not served, 400 for a call that makes no sense, and what the
    /// agent of a node answers.
    pub(crate) async fn answer(
        self: &Arc<Self>,
        caller: &Caller,
        info: &RequestInfo,
        request: Request,
    ) -> Result<Response, ApiError> {
        let is_server = match caller {
            Caller::Connection(Some(user)) => Self::is_server(user),
            Caller::Connection(None) | Caller::Local(_) => false,
        };
        if !is_server {
            return Err(ApiError::new(403, "Forbidden", "only servers of this cluster may ask here"));
        }
        let place = info.path.strip_prefix(PATH).unwrap_or_default();
        let mut response = match (request.method(), place.split_once('/')) {
            (&Method::GET, None) if place == "ping" => text_response(200, "ok"),
            (&Method::POST, None) if place == VOLATILE => self.volatile_call(request).await?,
            (_, Some(("nodes", _))) => self.answer_for_agent(request).await?,
            _ => return Err(ApiError::new(404, "NotFound", "servers are not asked that")),
        };
        if let Ok(id) = HeaderValue::from_str(&self.me.id) {
            response.headers_mut().insert(SERVER_HEADER, id);
        }
        Ok(response)
    }

    async fn volatile_call(&self, request: Request) -> Result<Response, ApiError> {
        let body = Limited::new(request.into_body(), CALL_BYTES_MAX).collect().await;
        let body = body.map_err(|_| ApiError::bad_request("the call broke off or is too large"))?.to_bytes();
        let call = serde_json::from_slice(&body).map_err(|error| ApiError::bad_request(error.to_string()))?;
        // Never passed on: two servers that take each other for the owner must not ask in circles.
        let Some((epoch, store)) = self.shared.own() else {
            let failure = Error::Unavailable("this server does not own Leases and Events".to_owned());
            return Ok(text_response(200, wire::line(&Reply::Failed(failure.into()))));
        };
        if let Call::Changes { prefix, after } = &call {
            return Ok(self.stream(&store, epoch, prefix, *after).await);
        }
        let reply = answer(&store, call).await.unwrap_or_else(|error| Reply::Failed(error.into()));
        Ok(text_response(200, wire::line(&reply)))
    }

    async fn stream(&self, store: &Kept, epoch: u64, prefix: &str, after: u64) -> Response {
        let changes = match store.changes(prefix.as_bytes(), after).await {
            Ok(changes) => self.shared.until_moved(epoch, changes),
            Err(error) => return text_response(200, wire::line(&Reply::Failed(error.into()))),
        };
        let batches = changes.map(|item| match item {
            Ok(changes) => wire::line(&Reply::from(changes)),
            Err(error) => wire::line(&Reply::Failed(error.into())),
        });
        let lines = futures::stream::once(async { wire::line(&Reply::Open) }).chain(batches);
        text_response(200, Body::from_stream(lines.map(Ok::<_, Infallible>)))
    }
}

async fn answer(store: &Kept, call: Call) -> Result<Reply, Error> {
    Ok(match call {
        Call::Get(key) => Reply::Found(store.get(key.as_bytes()).await?.map(Into::into)),
        Call::Range { prefix, after, limit, at } => {
            store.range(Range { prefix: prefix.into(), after: after.into(), limit, at }).await?.into()
        }
        Call::Commit { compares, writes } => store.commit(wire::transaction(compares, writes)).await?.into(),
        Call::Revision => Reply::Revision(store.revision().await?),
        Call::Changes { .. } => Reply::Open,
    })
}
