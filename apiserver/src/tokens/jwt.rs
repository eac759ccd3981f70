//! JSON Web Tokens with one algorithm, so that no header can choose another.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey},
};
use rustls_pki_types::{PrivatePkcs8KeyDer, pem::PemObject};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Ours are under 2 KiB; a longer text is not decoded.
const TOKEN_BYTES_MAX: usize = 8 << 10;

/// The key is not a P-256 key in PKCS#8 PEM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("service-account.key is not a P-256 private key")]
pub struct KeyError;

/// The signing key and its public half.
#[derive(Debug)]
pub(super) struct Key {
    pair: EcdsaKeyPair,
    id: String,
    random: SystemRandom,
}

impl Key {
    pub(super) fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| KeyError)?;
        let random = SystemRandom::new();
        let der = der.secret_pkcs8_der();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &random).map_err(|_| KeyError)?;
        let id = BASE64.encode(Sha256::digest(pair.public_key().as_ref()));
        Ok(Self { pair, id, random })
    }

    pub(super) fn sign(&self, claims: &Value) -> String {
        let header = json!({"alg": "ES256", "typ": "JWT", "kid": self.id});
        let signed = format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(claims.to_string()));
        let signature = self
            .pair
            .sign(&self.random, signed.as_bytes())
            .expect("signing fails only without a random source, which the system has had since its start");
        format!("{signed}.{}", BASE64.encode(signature))
    }

    /// Returns the claims of a token that this key signed.
    pub(super) fn verify(&self, token: &str) -> Option<Value> {
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let header: Value = serde_json::from_slice(&BASE64.decode(header).ok()?).ok()?;
        if header["alg"] != "ES256" || header["kid"] != self.id.as_str() || header.get("crit").is_some() {
            return None;
        }
        let signature = BASE64.decode(signature).ok()?;
        if !drover_api::mutants::active("A17-signature-unchecked") {
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.pair.public_key().as_ref())
                .verify(signed.as_bytes(), &signature)
                .ok()?;
        }
        serde_json::from_slice(&BASE64.decode(claims).ok()?).ok()
    }

    /// Returns the public half as RFC 7517 writes it.
    pub(super) fn to_jwk(&self) -> Value {
        // An uncompressed point: 0x04, then x and y of 32 bytes each.
        let (x, y) = self.pair.public_key().as_ref()[1..].split_at(32);
        json!({
            "use": "sig", "kty": "EC", "kid": self.id, "crv": "P-256", "alg": "ES256",
            "x": BASE64.encode(x), "y": BASE64.encode(y),
        })
    }
}

/// Whether a key made for this process accepts a token.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn verify_any(token: &str) -> bool {
    static KEY: std::sync::OnceLock<Key> = std::sync::OnceLock::new();
    let key = KEY.get_or_init(|| {
        let pair = rcgen::KeyPair::generate().expect("the system has random bytes");
        Key::from_pem(&pair.serialize_pem()).expect("rcgen makes P-256 keys")
    });
    key.verify(token).is_some_and(|claims| super::claims::Claims::read(&claims).is_some())
}
