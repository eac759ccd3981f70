//! A fake agent: serves HTTP/2 on its end of a byte stream, as the real one does.

use std::{convert::Infallible, sync::Arc};

use futures::future::BoxFuture;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::front::{Body, Response};

/// What the agent answers.
pub(crate) type Handler = Arc<dyn Fn(http::Request<Incoming>) -> BoxFuture<'static, Response> + Send + Sync>;

/// Serves until the stream ends.
pub(crate) fn serve<T>(io: T, handler: Handler) -> tokio::task::JoinHandle<()>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    tokio::spawn(async move {
        let service = service_fn(move |request| {
            let answer = handler(request);
            async move { Ok::<_, Infallible>(answer.await) }
        });
        let connection =
            hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(io), service);
        // A test ends connections in every manner.
        drop(connection.await);
    })
}

/// Answers every request with a text.
pub(crate) fn says(text: &'static str) -> Handler {
    Arc::new(move |_| Box::pin(async move { Response::new(Body::from(text)) }))
}
