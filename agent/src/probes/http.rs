//! HTTP probes and hooks: one GET, no redirect followed, little of the body read.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::HTTPGetAction;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

/// What is read of a body at most (Kubernetes: 10 KiB).
const BODY_MAX: usize = 10 * 1024;

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpRequest {
    host: String,
    port: u16,
    path: String,
    tls: bool,
    headers: Vec<(String, String)>,
}

impl HttpRequest {
    /// The request of an `httpGet` to a host and port.
    pub fn new(get: &HTTPGetAction, host: String, port: u16) -> Self {
        let path = get.path.clone().unwrap_or_default();
        let path = if path.starts_with('/') { path } else { format!("/{path}") };
        let headers = get.http_headers.iter().flatten().map(|header| (header.name.clone(), header.value.clone()));
        Self { host, port, path, tls: get.scheme.as_deref() == Some("HTTPS"), headers: headers.collect() }
    }
}

/// Sends the request; 2xx and 3xx are success, as in Kubernetes.
///
/// # Errors
/// The sentence for the event.
pub async fn http_get(request: &HttpRequest, limit: Duration) -> Result<u16, String> {
    match tokio::time::timeout(limit, exchange(request)).await {
        Err(_) => Err(format!("Get \"{}\": context deadline exceeded", url(request))),
        Ok(Err(error)) => Err(format!("Get \"{}\": {error}", url(request))),
        Ok(Ok((code, _))) if (200..400).contains(&code) => Ok(code),
        Ok(Ok((code, _))) => Err(format!("HTTP probe failed with statuscode: {code}")),
    }
}

fn url(request: &HttpRequest) -> String {
    let scheme = if request.tls { "https" } else { "http" };
    format!("{scheme}://{}:{}{}", request.host, request.port, request.path)
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

async fn exchange(request: &HttpRequest) -> Result<(u16, usize), BoxError> {
    let stream = TcpStream::connect((request.host.as_str(), request.port)).await?;
    if !request.tls {
        return send(request, stream).await;
    }
    let name = rustls_pki_types::ServerName::try_from(request.host.clone())?;
    let connector = tokio_rustls::TlsConnector::from(tls_config()?);
    send(request, connector.connect(name, stream).await?).await
}

async fn send<S>(request: &HttpRequest, stream: S) -> Result<(u16, usize), BoxError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let mut builder = http::Request::get(&request.path);
    let given = |name: &str| request.headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(name));
    if !given("host") {
        builder = builder.header("host", format!("{}:{}", request.host, request.port));
    }
    if !given("user-agent") {
        builder = builder.header("user-agent", "kube-probe/1.33 drover");
    }
    builder = builder.header("connection", "close");
    for (name, value) in &request.headers {
        builder = builder.header(name, value);
    }
    let outcome = async {
        let mut response = sender.send_request(builder.body(Empty::<Bytes>::new())?).await?;
        let mut read = 0;
        while read < BODY_MAX
            && let Some(frame) = response.frame().await
        {
            read += frame?.data_ref().map_or(0, Bytes::len);
        }
        Ok((response.status().as_u16(), read))
    };
    let outcome = outcome.await;
    driver.abort();
    outcome
}

/// A probe speaks to whatever certificate the pod shows, as Kubernetes' probes do: it carries no secret and trusts no
/// answer.
fn tls_config() -> Result<Arc<rustls::ClientConfig>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Arc::new(AnyCertificate { provider: Arc::clone(&provider) });
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    Ok(Arc::new(config))
}

#[derive(Debug)]
struct AnyCertificate {
    provider: Arc<rustls::crypto::CryptoProvider>,
}

impl rustls::client::danger::ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &rustls_pki_types::CertificateDer<'_>,
        _intermediates: &[rustls_pki_types::CertificateDer<'_>],
        _server_name: &rustls_pki_types::ServerName<'_>,
        _ocsp_response: &[u8],
        _now: rustls_pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &rustls_pki_types::CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &rustls_pki_types::CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    async fn answer(text: &'static str) -> HttpRequest {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let port = listener.local_addr().expect("address").port();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("accept");
            let mut buffer = [0; 1024];
            let _ = stream.read(&mut buffer).await;
            let _ = stream.write_all(text.as_bytes()).await;
        });
        HttpRequest::new(&HTTPGetAction::default(), "127.0.0.1".to_owned(), port)
    }

    #[tokio::test]
    async fn redirects_are_success_and_are_not_followed() {
        let request = answer("HTTP/1.1 302 Found\r\nlocation: http://192.0.2.1/\r\ncontent-length: 0\r\n\r\n").await;
        assert_eq!(http_get(&request, Duration::from_secs(5)).await, Ok(302));
    }

    #[tokio::test]
    async fn an_error_status_and_a_closed_port_fail() {
        let request = answer("HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n").await;
        let outcome = http_get(&request, Duration::from_secs(5)).await;
        assert_eq!(outcome, Err("HTTP probe failed with statuscode: 503".to_owned()));
        let closed = HttpRequest { port: 1, ..request };
        assert!(http_get(&closed, Duration::from_secs(5)).await.is_err());
    }
}
