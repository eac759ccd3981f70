//! Connections to whichever server answers.

use std::{
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::Server;
use crate::seams::{TunnelDialer, TunnelIo};

/// A server that takes longer than this to shake hands is not one to wait for while there are others.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// After this a connection is tried anew: the kernel asks after 1 s, 3 s and 7 s, and a link that is healed meanwhile would
/// be noticed seconds later.
const CONNECT: Duration = Duration::from_secs(2);
/// A server that takes longer than this to take a tunnel is not one to wait for.
const UPGRADE: Duration = Duration::from_secs(15);
/// An error's text is shown, not stored.
const ERROR_BYTES_MAX: usize = 4096;

/// Dials the servers in turn, beginning with the one that answered last.
#[derive(Clone)]
pub struct Dialer {
    servers: Arc<[Server]>,
    tls: Arc<ClientConfig>,
    good: Arc<AtomicUsize>,
}

impl fmt::Debug for Dialer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Dialer").field("servers", &self.servers).finish_non_exhaustive()
    }
}

impl Dialer {
    pub(super) fn new(servers: &[Server], tls: ClientConfig) -> Self {
        Self { servers: servers.into(), tls: Arc::new(tls), good: Arc::new(AtomicUsize::new(0)) }
    }

    /// Opens a connection to the first server that answers.
    ///
    /// # Errors
    /// What each of them said.
    pub(super) async fn connect(&self) -> io::Result<(TlsStream<TcpStream>, Server)> {
        let first = self.good.load(Ordering::Relaxed);
        let mut said = Vec::new();
        for index in (0..self.servers.len()).map(|offset| (first + offset) % self.servers.len()) {
            let server = &self.servers[index];
            match timeout(HANDSHAKE, self.shake_hands(server)).await {
                Ok(Ok(stream)) => {
                    self.good.store(index, Ordering::Relaxed);
                    return Ok((stream, server.clone()));
                }
                Ok(Err(error)) => said.push(format!("{server}: {error}")),
                Err(_elapsed) => said.push(format!("{server}: no answer in {} s", HANDSHAKE.as_secs())),
            }
        }
        Err(io::Error::other(said.join("; ")))
    }

    async fn shake_hands(&self, server: &Server) -> io::Result<TlsStream<TcpStream>> {
        let stream = loop {
            // Whoever calls bounds all tries together.
            if let Ok(connected) = timeout(CONNECT, TcpStream::connect((server.host.as_str(), server.port))).await {
                break connected?;
            }
        };
        stream.set_nodelay(true)?;
        TlsConnector::from(Arc::clone(&self.tls)).connect(server.name.clone(), stream).await
    }
}

/// Dials tunnels: TLS, then an upgrade of HTTP/1.1.
#[derive(Debug)]
pub struct TlsTunnelDialer {
    dialer: Dialer,
    node: String,
}

impl TlsTunnelDialer {
    pub(super) fn new(dialer: Dialer, node: &str) -> Self {
        Self { dialer, node: node.to_owned() }
    }

    async fn upgrade(&self) -> io::Result<Box<dyn TunnelIo>> {
        let (stream, server) = self.dialer.connect().await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        // The connection's task ends when the upgrade takes the stream over, or with an error that the request shows.
        let connection = tokio::spawn(connection.with_upgrades());
        let response = sender.send_request(self.request(&server)?).await.map_err(io::Error::other)?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let status = response.status();
            let body = Limited::new(response.into_body(), ERROR_BYTES_MAX).collect().await;
            let text = body.map(|body| String::from_utf8_lossy(&body.to_bytes()).into_owned()).unwrap_or_default();
            connection.abort();
            return Err(io::Error::other(format!("the server answered {status}: {}", text.trim())));
        }
        let upgraded = hyper::upgrade::on(response).await.map_err(io::Error::other)?;
        Ok(Box::new(TokioIo::new(upgraded)))
    }

    fn request(&self, server: &Server) -> io::Result<Request<Empty<bytes::Bytes>>> {
        Request::post(format!("/apis/drover.dev/v1alpha1/nodes/{}/tunnel", self.node))
            .header(header::HOST, server.authority())
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "drover-tunnel")
            .header(header::CONTENT_LENGTH, "0")
            .body(Empty::new())
            .map_err(io::Error::other)
    }
}

#[async_trait]
impl TunnelDialer for TlsTunnelDialer {
    async fn dial(&self) -> io::Result<Box<dyn TunnelIo>> {
        let upgraded = timeout(UPGRADE, self.upgrade()).await;
        upgraded.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "the server did not answer in time")))
    }
}
