//! Who this node is: its key, and the certificate in use, which changes under open connections.

use std::sync::{Arc, PoisonError, RwLock};

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::{
    SignatureScheme,
    client::ResolvesClientCert,
    crypto::ring::sign::any_supported_type,
    sign::{CertifiedKey, SigningKey},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

/// Why the node cannot be itself.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A key cannot be made, or the kept one is none.
    #[error("the node's key cannot be used")]
    Key(#[source] rcgen::Error),
    /// The TLS library refuses the key.
    #[error("the node's key cannot be used for TLS")]
    Tls(#[source] rustls::Error),
    /// The certificate is none.
    #[error("the node's certificate cannot be read")]
    Certificate(#[source] rustls_pki_types::pem::Error),
    /// The kept key is no PEM.
    #[error("the node's key cannot be read")]
    Pem(#[source] rustls_pki_types::pem::Error),
}

/// The node's key with its newest certificate; presents it in each new handshake.
#[derive(Debug)]
pub(super) struct Identity {
    pair: KeyPair,
    key: Arc<dyn SigningKey>,
    certified: RwLock<Option<Arc<CertifiedKey>>>,
}

/// Makes a key in PEM.
pub(super) fn new_key() -> Result<String, IdentityError> {
    KeyPair::generate().map(|pair| pair.serialize_pem()).map_err(IdentityError::Key)
}

impl Identity {
    /// Reads the key; there is no certificate yet.
    pub(super) fn new(key_pem: &str) -> Result<Self, IdentityError> {
        let pair = KeyPair::from_pem(key_pem).map_err(IdentityError::Key)?;
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(IdentityError::Pem)?;
        let key = any_supported_type(&key).map_err(IdentityError::Tls)?;
        Ok(Self { pair, key, certified: RwLock::new(None) })
    }

    /// Uses this certificate from now on.
    pub(super) fn adopt(&self, certificate_pem: &str) -> Result<(), IdentityError> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate_pem.as_bytes()).collect();
        let certified = CertifiedKey::new(chain.map_err(IdentityError::Certificate)?, Arc::clone(&self.key));
        certified.keys_match().map_err(IdentityError::Tls)?;
        *self.certified.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(certified));
        Ok(())
    }

    /// A request in PEM for a certificate of the node, signed by the key.
    pub(super) fn request(&self, node: &str) -> Result<String, IdentityError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, format!("system:node:{node}"));
        params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
        params.serialize_request(&self.pair).and_then(|request| request.pem()).map_err(IdentityError::Key)
    }
}

impl ResolvesClientCert for Identity {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.certified.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn has_certs(&self) -> bool {
        self.certified.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }
}
