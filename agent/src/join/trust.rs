//! How the servers of the cluster are known: by their authority, or, before that is known, by its fingerprint.

use std::{path::Path, str::FromStr, sync::Arc};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        ResolvesClientCert, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _};
use sha2::{Digest, Sha256};

/// What a pin begins with.
const SCHEME: &str = "sha256:";

/// Whom to believe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// Servers whose chain holds an authority with this SHA-256 (of the certificate's DER) that signed them.
    Pin([u8; 32]),
    /// Servers that these authorities signed, in PEM.
    Authorities(String),
}

/// Why nobody can be believed.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The pin has another form.
    #[error("{0:?} is not sha256: and 64 hexadecimal digits")]
    Pin(String),
    /// The file cannot be read.
    #[error("cannot read {path}")]
    File {
        /// Its path.
        path: String,
        /// The cause.
        source: std::io::Error,
    },
    /// The PEM holds no certificate, or an unusable one.
    #[error("the authority's certificate cannot be used: {0}")]
    Authority(String),
    /// TLS cannot be set up.
    #[error("cannot set up TLS")]
    Tls(#[source] rustls::Error),
}

impl FromStr for Trust {
    type Err = TrustError;

    /// Reads `sha256:` and 64 hexadecimal digits.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || TrustError::Pin(text.to_owned());
        let digits = text
            .strip_prefix(SCHEME)
            .filter(|digits| digits.len() == 64 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let digits = digits.ok_or_else(wrong)?;
        let mut pin = [0; 32];
        for (byte, at) in pin.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(&digits[at..at + 2], 16).map_err(|_| wrong())?;
        }
        Ok(Self::Pin(pin))
    }
}

impl Trust {
    /// Believes the authorities of a PEM file.
    ///
    /// # Errors
    /// [`TrustError::File`]. What it holds is looked at when it is used.
    pub fn of_file(path: &Path) -> Result<Self, TrustError> {
        let read = std::fs::read_to_string(path);
        read.map(Self::Authorities).map_err(|source| TrustError::File { path: path.display().to_string(), source })
    }

    /// TLS 1.3 with this trust, as whoever `identity` is.
    ///
    /// # Errors
    /// [`TrustError`].
    pub(super) fn client_config(
        &self,
        identity: Option<Arc<dyn ResolvesClientCert>>,
        protocol: &[u8],
    ) -> Result<ClientConfig, TrustError> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(TrustError::Tls)?;
        let builder = match self {
            Self::Pin(pin) => {
                let verifier = Arc::new(PinVerifier { pin: *pin, provider });
                builder.dangerous().with_custom_certificate_verifier(verifier)
            }
            Self::Authorities(pem) => builder.with_root_certificates(roots(pem)?),
        };
        let mut config = match identity {
            Some(identity) => builder.with_client_cert_resolver(identity),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![protocol.to_vec()];
        Ok(config)
    }
}

fn roots(pem: &str) -> Result<RootCertStore, TrustError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|error| TrustError::Authority(error.to_string()))?;
        roots.add(certificate).map_err(|error| TrustError::Authority(error.to_string()))?;
    }
    match roots.is_empty() {
        true => Err(TrustError::Authority("there is none".to_owned())),
        false => Ok(roots),
    }
}

/// Believes the authority in a server's chain that has the right fingerprint, and then checks as usual: names, dates,
/// signatures.
#[derive(Debug)]
struct PinVerifier {
    pin: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let pinned = intermediates.iter().find(|certificate| Sha256::digest(certificate)[..] == self.pin);
        let pinned = pinned
            .ok_or_else(|| rustls::Error::General("the server is not of the cluster that --ca-pin names".to_owned()))?;
        let mut roots = RootCertStore::empty();
        roots.add(pinned.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider)).build();
        let verifier = verifier.map_err(|error| rustls::Error::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, &[], server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
