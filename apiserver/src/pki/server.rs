//! The server's certificate: its names, and swapping it under running listeners.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
    sync::{Arc, PoisonError, RwLock},
    time::SystemTime,
};

use rustls::{
    crypto::ring::sign::any_supported_type,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use super::{
    Error, LEAF_LIFE,
    authority::{Authority, Identity, Leaf},
    identity::Facts,
};

/// The names that clients inside and outside of the cluster reach a server by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerNames {
    /// DNS names.
    pub dns_names: BTreeSet<String>,
    /// Addresses.
    pub addresses: BTreeSet<IpAddr>,
}

impl ServerNames {
    /// Builds the set: loopback, the in-cluster names, the host name and the given addresses. Wildcard addresses
    /// (`0.0.0.0`) are nobody's address and left out.
    pub fn new(addresses: impl IntoIterator<Item = IpAddr>, host_name: Option<&str>) -> Self {
        const IN_CLUSTER: [&str; 5] = [
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
        ];
        let is_dns = |name: &&str| {
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte))
        };
        let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        Self {
            dns_names: IN_CLUSTER.into_iter().chain(host_name.filter(is_dns)).map(str::to_lowercase).collect(),
            addresses: loopback.into_iter().chain(addresses).filter(|address| !address.is_unspecified()).collect(),
        }
    }

    /// Whether a certificate has every name. It may have more: names that went away do no harm until it is renewed.
    pub(super) fn are_covered_by(&self, facts: &Facts) -> bool {
        self.dns_names.iter().all(|name| facts.dns_names.contains(name))
            && self.addresses.iter().all(|address| facts.addresses.contains(address))
    }
}

/// The certificate in use; answers every handshake with it, whatever name the client asks for.
#[derive(Debug)]
pub(crate) struct ServerCertificate {
    current: RwLock<Arc<CertifiedKey>>,
}

impl ServerCertificate {
    pub(super) fn open(dir: &Path, authority: &Authority, names: &ServerNames, now: SystemTime) -> Result<Self, Error> {
        Ok(Self { current: RwLock::new(ensure(dir, authority, names, now)?) })
    }

    pub(super) fn renew(
        &self,
        dir: &Path,
        authority: &Authority,
        names: &ServerNames,
        now: SystemTime,
    ) -> Result<(), Error> {
        let certificate = ensure(dir, authority, names, now)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = certificate;
        Ok(())
    }
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn ensure(dir: &Path, authority: &Authority, names: &ServerNames, now: SystemTime) -> Result<Arc<CertifiedKey>, Error> {
    let leaf = Leaf { common_name: "drover-apiserver", organization: None, server: Some(names), life: LEAF_LIFE };
    let Identity { certificate_pem, key_pem } = authority.ensure_leaf(dir, "server", &leaf, now)?;
    let damaged = |why| Error::Damaged { path: dir.join("server.crt"), why };
    let certificate =
        CertificateDer::from_pem_slice(certificate_pem.as_bytes()).map_err(|_| damaged("it is not a certificate"))?;
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|_| damaged("its key is no private key"))?;
    let key = any_supported_type(&key).map_err(Error::Tls)?;
    Ok(Arc::new(CertifiedKey::new(vec![certificate, authority.certificate_der()], key)))
}
