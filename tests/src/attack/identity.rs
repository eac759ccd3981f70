//! Certificates of every kind, good and bad, signed by the server's own authority or by another.

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use anyhow::Result;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair};
use sha2::{Digest as _, Sha256};

/// A certificate and its key, PEM.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The certificate.
    pub certificate_pem: String,
    /// The key.
    pub key_pem: String,
}

impl Identity {
    /// Returns the hash by which a cluster knows the key.
    ///
    /// # Errors
    /// When the key is none.
    pub fn key_hash(&self) -> Result<String> {
        let key = KeyPair::from_pem(&self.key_pem)?;
        Ok(Sha256::digest(key.public_key_raw()).iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// What a certificate is to say.
#[derive(Debug, Clone)]
pub struct Wish<'a> {
    /// Its CN.
    pub name: &'a str,
    /// Its Os.
    pub groups: &'a [&'a str],
    /// Its usage.
    pub usage: ExtendedKeyUsagePurpose,
    /// Seconds from now: start and end of its life.
    pub life: (i64, i64),
}

impl<'a> Wish<'a> {
    /// A client certificate that is good for an hour.
    pub fn client(name: &'a str, groups: &'a [&'a str]) -> Self {
        Self { name, groups, usage: ExtendedKeyUsagePurpose::ClientAuth, life: (-60, 3600) }
    }
}

/// Signs certificates.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate.
    pub certificate_pem: String,
}

impl Authority {
    /// Opens the authority of a server by its data directory, as an attacker who stole the key would.
    ///
    /// # Errors
    /// When the files are not there.
    pub fn of_server(data_dir: &Path) -> Result<Self> {
        let read = |name: &str| fs::read_to_string(data_dir.join("pki").join(name));
        let key = KeyPair::from_pem(&read("ca.key")?)?;
        Self::with(key, Some(read("ca.crt")?))
    }

    /// Makes an authority of the same name that no server knows.
    ///
    /// # Errors
    /// When the library refuses.
    pub fn unknown() -> Result<Self> {
        Self::with(KeyPair::generate()?, None)
    }

    /// Makes an authority of a certificate that is not one.
    ///
    /// # Errors
    /// When the library refuses.
    pub fn from_leaf(leaf: &Identity) -> Result<Self> {
        Self::with(KeyPair::from_pem(&leaf.key_pem)?, Some(leaf.certificate_pem.clone()))
    }

    fn with(key: KeyPair, certificate_pem: Option<String>) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "drover-ca");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let certificate_pem = match certificate_pem {
            Some(pem) => pem,
            None => params.self_signed(&key)?.pem(),
        };
        Ok(Self { issuer: Issuer::new(params, key), certificate_pem })
    }

    /// Signs a certificate.
    ///
    /// # Errors
    /// When the library refuses the wish.
    pub fn sign(&self, wish: &Wish<'_>) -> Result<Identity> {
        let key = KeyPair::generate()?;
        let certificate = params(wish).signed_by(&key, &self.issuer)?;
        Ok(Identity { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }

    /// Makes a certificate that signs itself.
    ///
    /// # Errors
    /// When the library refuses the wish.
    pub fn self_signed(wish: &Wish<'_>) -> Result<Identity> {
        let key = KeyPair::generate()?;
        Ok(Identity { certificate_pem: params(wish).self_signed(&key)?.pem(), key_pem: key.serialize_pem() })
    }
}

fn params(wish: &Wish<'_>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, wish.name);
    // The library keeps one value a type: two spellings of the same type make room for two groups.
    let spellings = [DnType::OrganizationName, DnType::CustomDnType(vec![2, 5, 4, 10])];
    for (spelling, group) in spellings.into_iter().zip(wish.groups) {
        params.distinguished_name.push(spelling, *group);
    }
    params.extended_key_usages = vec![wish.usage.clone()];
    params.not_before = at(wish.life.0).into();
    params.not_after = at(wish.life.1).into();
    params
}

fn at(secs: i64) -> SystemTime {
    let distance = Duration::from_secs(secs.unsigned_abs());
    let now = SystemTime::now();
    if secs < 0 { now - distance } else { now + distance }
}
