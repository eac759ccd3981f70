//! Reading certificates: who they name and how long they live.

use std::{
    net::IpAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use sha2::{Digest as _, Sha256};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};

/// The parts of a certificate that we decide by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Subject CN.
    pub(crate) common_name: String,
    /// Subject O, all of them.
    pub(crate) organizations: Vec<String>,
    /// DNS subject alternative names.
    pub(crate) dns_names: Vec<String>,
    /// IP subject alternative names.
    pub(crate) addresses: Vec<IpAddr>,
    /// Start and end of life.
    pub(crate) life: (SystemTime, SystemTime),
    /// DER of the public key info's key bits, to tell whether a key file belongs to the certificate.
    pub(crate) public_key: Vec<u8>,
}

impl Facts {
    /// Reads a DER certificate; `None` when it is malformed, has no CN, or has control characters in a name.
    pub(crate) fn read(der: &[u8]) -> Option<Self> {
        let (rest, certificate) = X509Certificate::from_der(der).ok()?;
        if !rest.is_empty() {
            return None;
        }
        let subject = certificate.subject();
        let mut common_names = subject.iter_common_name().map(|name| name.as_str().ok().and_then(clean));
        let common_name = common_names.next()??;
        if common_names.next().is_some() {
            return None;
        }
        let organizations =
            subject.iter_organization().map(|name| name.as_str().ok().and_then(clean)).collect::<Option<_>>()?;
        let (dns_names, addresses) = alternative_names(&certificate);
        let validity = certificate.validity();
        Some(Self {
            common_name,
            organizations,
            dns_names,
            addresses,
            life: (at(validity.not_before.timestamp())?, at(validity.not_after.timestamp())?),
            public_key: certificate.public_key().subject_public_key.data.to_vec(),
        })
    }

    /// Whether less than two thirds of the life is over at `now` (and it has begun).
    pub(crate) fn is_fresh(&self, now: SystemTime) -> bool {
        let (start, end) = self.life;
        let life = end.duration_since(start).unwrap_or_default();
        now.duration_since(start).is_ok_and(|age| age < life * 2 / 3)
    }
}

/// SHA-256 in hexadecimal digits: the fingerprint of a key, a certificate or a secret, by which it is known.
pub(crate) fn fingerprint(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn clean(name: &str) -> Option<String> {
    (!name.is_empty() && !name.chars().any(char::is_control)).then(|| name.to_owned())
}

fn at(timestamp: i64) -> Option<SystemTime> {
    Some(UNIX_EPOCH + Duration::from_secs(u64::try_from(timestamp).ok()?))
}

fn alternative_names(certificate: &X509Certificate<'_>) -> (Vec<String>, Vec<IpAddr>) {
    let mut dns_names = Vec::new();
    let mut addresses = Vec::new();
    let names = certificate.subject_alternative_name().ok().flatten();
    for name in names.iter().flat_map(|extension| &extension.value.general_names) {
        match name {
            GeneralName::DNSName(name) => dns_names.push((*name).to_owned()),
            GeneralName::IPAddress(bytes) => addresses.extend(address(bytes)),
            _ => {}
        }
    }
    (dns_names, addresses)
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(v4.into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}
