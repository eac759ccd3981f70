//! What a node keeps of its cluster: `pki/node.key`, `pki/node.crt` and `membership.json` in the data directory.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{IdentityError, identity};

/// What the cluster has told its node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Membership {
    /// The node's name.
    pub node_name: String,
    /// The cluster's name.
    pub cluster_name: String,
    /// The addresses of all pods: `a.b.c.d/n`.
    pub cluster_cidr: String,
    /// The addresses of Services.
    pub service_cidr: String,
    /// The cluster's authority, in PEM.
    pub certificate_authority: String,
}

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A file cannot be read or written.
    #[error("cannot {action} {}", path.display())]
    File {
        /// `read`, `write`, `make`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The key can be read by others than its owner.
    #[error("{} has mode {mode:04o}, which lets others than its owner in; set it to 0600", path.display())]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The file does not hold what it should.
    #[error("{} is damaged: remove it, and join with a token", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: serde_json::Error,
    },
}

/// The files.
#[derive(Debug, Clone)]
pub(super) struct State {
    dir: PathBuf,
}

impl State {
    /// Makes the directories that are missing, mode 0700.
    pub(super) fn open(dir: &Path) -> Result<Self, StateError> {
        let pki = dir.join("pki");
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&pki);
        made.map_err(|source| StateError::File { action: "make", path: pki, source })?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// The node's key, made at the first start.
    pub(super) fn key(&self) -> Result<Result<String, IdentityError>, StateError> {
        let path = self.dir.join("pki/node.key");
        if let Some(pem) = read(&path)? {
            let metadata = fs::metadata(&path).map_err(|source| StateError::File {
                action: "read",
                path: path.clone(),
                source,
            })?;
            let mode = metadata.permissions().mode() & 0o777;
            return if mode & 0o077 == 0 { Ok(Ok(pem)) } else { Err(StateError::Mode { path, mode }) };
        }
        match identity::new_key() {
            Ok(pem) => write(&path, &pem).map(|()| Ok(pem)),
            Err(error) => Ok(Err(error)),
        }
    }

    /// What the cluster has told, with the certificate; `None` before the first time.
    pub(super) fn membership(&self) -> Result<Option<(Membership, String)>, StateError> {
        let path = self.dir.join("membership.json");
        let (Some(text), Some(certificate)) = (read(&path)?, read(&self.dir.join("pki/node.crt"))?) else {
            return Ok(None);
        };
        let membership = serde_json::from_str(&text).map_err(|source| StateError::Damaged { path, source })?;
        Ok(Some((membership, certificate)))
    }

    /// Keeps a certificate, then what the cluster told with it.
    pub(super) fn keep(&self, membership: &Membership, certificate: &str) -> Result<(), StateError> {
        write(&self.dir.join("pki/node.crt"), certificate)?;
        let text = serde_json::to_string_pretty(membership).unwrap_or_default();
        write(&self.dir.join("membership.json"), &text)
    }
}

fn read(path: &Path) -> Result<Option<String>, StateError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StateError::File { action: "read", path: path.to_owned(), source }),
    }
}

/// Writes so that a reader, and a host that lost its power, sees the old or the new content whole.
fn write(path: &Path, text: &str) -> Result<(), StateError> {
    let fresh = path.with_extension("new");
    let written = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, path)?;
        path.parent().map_or(Ok(()), |dir| fs::File::open(dir)?.sync_all())
    };
    written().map_err(|source| StateError::File { action: "write", path: path.to_owned(), source })
}
