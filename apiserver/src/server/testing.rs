//! A server for tests: real TLS on a port of the system's choice, a memory-only store.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::sync::CancellationToken;

use super::{Config, Handle, start};
use crate::{
    audit::{FileSink, Limits},
    pki::Identity,
    volatile::Volatile,
};

/// A running server and what ends it.
pub(crate) struct TestServer {
    pub(crate) handle: Handle,
    pub(crate) shutdown: CancellationToken,
    pub(crate) data_dir: tempfile::TempDir,
}

/// A response, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Bytes,
}

impl TestServer {
    pub(crate) async fn start() -> Self {
        Self::start_on(Arc::new(Volatile::new(1, Vec::new())), tempfile::tempdir().unwrap()).await
    }

    /// Starts on a store and a data directory, with an audit log.
    pub(crate) async fn start_on(backend: Arc<dyn drover_store::Backend>, data_dir: tempfile::TempDir) -> Self {
        Self::start_with(data_dir, backend, false).await.unwrap()
    }

    /// Starts on a directory and a store that others may use.
    pub(crate) async fn start_with(
        data_dir: tempfile::TempDir,
        backend: Arc<dyn drover_store::Backend>,
        shared: bool,
    ) -> Result<Self, super::Error> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut config = Config::new(data_dir.path().to_owned(), vec![listener], backend);
        config.shared = shared;
        config.audit = Some(Box::new(FileSink::new(Limits::new(data_dir.path().join("audit")))));
        let shutdown = CancellationToken::new();
        let handle = start(config, shutdown.clone()).await?;
        Ok(Self { handle, shutdown, data_dir })
    }

    /// Reads the administrator's identity out of the kubeconfig, as a client would.
    pub(crate) fn admin(&self) -> Identity {
        let text = std::fs::read_to_string(&self.handle.admin_kubeconfig).unwrap();
        let config: Value = serde_saphyr::from_str(&text).unwrap();
        let pem = |key: &str| {
            let encoded = config["users"][0]["user"][key].as_str().unwrap();
            String::from_utf8(STANDARD.decode(encoded).unwrap()).unwrap()
        };
        Identity { certificate_pem: pem("client-certificate-data"), key_pem: pem("client-key-data") }
    }

    pub(crate) fn address(&self) -> String {
        self.handle.url.trim_start_matches("https://").to_owned()
    }

    /// Opens a TLS connection.
    pub(crate) async fn connect(
        &self,
        identity: Option<&Identity>,
        alpn: &str,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.handle.ca_pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => builder
                .with_client_auth_cert(
                    vec![CertificateDer::from_pem_slice(identity.certificate_pem.as_bytes()).unwrap()],
                    PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).unwrap(),
                )
                .unwrap(),
        };
        config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        let stream = TcpStream::connect(self.address()).await?;
        TlsConnector::from(Arc::new(config)).connect("localhost".try_into().unwrap(), stream).await
    }

    /// Sends one request over HTTP/2.
    pub(crate) async fn send(&self, identity: Option<&Identity>, request: http::Request<Full<Bytes>>) -> Answer {
        let stream = self.connect(identity, "h2").await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
        Answer { code: parts.status.as_u16(), headers: parts.headers, body: body.collect().await.unwrap().to_bytes() }
    }

    /// Sends a GET.
    pub(crate) async fn get(&self, identity: Option<&Identity>, path: &str) -> Answer {
        self.send(identity, self.request("GET", path, "")).await
    }

    /// Sends a JSON body.
    pub(crate) async fn post(&self, identity: Option<&Identity>, path: &str, body: &Value) -> Answer {
        self.send(identity, self.request("POST", path, body.to_string())).await
    }

    /// Builds a request.
    pub(crate) fn request(&self, method: &str, path: &str, body: impl Into<Bytes>) -> http::Request<Full<Bytes>> {
        http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.handle.url))
            .header("content-type", "application/json")
            .body(Full::new(body.into()))
            .unwrap()
    }

    /// Ends the server.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.handle.join().await;
    }
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}
