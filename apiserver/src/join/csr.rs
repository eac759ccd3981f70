//! Reading a certificate signing request: who asks for a certificate, and with which key.

use drover_api::{names, status::ApiError};
use rcgen::{
    CertificateSigningRequestParams, DnType, DnValue, PKCS_ECDSA_P256_SHA256, PublicKeyData as _, SubjectPublicKeyInfo,
};

use crate::pki::identity::fingerprint;

/// A request whose signature proves that the sender has the key.
#[derive(Debug)]
pub(super) struct SigningRequest {
    key: SubjectPublicKeyInfo,
}

impl SigningRequest {
    /// Reads a request in PEM for a node of this name.
    ///
    /// # Errors
    /// 400 for what is no request, is not signed by its own key, has a key that is not P-256, or names somebody else.
    pub(super) fn read(pem: &str, node: &str) -> Result<Self, ApiError> {
        let wrong = names::dns_subdomain(node);
        if let Some(message) = wrong.first() {
            return Err(bad("node", &format!("{node:?}: {message}")));
        }
        // Reading verifies the signature.
        let request = CertificateSigningRequestParams::from_pem(pem).map_err(|error| {
            bad("csr", &format!("not a certificate signing request that its own key has signed: {error}"))
        })?;
        if request.public_key.algorithm() != &PKCS_ECDSA_P256_SHA256 {
            return Err(bad("csr", "the key must be ECDSA P-256"));
        }
        let wanted = format!("system:node:{node}");
        let named = match request.params.distinguished_name.get(&DnType::CommonName) {
            Some(DnValue::Utf8String(name)) => name.clone(),
            Some(DnValue::PrintableString(name)) => name.as_str().to_owned(),
            _ => String::new(),
        };
        if named != wanted {
            return Err(bad("csr", &format!("the common name must be {wanted:?}, it is {named:?}")));
        }
        let key = SubjectPublicKeyInfo::from_der(&request.public_key.subject_public_key_info());
        Ok(Self { key: key.map_err(|error| bad("csr", &format!("its key cannot be read: {error}")))? })
    }

    pub(super) fn public_key(&self) -> &SubjectPublicKeyInfo {
        &self.key
    }

    pub(super) fn key_hash(&self) -> String {
        fingerprint(self.key.der_bytes())
    }
}

fn bad(field: &str, why: &str) -> ApiError {
    ApiError::bad_request(format!("{field}: {why}"))
}
