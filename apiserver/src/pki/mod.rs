//! Keys and certificates: the cluster's own authority and everything it signs.
//!
//! Owns the files of `<data_dir>/pki` and `<data_dir>/admin.kubeconfig`. Opening it twice changes nothing: what exists
//! and is still good is kept. Secrets are 0600 in a 0700 directory, and wider modes are refused, never repaired.

mod authority;
mod files;
pub(crate) mod identity;
mod kubeconfig;
mod sealing_keys;
mod server;
#[cfg(test)]
mod tests;

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls_pki_types::CertificateDer;

pub use authority::Identity;
use authority::{Authority, Leaf};
pub use sealing_keys::SealingKeys;
pub(crate) use server::ServerCertificate;
pub use server::ServerNames;

/// Life of every leaf. Clients with a copied kubeconfig must survive a holiday; leaves are renewed at two thirds of it.
const LEAF_LIFE: Duration = Duration::from_secs(365 * 24 * 3600);

/// User name and group of `admin.kubeconfig`.
const ADMIN: Leaf<'static> =
    Leaf { common_name: "drover-admin", organization: Some("system:masters"), server: None, life: LEAF_LIFE };

/// The opened key store.
pub struct Pki {
    dir: PathBuf,
    authority: Authority,
    server: Arc<ServerCertificate>,
    admin: Identity,
    token_key_pem: String,
}

impl std::fmt::Debug for Pki {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Pki").field("dir", &self.dir).finish_non_exhaustive()
    }
}

/// Why keys could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read or written.
    #[error("cannot {action} {}", path.display())]
    File {
        /// `read`, `write`, `create`, …
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A secret can be read by others than its owner.
    #[error("{} has mode {mode:04o}, which lets others than its owner in; set it to {wanted:04o}", path.display())]
    Mode {
        /// The file or directory.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// The widest mode accepted.
        wanted: u32,
    },
    /// A file does not hold what its name says.
    #[error("{} is damaged: {why}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A key or certificate could not be made.
    #[error("cannot make the certificate of {subject}")]
    Issue {
        /// Its common name.
        subject: String,
        /// The cause.
        source: rcgen::Error,
    },
    /// The TLS library refuses our own certificate.
    #[error("cannot use the server certificate")]
    Tls(#[source] rustls::Error),
}

impl Pki {
    /// Opens `dir`, making whatever is missing, stale or does not cover `names`.
    ///
    /// # Errors
    /// [`Error::Mode`] for files that others can read, [`Error::Damaged`] for files that are not what they should be.
    pub fn open(dir: &Path, names: &ServerNames, now: SystemTime) -> Result<Self, Error> {
        files::ensure_private_dir(dir)?;
        let authority = Authority::open(dir, now)?;
        let server = Arc::new(ServerCertificate::open(dir, &authority, names, now)?);
        let admin = authority.ensure_leaf(dir, "admin", &ADMIN, now)?;
        let token_key_pem = files::ensure_key(&dir.join("service-account.key"))?;
        Ok(Self { dir: dir.to_owned(), authority, server, admin, token_key_pem })
    }

    /// Returns the authority's certificate, the trust anchor of every client.
    pub fn ca_pem(&self) -> &str {
        self.authority.certificate_pem()
    }

    /// Returns the authority's certificate.
    pub(crate) fn ca_der(&self) -> CertificateDer<'static> {
        self.authority.certificate_der()
    }

    /// Returns the identity that `admin.kubeconfig` carries.
    pub fn admin(&self) -> &Identity {
        &self.admin
    }

    /// Returns the private key that signs service account tokens (P-256, PKCS#8 PEM).
    pub(crate) fn token_key_pem(&self) -> &str {
        &self.token_key_pem
    }

    /// Returns the server's certificate, shared with the TLS acceptor.
    pub(crate) fn server_certificate(&self) -> Arc<ServerCertificate> {
        Arc::clone(&self.server)
    }

    /// Re-issues the server's certificate when it is stale or misses a name; running listeners take it up at once.
    ///
    /// # Errors
    /// As [`Pki::open`].
    pub(crate) fn renew_server(&self, names: &ServerNames, now: SystemTime) -> Result<(), Error> {
        self.server.renew(&self.dir, &self.authority, names, now)
    }

    /// Issues a key and a client certificate for the agent on `node`: CN=`system:node:<node>`, O=`system:nodes`, one year.
    ///
    /// # Errors
    /// [`Error::Issue`] when the name cannot stand in a certificate.
    pub fn issue_node_certificate(&self, node: &str, now: SystemTime) -> Result<Identity, Error> {
        let common_name = format!("system:node:{node}");
        self.authority.issue(&node_leaf(&common_name, LEAF_LIFE), now)
    }

    /// Signs a client certificate in PEM for the agent on `node`, which has the key.
    ///
    /// # Errors
    /// [`Error::Issue`] when the name cannot stand in a certificate.
    pub(crate) fn sign_node_certificate(
        &self,
        node: &str,
        key: &impl rcgen::PublicKeyData,
        life: Duration,
        now: SystemTime,
    ) -> Result<String, Error> {
        self.authority.sign(&node_leaf(&format!("system:node:{node}"), life), key, now)
    }

    /// Issues the client certificate with which server `id` asks other servers.
    ///
    /// # Errors
    /// [`Error::Issue`].
    pub(crate) fn issue_server_client(&self, id: &str, now: SystemTime) -> Result<Identity, Error> {
        let common_name = format!("system:drover:server:{id}");
        let leaf = Leaf {
            common_name: &common_name,
            organization: Some("system:drover:servers"),
            server: None,
            life: LEAF_LIFE,
        };
        self.authority.issue(&leaf, now)
    }

    /// Returns this server's own name among servers, which its directory keeps; `fresh` is used at the first start.
    ///
    /// # Errors
    /// [`Error::File`].
    pub(crate) fn server_id(&self, fresh: impl FnOnce() -> String) -> Result<String, Error> {
        let path = self.dir.with_file_name("server-id");
        if let Some(id) = files::read(&path)? {
            return Ok(id.trim().to_owned());
        }
        let id = fresh();
        files::write_atomic(&path, id.as_bytes(), 0o600)?;
        Ok(id)
    }

    /// Writes the administrator's kubeconfig, whole or not at all, mode 0600.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn write_admin_kubeconfig(&self, path: &Path, cluster: &str, url: &str) -> Result<(), Error> {
        let text = kubeconfig::render(&kubeconfig::Kubeconfig {
            cluster,
            url,
            ca_pem: self.ca_pem(),
            user: ADMIN.common_name,
            identity: &self.admin,
        });
        files::write_atomic(path, text.as_bytes(), 0o600)
    }
}

fn node_leaf(common_name: &str, life: Duration) -> Leaf<'_> {
    Leaf { common_name, organization: Some("system:nodes"), server: None, life }
}

/// Builds the names of a server's certificate from what it listens on and advertises.
pub fn server_names(addresses: impl IntoIterator<Item = IpAddr>) -> ServerNames {
    ServerNames::new(addresses, files::host_name().as_deref())
}
