//! A client's transport: the server's in-process door behind a link that fails as its part's link does.

use std::task::{Context, Poll};

use bytes::Bytes;
use drover_apiserver::request::User;
use futures::{FutureExt, future::BoxFuture};
use futures::{StreamExt, stream::BoxStream};
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use kube::client::Body as ClientBody;
use tower::{Service, ServiceExt};

use crate::{
    connection::Connection,
    link::{Link, Point},
    watch_body::{self, WatchBody},
    wire::{Life, Wire},
};

/// Why a request has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// Nobody listens.
    Refused,
    /// The connection broke; whether the request was carried out is unknown.
    Reset,
}

impl std::fmt::Display for Broken {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Refused => "connection refused",
            Self::Reset => "connection reset",
        })
    }
}

impl std::error::Error for Broken {}

/// One life's connection to the server.
#[derive(Debug, Clone)]
pub(crate) struct Transport {
    wire: Wire,
    life: Life,
    user: User,
    /// Bytes on a simulated network in the full simulation; the server's in-process door otherwise.
    connection: Option<Connection>,
}

/// The bytes of an answer as they arrive.
type Bytestream = BoxStream<'static, Result<Bytes, Broken>>;

impl Transport {
    /// Connects one life of a part, as `user`.
    pub(crate) fn new(wire: Wire, life: Life, user: User) -> Self {
        let connection = wire.is_full().then(|| Connection::of(life.part));
        Self { wire, life, user, connection }
    }

    /// Returns a client over this transport.
    pub(crate) fn client(self) -> kube::Client {
        kube::Client::new(self, "default")
    }

    async fn send(self, request: Request<ClientBody>) -> Result<Response<WatchBody>, Broken> {
        let Self { wire, life, user, connection } = self;
        let part = life.part;
        if life.is_over() {
            return life.hold().await;
        }
        tracing::trace!(?part, method = %request.method(), uri = %request.uri(), "request");
        let is_watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
        let is_write = request.method() != Method::GET;
        let fate = wire.fate(part, is_write);
        let crash_at = |point: Point| fate.crash.filter(|(at, _)| *at == point).map(|(_, down)| down);
        if let Some(down) = crash_at(Point::Before) {
            wire.crash(&life, down);
            return life.hold().await;
        }
        // Bytes on a connection meet the link's faults on their own way.
        if connection.is_none() && !wire.travel(part, Link::requests_blocked).await {
            return Err(Broken::Reset);
        }
        let Some((server, server_life)) = wire.server() else { return Err(Broken::Refused) };
        if is_watch && wire.link(part, |link| link.forgets(tokio::time::Instant::now())) {
            return Ok(watch_body::gone());
        }
        let answer = async {
            let Some(connection) = &connection else {
                let answer = server.local_service(user).oneshot(request).await;
                return Ok(answer.unwrap_or_else(|never| match never {}).map(|body| arriving(body.into_data_stream())));
            };
            let answer = connection.send(&wire, &life, request).await?;
            Ok(answer.map(|body| arriving(body.into_data_stream())))
        };
        let response = tokio::select! {
            biased;
            // Cancel-safe: a request that is dropped is what a broken connection leaves on a server.
            () = server_life.over() => return Err(Broken::Reset),
            answer = answer => answer?,
        };
        if let Some(down) = crash_at(Point::AfterEffect) {
            wire.crash(&life, down);
            return life.hold().await;
        }
        if fate.lose_reply {
            tokio::time::sleep(crate::wire::SILENCE_MAX).await;
            return Err(Broken::Reset);
        }
        let arrived = connection.is_some() || wire.travel(part, Link::replies_blocked).await;
        if !arrived || server_life.is_over() {
            return Err(Broken::Reset);
        }
        if life.is_over() {
            return life.hold().await;
        }
        if let Some(down) = crash_at(Point::AfterReply) {
            wire.crash(&life, down);
            return life.hold().await;
        }
        Ok(response.map(|body| WatchBody::new(body, is_watch, wire, life, server_life)))
    }
}

fn arriving<E>(body: impl futures::Stream<Item = Result<Bytes, E>> + Send + 'static) -> Bytestream {
    body.map(|chunk| chunk.map_err(|_| Broken::Reset)).boxed()
}

impl Service<Request<ClientBody>> for Transport {
    type Response = Response<WatchBody>;
    type Error = Broken;
    type Future = BoxFuture<'static, Result<Response<WatchBody>, Broken>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<ClientBody>) -> Self::Future {
        self.clone().send(request).boxed()
    }
}
