//! TLS: versions, protocols and who may present a certificate.

use std::sync::Arc;

use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion, server::WebPkiClientVerifier};

use crate::pki::Pki;

/// Why TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The TLS library refuses the versions or the authority.
    #[error("cannot set up tls")]
    Tls(#[source] rustls::Error),
    /// The verifier of client certificates cannot be built.
    #[error("cannot verify client certificates")]
    Verifier(#[source] rustls::server::VerifierBuilderError),
}

/// The versions spoken, in the words of the security report. kubectl, Helm and every client since 2019 speak 1.3.
const VERSIONS: [(&str, &SupportedProtocolVersion); 1] = [("1.3", &rustls::version::TLS13)];

/// The versions spoken.
pub(crate) fn tls_versions() -> [&'static str; VERSIONS.len()] {
    VERSIONS.map(|(name, _)| name)
}

/// TLS 1.3, h2 and http/1.1, client certificates optional but only from our own authority.
pub(super) fn config(pki: &Pki) -> Result<Arc<ServerConfig>, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(pki.ca_der()).map_err(Error::Tls)?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .allow_unauthenticated()
        .build()
        .map_err(Error::Verifier)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&VERSIONS.map(|(_, version)| version))
        .map_err(Error::Tls)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(pki.server_certificate());
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
