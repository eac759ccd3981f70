//! Accepting connections and serving HTTP on them until the server leaves.

use std::{convert::Infallible, io, net::IpAddr, sync::Arc, time::Duration};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::peers::{CONNECTIONS_MAX, Peers, Place};
use crate::{
    authn,
    front::{Body, Caller, Front, Peer},
    request::User,
};

/// A client that has not finished its handshake, its first request's headers or any later request's headers (HTTP/1)
/// by then is dropped (slowloris).
const PATIENCE: Duration = Duration::from_secs(10);
/// Requests at once on one HTTP/2 connection: client-go multiplexes all its watches over one.
const STREAMS_MAX: u32 = 1000;
/// Exec requests carry whole command lines in their URL.
const HEADERS_BYTES_MAX: u32 = 64 << 10;
/// A peer that does not answer a ping for `PING_PATIENCE` is gone.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_PATIENCE: Duration = Duration::from_secs(15);
/// Pause after a failed accept (out of file descriptors): long enough not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A byte stream with a client at its other end.
pub(super) trait Connection: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Connection for T {}

/// Everything an accept loop needs.
#[derive(Clone)]
pub(super) struct Acceptor {
    tls: TlsAcceptor,
    front: Arc<Front>,
    slots: Arc<Semaphore>,
    peers: Peers,
    tasks: TaskTracker,
    /// Stop accepting, finish what is in flight.
    leaving: CancellationToken,
    /// Drop what is still open.
    abort: CancellationToken,
}

impl Acceptor {
    pub(super) fn new(
        tls: Arc<ServerConfig>,
        front: Arc<Front>,
        tasks: TaskTracker,
        leaving: CancellationToken,
        abort: CancellationToken,
    ) -> Self {
        let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        Self { tls: tls.into(), front, slots, peers: Peers::default(), tasks, leaving, abort }
    }

    /// Accepts until the server leaves.
    pub(super) async fn run(self, listener: TcpListener) {
        loop {
            let Ok(slot) = Arc::clone(&self.slots).acquire_owned().await else { return };
            tokio::select! {
                () = self.leaving.cancelled() => return, // cancel-safe: a token stays cancelled
                accepted = listener.accept() => match accepted { // cancel-safe: documented so
                    Ok((stream, peer)) => match stream.set_nodelay(true) {
                        Ok(()) => self.admit(stream, peer.ip(), slot),
                        Err(error) => tracing::debug!(%peer, %error, "the peer has gone already"),
                    },
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }

    fn admit<T: Connection>(&self, stream: T, address: IpAddr, slot: OwnedSemaphorePermit) {
        match self.peers.enter_address(address) {
            Some(place) => self.spawn(stream, Some(address), (slot, Some(place))),
            None => tracing::debug!(%address, "connection refused: the peer has too many"),
        }
    }

    /// Serves one connection that somebody else accepted, unless too many are served.
    pub(super) fn serve<T: Connection>(self, stream: T) {
        if let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() {
            self.spawn(stream, None, (slot, None));
        }
    }

    fn spawn<T: Connection>(
        &self,
        stream: T,
        peer: Option<IpAddr>,
        (slot, place): (OwnedSemaphorePermit, Option<Place>),
    ) {
        let acceptor = self.clone();
        self.tasks.spawn(async move {
            let _slot = slot;
            let abort = acceptor.abort.clone();
            tokio::select! {
                () = abort.cancelled() => {} // cancel-safe: a token stays cancelled
                () = acceptor.connection(stream, peer, place) => {} // not resumed: dropping it closes the connection
            }
        });
    }

    async fn connection<T: Connection>(self, stream: T, peer: Option<IpAddr>, mut place: Option<Place>) {
        let stream = match self.handshake(stream).await {
            Ok(stream) => stream,
            Err(error) => {
                tracing::debug!(%error, "handshake failed");
                return;
            }
        };
        let Ok(user) = peer_user(&stream) else {
            tracing::debug!("client certificate does not name a user");
            return;
        };
        if let Some(user) = &user {
            let Some(own) = self.peers.enter_user(user) else {
                tracing::debug!(user.name, "connection refused: the user has too many");
                return;
            };
            place = Some(own);
        }
        self.answer(stream, peer, Caller::Connection(user.map(Arc::new))).await;
        drop(place);
    }

    async fn answer<T: Connection>(self, stream: TlsStream<T>, peer: Option<IpAddr>, caller: Caller) {
        let front = Arc::clone(&self.front);
        let asked = CancellationToken::new();
        let first = asked.clone();
        let service = service_fn(move |mut request: http::Request<hyper::body::Incoming>| {
            first.cancel();
            peer.map(|peer| request.extensions_mut().insert(Peer(peer)));
            let (front, caller) = (Arc::clone(&front), caller.clone());
            async move { Ok::<_, Infallible>(front.serve(caller, request.map(Body::new)).await) }
        });
        let builder = builder();
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        tokio::pin!(connection);
        tokio::select! {
            _ = connection.as_mut() => return, // the client is gone, in whatever manner
            () = stays_silent(&asked) => return, // not resumed: dropping it closes the connection
            () = self.leaving.cancelled() => connection.as_mut().graceful_shutdown(), // cancel-safe
        }
        if let Err(error) = connection.await {
            tracing::debug!(error, "connection ended badly");
        }
    }

    async fn handshake<T: Connection>(&self, stream: T) -> io::Result<TlsStream<T>> {
        timeout(PATIENCE, self.tls.accept(stream)).await?
    }
}

/// Resolves when no request has come within [`PATIENCE`]: before the first one, HTTP knows no time limit of its own.
async fn stays_silent(asked: &CancellationToken) {
    if timeout(PATIENCE, asked.cancelled()).await.is_ok() {
        std::future::pending::<()>().await;
    }
}

/// Returns the user of a client certificate, `None` without one.
fn peer_user<T>(stream: &TlsStream<T>) -> Result<Option<User>, ()> {
    let Some(certificate) = stream.get_ref().1.peer_certificates().and_then(<[_]>::first) else { return Ok(None) };
    authn::user_of(certificate).map(Some).ok_or(())
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADERS_BYTES_MAX)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_PATIENCE);
    builder
}
