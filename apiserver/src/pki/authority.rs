//! The certificate authority: ten years, P-256, made at the first start.

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData, SanType,
};
use rustls_pki_types::{CertificateDer, pem::PemObject};

use super::{
    Error, ServerNames, files,
    identity::{Facts, fingerprint},
};

const CA_LIFE: Duration = Duration::from_secs(3650 * 24 * 3600);
const CA_NAME: &str = "drover-ca";
/// Certificates start their life a little early, for clients whose clock is behind.
const CLOCK_SLACK: Duration = Duration::from_secs(300);

/// A certificate with its key, both PEM.
#[derive(Clone)]
pub struct Identity {
    /// The certificate.
    pub certificate_pem: String,
    /// The private key.
    pub key_pem: String,
}

impl Identity {
    /// The hash by which the key is known to the cluster; empty when the certificate is none.
    pub(crate) fn key_hash(&self) -> String {
        let facts = CertificateDer::from_pem_slice(self.certificate_pem.as_bytes()).ok();
        let facts = facts.and_then(|der| Facts::read(&der));
        facts.map(|facts| fingerprint(&facts.public_key)).unwrap_or_default()
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Identity").field("certificate_pem", &self.certificate_pem).finish_non_exhaustive()
    }
}

/// What a leaf certificate is to say. `server: None` makes a client certificate.
#[derive(Debug)]
pub(super) struct Leaf<'a> {
    pub(super) common_name: &'a str,
    pub(super) organization: Option<&'a str>,
    pub(super) server: Option<&'a ServerNames>,
    pub(super) life: Duration,
}

#[derive(Debug)]
pub(super) struct Authority {
    certificate_pem: String,
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Opens `ca.key` and `ca.crt`. The key is written first: a crash in between re-makes the certificate from it.
    pub(super) fn open(dir: &Path, now: SystemTime) -> Result<Self, Error> {
        let (key_path, path) = (dir.join("ca.key"), dir.join("ca.crt"));
        let damaged = |path: &Path, why| Error::Damaged { path: path.to_owned(), why };
        let key = KeyPair::from_pem(&files::ensure_key(&key_path)?)
            .map_err(|_| damaged(&key_path, "it is not a private key"))?;
        let params = ca_params(now);
        let certificate_pem = match files::read(&path)? {
            Some(pem) => pem,
            None => {
                let made = params.self_signed(&key).map_err(|source| issue_error(CA_NAME, source))?.pem();
                files::write_atomic(&path, made.as_bytes(), 0o644)?;
                made
            }
        };
        let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .map_err(|_| damaged(&path, "it is not a certificate"))?;
        let facts = Facts::read(&certificate).ok_or_else(|| damaged(&path, "it is not a certificate"))?;
        if facts.public_key != key.public_key_raw() || facts.common_name != CA_NAME {
            return Err(damaged(&path, "it does not belong to ca.key"));
        }
        Ok(Self { certificate_pem, certificate, issuer: Issuer::new(params, key) })
    }

    pub(super) fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    pub(super) fn certificate_der(&self) -> CertificateDer<'static> {
        self.certificate.clone()
    }

    /// Makes a new key and a certificate for it.
    pub(super) fn issue(&self, leaf: &Leaf<'_>, now: SystemTime) -> Result<Identity, Error> {
        let failed = |source| issue_error(leaf.common_name, source);
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = leaf_params(leaf, now).map_err(failed)?.signed_by(&key, &self.issuer).map_err(failed)?;
        Ok(Identity { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }

    /// Makes a certificate for a key that somebody else has.
    pub(super) fn sign(&self, leaf: &Leaf<'_>, key: &impl PublicKeyData, now: SystemTime) -> Result<String, Error> {
        let failed = |source| issue_error(leaf.common_name, source);
        Ok(leaf_params(leaf, now).map_err(failed)?.signed_by(key, &self.issuer).map_err(failed)?.pem())
    }

    /// Keeps `<file>.crt` and `<file>.key` when they are ours, fresh and cover the leaf; else replaces both.
    pub(super) fn ensure_leaf(
        &self,
        dir: &Path,
        file: &str,
        leaf: &Leaf<'_>,
        now: SystemTime,
    ) -> Result<Identity, Error> {
        let (path, key_path) = (dir.join(format!("{file}.crt")), dir.join(format!("{file}.key")));
        if let (Some(certificate_pem), Some(key_pem)) = (files::read(&path)?, files::read_secret(&key_path)?) {
            let identity = Identity { certificate_pem, key_pem };
            if self.is_good(&identity, leaf, now) {
                return Ok(identity);
            }
        }
        let identity = self.issue(leaf, now)?;
        files::write_atomic(&key_path, identity.key_pem.as_bytes(), 0o600)?;
        files::write_atomic(&path, identity.certificate_pem.as_bytes(), 0o644)?;
        Ok(identity)
    }

    fn is_good(&self, identity: &Identity, leaf: &Leaf<'_>, now: SystemTime) -> bool {
        let facts = CertificateDer::from_pem_slice(identity.certificate_pem.as_bytes())
            .ok()
            .filter(|der| self.signed(der))
            .and_then(|der| Facts::read(&der));
        let (Some(facts), Ok(key)) = (facts, KeyPair::from_pem(&identity.key_pem)) else { return false };
        facts.is_fresh(now)
            && facts.public_key == key.public_key_raw()
            && facts.common_name == leaf.common_name
            && facts.organizations.iter().map(String::as_str).eq(leaf.organization)
            && leaf.server.is_none_or(|names| names.are_covered_by(&facts))
    }

    fn signed(&self, der: &[u8]) -> bool {
        let parse = x509_parser::parse_x509_certificate;
        let (Ok((_, leaf)), Ok((_, ca))) = (parse(der), parse(&self.certificate)) else { return false };
        let spki = ca.public_key().subject_public_key.data.as_ref();
        ring::signature::UnparsedPublicKey::new(&ring::signature::ECDSA_P256_SHA256_ASN1, spki)
            .verify(leaf.tbs_certificate.as_ref(), leaf.signature_value.data.as_ref())
            .is_ok()
    }
}

fn ca_params(now: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, CA_NAME);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    params.not_before = (now - CLOCK_SLACK).into();
    params.not_after = (now + CA_LIFE).into();
    params
}

fn leaf_params(leaf: &Leaf<'_>, now: SystemTime) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, leaf.common_name);
    if let Some(organization) = leaf.organization {
        params.distinguished_name.push(DnType::OrganizationName, organization);
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params.not_before = (now - CLOCK_SLACK).into();
    params.not_after = (now + leaf.life).into();
    params.extended_key_usages = match leaf.server {
        Some(_) => vec![ExtendedKeyUsagePurpose::ServerAuth],
        None => vec![ExtendedKeyUsagePurpose::ClientAuth],
    };
    if let Some(names) = leaf.server {
        for name in &names.dns_names {
            params.subject_alt_names.push(SanType::DnsName(name.as_str().try_into()?));
        }
        params.subject_alt_names.extend(names.addresses.iter().map(|address| SanType::IpAddress(*address)));
    }
    Ok(params)
}

fn issue_error(subject: &str, source: rcgen::Error) -> Error {
    Error::Issue { subject: subject.to_owned(), source }
}
