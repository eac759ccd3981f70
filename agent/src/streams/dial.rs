//! The two ways to a server: inside the process, and over TLS with an HTTP upgrade.

use std::{fmt, io, sync::Arc};

use async_trait::async_trait;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use tokio::{io::DuplexStream, net::TcpStream, time::Duration};
use tokio_rustls::TlsConnector;

use crate::seams::{TunnelDialer, TunnelIo};

/// What may lie between the two ends inside one process.
const DUPLEX_BYTES: usize = 256 * 1024;
/// A server that takes longer than this to answer is not one to wait for.
const DIAL_DEADLINE: Duration = Duration::from_secs(15);
/// An error's text is shown, not stored.
const ERROR_BYTES_MAX: usize = 4096;

type Accept = dyn Fn(DuplexStream) -> io::Result<()> + Send + Sync;

/// Dials a server in the same process.
pub struct InProcessDialer {
    accept: Box<Accept>,
}

impl InProcessDialer {
    /// Hands the far end of each dialled stream to `accept`, which must not block.
    pub fn new(accept: impl Fn(DuplexStream) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self { accept: Box::new(accept) }
    }
}

impl fmt::Debug for InProcessDialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InProcessDialer")
    }
}

#[async_trait]
impl TunnelDialer for InProcessDialer {
    async fn dial(&self) -> io::Result<Box<dyn TunnelIo>> {
        let (near, far) = tokio::io::duplex(DUPLEX_BYTES);
        (self.accept)(far)?;
        Ok(Box::new(near))
    }
}

/// Where and as whom to dial.
#[derive(Clone)]
pub struct TlsDialerConfig {
    /// `https://host:port`.
    pub server: String,
    /// The certificates of the only authority that is trusted, in PEM.
    pub ca_pem: Vec<u8>,
    /// The client's certificate chain and key, in PEM.
    pub identity_pem: Vec<u8>,
    /// The node's name.
    pub node: String,
}

impl fmt::Debug for TlsDialerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TlsDialerConfig({} as {})", self.server, self.node)
    }
}

/// Dials a server over TLS.
pub struct TlsDialer {
    host: String,
    port: u16,
    name: ServerName<'static>,
    node: String,
    tls: Arc<ClientConfig>,
}

/// Why a dialer cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The server's URL is not `https://host[:port]`.
    #[error("server {0:?} is not an https URL with a host")]
    Server(String),
    /// The node's name cannot stand in a path.
    #[error("node name {0:?} is not a DNS name")]
    Node(String),
    /// A PEM text holds no usable certificate or key.
    #[error("unreadable PEM")]
    Pem(#[source] rustls_pki_types::pem::Error),
    /// Certificate and key do not work together, or not with TLS.
    #[error("unusable certificate or key")]
    Tls(#[source] rustls::Error),
}

impl TlsDialer {
    /// Reads the configuration; dials nothing yet.
    ///
    /// # Errors
    /// A [`DialError`] that names the unusable part.
    pub fn new(config: TlsDialerConfig) -> Result<Self, DialError> {
        let TlsDialerConfig { server, ca_pem, identity_pem, node } = config;
        let invalid = || DialError::Server(server.clone());
        let uri: Uri = server.parse().map_err(|_| invalid())?;
        let host = uri.host().filter(|_| uri.scheme_str() == Some("https")).ok_or_else(invalid)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host.clone()).map_err(|_| invalid())?;
        if node.is_empty() || !node.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.')) {
            return Err(DialError::Node(node));
        }
        let tls = Arc::new(client_config(&ca_pem, &identity_pem)?);
        Ok(Self { host, port: uri.port_u16().unwrap_or(443), name, node, tls })
    }

    async fn connect(&self) -> io::Result<Box<dyn TunnelIo>> {
        let tcp = TcpStream::connect((self.host.as_str(), self.port)).await?;
        tcp.set_nodelay(true)?;
        let tls = TlsConnector::from(Arc::clone(&self.tls)).connect(self.name.clone(), tcp).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(tls)).await.map_err(io::Error::other)?;
        // The connection's task ends when the upgrade takes the stream over, or with an error that the request shows.
        let connection = tokio::spawn(connection.with_upgrades());
        let response = sender.send_request(self.request()?).await.map_err(io::Error::other)?;
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

    fn request(&self) -> io::Result<Request<Empty<bytes::Bytes>>> {
        let authority = if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        };
        Request::post(format!("/apis/drover.dev/v1alpha1/nodes/{}/tunnel", self.node))
            .header(header::HOST, authority)
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "drover-tunnel")
            .header(header::CONTENT_LENGTH, "0")
            .body(Empty::new())
            .map_err(io::Error::other)
    }
}

impl fmt::Debug for TlsDialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TlsDialer({}:{} as {})", self.host, self.port, self.node)
    }
}

#[async_trait]
impl TunnelDialer for TlsDialer {
    async fn dial(&self) -> io::Result<Box<dyn TunnelIo>> {
        let connected = tokio::time::timeout(DIAL_DEADLINE, self.connect()).await;
        connected.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "the server did not answer in time")))
    }
}

fn client_config(ca_pem: &[u8], identity_pem: &[u8]) -> Result<ClientConfig, DialError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem) {
        roots.add(certificate.map_err(DialError::Pem)?).map_err(DialError::Tls)?;
    }
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(identity_pem).collect();
    let key = PrivateKeyDer::from_pem_slice(identity_pem).map_err(DialError::Pem)?;
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(DialError::Tls)?;
    let builder = builder.with_root_certificates(roots);
    let mut config = builder.with_client_auth_cert(chain.map_err(DialError::Pem)?, key).map_err(DialError::Tls)?;
    // An upgrade exists in HTTP/1.1 only.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
