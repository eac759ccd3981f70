//! The in-process transport: the same door as the sockets', for components that live in this process.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use tower::Service;

use crate::{
    front::{Body, Caller, Front, Response},
    request::User,
};

/// A client's end of the in-process transport. Everything but protocol upgrades works as over a socket; the identity
/// is fixed, whatever headers a request carries.
#[derive(Clone)]
pub struct LocalService {
    front: Arc<Front>,
    user: Arc<User>,
}

impl LocalService {
    pub(super) fn new(front: Arc<Front>, user: User) -> Self {
        Self { front, user: Arc::new(user) }
    }
}

impl std::fmt::Debug for LocalService {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("LocalService").field("user", &self.user.name).finish_non_exhaustive()
    }
}

impl<B> Service<http::Request<B>> for LocalService
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let caller = Caller::Local(Arc::clone(&self.user));
        Arc::clone(&self.front).serve(caller, request.map(Body::new)).map(Ok).boxed()
    }
}
