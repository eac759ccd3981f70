//! HTTP by hand over real TLS: what no well-behaved client would send.

use std::{io, sync::Arc};

use anyhow::{Context, Result};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{Answer, Identity};

/// A connection.
pub type Stream = TlsStream<TcpStream>;

/// Dials a server.
///
/// # Errors
/// When the handshake fails; with TLS 1.3 a refused client certificate shows only at the first read.
pub async fn connect(address: &str, ca_pem: &str, identity: Option<&Identity>, alpn: &str) -> Result<Stream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes())?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let builder = builder.with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => builder.with_client_auth_cert(
            vec![CertificateDer::from_pem_slice(identity.certificate_pem.as_bytes())?],
            PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes())?,
        )?,
    };
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    let stream = TcpStream::connect(address).await?;
    Ok(TlsConnector::from(Arc::new(config)).connect("localhost".try_into()?, stream).await?)
}

/// Dials a server under any name, without believing it: for looking at the certificate that it shows.
///
/// # Errors
/// When the handshake fails.
pub async fn connect_as(address: &str, name: &str) -> Result<Stream> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let believer = Arc::new(Believer(Arc::clone(&provider)));
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let config = builder.dangerous().with_custom_certificate_verifier(believer).with_no_client_auth();
    let stream = TcpStream::connect(address).await?;
    Ok(TlsConnector::from(Arc::new(config)).connect(name.to_owned().try_into()?, stream).await?)
}

/// Takes any certificate for any name.
#[derive(Debug)]
struct Believer(Arc<CryptoProvider>);

impl ServerCertVerifier for Believer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Sends a message and reads until the server closes. A server that refuses a message while it is being sent is heard.
///
/// # Errors
/// When what comes back is not HTTP/1.1.
pub(super) async fn exchange(stream: Stream, message: &[u8]) -> Result<Vec<Answer>> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let send = async {
        // The server may have heard enough before all is sent; its answer says so.
        if writer.write_all(message).await.is_ok() {
            _ = writer.flush().await;
        }
    };
    let mut bytes = Vec::new();
    let receive = async {
        // A connection that breaks has said what it had to say.
        if let Err(error) = reader.read_to_end(&mut bytes).await
            && !matches!(
                error.kind(),
                io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe
            )
        {
            return Err(error);
        }
        Ok(())
    };
    let ((), received) = tokio::join!(send, receive);
    received?;
    read_answers(&bytes)
}

/// Takes apart what a server sent on one connection.
fn read_answers(mut bytes: &[u8]) -> Result<Vec<Answer>> {
    let mut answers = Vec::new();
    while !bytes.is_empty() {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").context("the head of an answer ends")?;
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        bytes = &bytes[end + 4..];
        let mut lines = head.lines();
        let status = lines.next().unwrap_or_default();
        let code = status
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .with_context(|| format!("status {status:?}"))?;
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let header = |wanted: &str| headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
        let body = if header("transfer-encoding") == Some("chunked") {
            let (body, rest) = unchunk(bytes)?;
            bytes = rest;
            body
        } else {
            let length = header("content-length").and_then(|length| length.parse().ok()).unwrap_or(bytes.len());
            let (body, rest) = bytes.split_at(length.min(bytes.len()));
            bytes = rest;
            body.to_vec()
        };
        answers.push(Answer { code, headers, body });
    }
    Ok(answers)
}

fn unchunk(mut bytes: &[u8]) -> Result<(Vec<u8>, &[u8])> {
    let mut body = Vec::new();
    loop {
        // A stream that was cut has what came of it.
        let Some(end) = bytes.windows(2).position(|window| window == b"\r\n") else { return Ok((body, &[])) };
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..end])?.trim(), 16)?;
        bytes = &bytes[end + 2..];
        let chunk = &bytes[..size.min(bytes.len())];
        body.extend_from_slice(chunk);
        bytes = bytes.get(size + 2..).unwrap_or_default();
        if size == 0 {
            return Ok((body, bytes));
        }
    }
}
