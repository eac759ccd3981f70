//! Certificates out of Secrets: only such as HAProxy will take, for one that it does not would stop all.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use k8s_openapi::api::core::v1::Secret;
use rustls::{crypto::ring, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

/// Width of a line in PEM (RFC 7468).
const LINE: usize = 64;

/// Returns certificates and key in PEM, written anew from what they hold.
///
/// # Errors
/// What is missing or wrong in the Secret.
pub(super) fn pem_of(secret: &Secret) -> Result<String, String> {
    let data = |key: &str| {
        let bytes = secret.data.as_ref().and_then(|data| data.get(key)).map(|bytes| bytes.0.as_slice());
        bytes.ok_or_else(|| format!("it has no {key}"))
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(data("tls.crt")?).collect();
    let chain = chain.map_err(|error| format!("tls.crt: {error}"))?;
    let key = PrivateKeyDer::from_pem_slice(data("tls.key")?).map_err(|error| format!("tls.key: {error}"))?;
    let label = match &key {
        PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
        PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
        _ => "PRIVATE KEY",
    };
    let mut pem: String = chain.iter().map(|certificate| block("CERTIFICATE", certificate)).collect();
    pem.push_str(&block(label, key.secret_der()));
    // Refuses an empty chain, and a key that is another's.
    let pair = CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(|error| error.to_string())?;
    pair.keys_match().map_err(|error| error.to_string())?;
    Ok(pem)
}

fn block(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = (0..text.len()).step_by(LINE).map(|at| &text[at..text.len().min(at + LINE)]).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::ByteString;

    use super::*;

    fn secret(pairs: &[(&str, &str)]) -> Secret {
        let data: BTreeMap<_, _> =
            pairs.iter().map(|(key, text)| ((*key).to_owned(), ByteString(text.as_bytes().to_vec()))).collect();
        Secret { data: Some(data), ..Secret::default() }
    }

    #[test]
    fn a_certificate_with_its_own_key_is_taken_and_nothing_else() {
        let made = rcgen::generate_simple_self_signed(["x.org".to_owned()]).unwrap();
        let other = rcgen::generate_simple_self_signed(["x.org".to_owned()]).unwrap();
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let garbage = format!("{certificate}\nlisten x\n");
        let pem = pem_of(&secret(&[("tls.crt", &garbage), ("tls.key", &key)])).unwrap();
        assert_eq!(pem.replace("\r\n", "\n"), format!("{certificate}{key}").replace("\r\n", "\n"));
        for (pairs, why) in [
            (vec![("tls.crt", &*certificate)], "tls.key"),
            (vec![("tls.key", &*key)], "tls.crt"),
            (vec![("tls.crt", &*certificate), ("tls.key", &*other.signing_key.serialize_pem())], "consistent"),
            (vec![("tls.crt", "no certificate"), ("tls.key", &*key)], ""),
            (vec![("tls.crt", &*certificate), ("tls.key", "no key")], "tls.key"),
        ] {
            let refused = pem_of(&secret(&pairs)).unwrap_err();
            assert!(refused.contains(why), "{refused}");
        }
    }
}
