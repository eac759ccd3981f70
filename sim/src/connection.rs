//! Real connections in the full simulation: HTTP/2 over TLS with client certificates over a simulated link.

use std::{
    io,
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime},
};

use drover_apiserver::pki::{Identity, Pki, server_names};
use http::{Request, Response, Uri, uri::PathAndQuery};
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use kube::client::Body as ClientBody;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream},
    sync::Mutex,
    time::Instant,
};
use tokio_rustls::TlsConnector;

use crate::{
    faults::Part,
    link::Link,
    schedule::NODES_MAX,
    transport::Broken,
    wire::{Life, Wire},
};

/// Bytes that are on their way at most, as in a socket's buffer.
const BUFFER_BYTES: usize = 256 << 10;
/// What one wake of the link carries.
const CHUNK_BYTES: usize = 32 << 10;
/// As clients of Kubernetes do: a peer that is silent for this long is gone.
const PING_EVERY: Duration = Duration::from_secs(15);

/// The keys of all simulated clusters: made once a process, because they decide nothing.
struct Keys {
    pki: Arc<Pki>,
    nodes: Vec<(String, Identity)>,
    _directory: tempfile::TempDir,
}

/// Returns the keys of the simulated server.
pub(crate) fn pki() -> Arc<Pki> {
    Arc::clone(&keys().pki)
}

/// The names of the nodes with the keys that their hosts have.
pub(crate) fn nodes() -> &'static [(String, Identity)] {
    &keys().nodes
}

fn keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(|| {
        let directory = tempfile::tempdir().expect("a temporary folder can be made");
        let names = server_names([]);
        let pki = Pki::open(&directory.path().join("pki"), &names, SystemTime::now()).expect("keys can be made");
        let node = |index| {
            let name = format!("n{index}");
            let identity = pki.issue_node_certificate(&name, SystemTime::now());
            (name, identity.expect("the names of simulated nodes can stand in a certificate"))
        };
        let nodes = (0..NODES_MAX).map(node).collect();
        Keys { pki: Arc::new(pki), nodes, _directory: directory }
    })
}

/// One life's connection to whichever server answers; made anew when it breaks.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    tls: Arc<ClientConfig>,
    open: Arc<Mutex<Option<http2::SendRequest<ClientBody>>>>,
}

impl Connection {
    /// Prepares the connection of a part.
    pub(crate) fn of(part: Part) -> Self {
        Self { tls: Arc::new(tls_of(part)), open: Arc::default() }
    }

    /// Sends a request over the connection, opening it first where there is none.
    pub(crate) async fn send(
        &self,
        wire: &Wire,
        life: &Life,
        request: Request<ClientBody>,
    ) -> Result<Response<Incoming>, Broken> {
        let mut sender = self.sender(wire, life).await?;
        let sent = sender.send_request(absolute(request)).await;
        if sent.is_err() {
            // Whoever comes next opens another one.
            *self.open.lock().await = None;
        }
        sent.map_err(|_| Broken::Reset)
    }

    async fn sender(&self, wire: &Wire, life: &Life) -> Result<http2::SendRequest<ClientBody>, Broken> {
        let mut open = self.open.lock().await;
        if let Some(sender) = open.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        let stream = dial(wire, life).ok_or(Broken::Refused)?;
        let name = ServerName::try_from("localhost").map_err(|_| Broken::Refused)?;
        let connect = TlsConnector::from(Arc::clone(&self.tls)).connect(name, stream);
        let stream = tokio::time::timeout(PING_EVERY, connect).await;
        let stream = stream.map_err(|_| Broken::Reset)?.map_err(|_| Broken::Reset)?;
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new()).keep_alive_interval(PING_EVERY).keep_alive_timeout(PING_EVERY);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(|_| Broken::Reset)?;
        tokio::spawn(connection);
        *open = Some(sender.clone());
        Ok(sender)
    }
}

/// Joins the part with the server that answers now by two pumps, one each way.
fn dial(wire: &Wire, life: &Life) -> Option<DuplexStream> {
    let (server, server_life) = wire.server()?;
    let (client_end, client_far) = tokio::io::duplex(BUFFER_BYTES);
    let (server_end, server_far) = tokio::io::duplex(BUFFER_BYTES);
    let (client_in, client_out) = tokio::io::split(client_far);
    let (server_in, server_out) = tokio::io::split(server_far);
    let lives = [life.clone(), server_life];
    tokio::spawn(pump(wire.clone(), lives.clone(), Link::requests_blocked, client_in, server_out));
    tokio::spawn(pump(wire.clone(), lives, Link::replies_blocked, server_in, client_out));
    server.connect(server_end);
    Some(client_end)
}

/// Carries bytes one way for as long as both ends live, as fast as the link lets them.
async fn pump(
    wire: Wire,
    lives: [Life; 2],
    blocked: fn(&Link, Instant) -> Option<Instant>,
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    let part = lives[0].part;
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let read = tokio::select! {
            biased;
            // Cancel-safe: the bytes of a dead end are nobody's.
            () = lives[0].over() => return Ok(()),
            () = lives[1].over() => return Ok(()),
            read = from.read(&mut buffer) => read?,
        };
        if read == 0 || !wire.travel(part, blocked).await {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..read]).await?;
    }
}

/// A client speaks to the server by its name.
fn absolute(mut request: Request<ClientBody>) -> Request<ClientBody> {
    let path = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let uri = Uri::builder().scheme("https").authority("localhost:6443").path_and_query(path).build();
    *request.uri_mut() = uri.unwrap_or_default();
    request
}

fn tls_of(part: Part) -> ClientConfig {
    let pki = pki();
    let identity = match part {
        Part::Agent(node) => &nodes()[node].1,
        Part::Server | Part::Controllers(_) | Part::User => pki.admin(),
    };
    client_config(pki.ca_pem(), identity).expect("our own keys are good")
}

fn client_config(ca_pem: &str, identity: &Identity) -> Result<ClientConfig, Box<dyn std::error::Error>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes())?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(
            vec![CertificateDer::from_pem_slice(identity.certificate_pem.as_bytes())?],
            PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes())?,
        )?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}
