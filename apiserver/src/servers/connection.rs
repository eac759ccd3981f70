//! One connection to another server: HTTP/2 over TLS, dialled when it is needed and again when it is lost.

use std::{fmt, io, sync::Arc, time::Duration};

use hyper::{body::Incoming, client::conn::http2::SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use tokio::{net::TcpStream, sync::Mutex, time::timeout};
use tokio_rustls::TlsConnector;

use super::{ServerRecord, serve::SERVER_HEADER};
use crate::{
    front::{Body, Request},
    pki::Identity,
};

/// A server in the same cluster is reached within this time, or not at all.
const DIAL_PATIENCE: Duration = Duration::from_secs(1);
/// A server that vanished or was paused is noticed after both together, and what hangs on the connection ends.
const PING_EVERY: Duration = Duration::from_secs(1);
const PING_PATIENCE: Duration = Duration::from_millis(1500);
/// Every server's certificate has this name, so that its address need not stand in it.
const NAME: &str = "kubernetes.default.svc";

/// Why another server could not be asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// No connection.
    #[error("cannot connect to server {id}")]
    Connect {
        id: String,
        #[source]
        source: io::Error,
    },
    /// Our own certificate cannot be used.
    #[error("cannot use our certificate")]
    Certificate(#[source] rustls::Error),
    /// The connection broke.
    #[error("the connection to server {id} broke")]
    Broken {
        id: String,
        #[source]
        source: hyper::Error,
    },
    /// Somebody else is at the address now.
    #[error("server {id} is not at its address any more")]
    Stranger { id: String },
}

/// Makes connections as this server.
pub(crate) struct Dialer {
    ca: CertificateDer<'static>,
    /// A fresh client certificate for each connection: none can grow old.
    identity: Box<dyn Fn() -> Option<Identity> + Send + Sync>,
}

impl fmt::Debug for Dialer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Dialer").finish_non_exhaustive()
    }
}

impl Dialer {
    /// Trusts `ca` alone; `identity` issues this server's client certificate.
    pub(crate) fn new(
        ca: CertificateDer<'static>,
        identity: impl Fn() -> Option<Identity> + Send + Sync + 'static,
    ) -> Self {
        Self { ca, identity: Box::new(identity) }
    }

    fn config(&self) -> Result<ClientConfig, rustls::Error> {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.clone())?;
        let unusable = || rustls::Error::General("no client certificate".to_owned());
        let identity = (self.identity)().ok_or_else(unusable)?;
        let certificate =
            CertificateDer::from_pem_slice(identity.certificate_pem.as_bytes()).map_err(|_| unusable())?;
        let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).map_err(|_| unusable())?;
        let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![certificate], key)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }
}

/// Another server.
#[derive(Debug)]
pub(super) struct Peer {
    record: ServerRecord,
    dialer: Arc<Dialer>,
    sender: Mutex<Option<SendRequest<Body>>>,
}

impl Peer {
    pub(super) fn new(record: ServerRecord, dialer: Arc<Dialer>) -> Self {
        Self { record, dialer, sender: Mutex::new(None) }
    }

    pub(super) fn record(&self) -> &ServerRecord {
        &self.record
    }

    /// Asks whether the server is there and is who it should be.
    pub(super) async fn ping(&self) -> Result<(), Error> {
        self.send(request(http::Method::GET, "ping", Body::empty())).await.map(drop)
    }

    /// Sends a request and returns the answer, which is that server's for certain.
    pub(super) async fn send(&self, request: Request) -> Result<http::Response<Incoming>, Error> {
        let id = || self.record.id.clone();
        let mut sender = self.sender().await?;
        let response = sender.send_request(request).await.map_err(|source| Error::Broken { id: id(), source })?;
        let named =
            response.headers().get(SERVER_HEADER).is_some_and(|name| name.as_bytes() == self.record.id.as_bytes());
        if named { Ok(response) } else { Err(Error::Stranger { id: id() }) }
    }

    async fn sender(&self) -> Result<SendRequest<Body>, Error> {
        let mut sender = self.sender.lock().await;
        if let Some(open) = sender.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(open.clone());
        }
        let config = self.dialer.config().map_err(Error::Certificate)?;
        let dialled = timeout(DIAL_PATIENCE, dial(&self.record, config)).await;
        let dialled = dialled.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let fresh = dialled.map_err(|source| Error::Connect { id: self.record.id.clone(), source })?;
        *sender = Some(fresh.clone());
        Ok(fresh)
    }
}

async fn dial(record: &ServerRecord, config: ClientConfig) -> io::Result<SendRequest<Body>> {
    let name = ServerName::try_from(NAME).map_err(io::Error::other)?;
    let tcp = TcpStream::connect(record.address).await?;
    tcp.set_nodelay(true)?;
    let tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await?;
    let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_PATIENCE)
        .keep_alive_while_idle(true)
        .handshake(TokioIo::new(tls))
        .await
        .map_err(io::Error::other)?;
    let id = record.id.clone();
    // Ends by itself when the last sender is gone or the other server is.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(server.id = %id, %error, "connection to another server ended");
        }
    });
    Ok(sender)
}

/// Builds a request to another server; `path` follows [`super::PATH`].
pub(super) fn request(method: http::Method, path: &str, body: Body) -> Request {
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = format!("https://{NAME}{}{path}", super::PATH)
        .parse()
        .expect("paths between servers are made of names and percent-encoded text");
    request
}
