//! The ledger's files: one for each pod, and the key.

use std::{
    collections::BTreeMap,
    fs, io,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{LedgerEntry, LedgerError, at};
use crate::{chance::Chance, ids::PodUid};

/// A ledger's directory.
#[derive(Debug, Clone)]
pub(super) struct Directory(Arc<Path>);

impl Directory {
    /// Makes the directory if it is not there.
    pub(super) fn open(path: &Path) -> Result<Self, LedgerError> {
        fs::create_dir_all(path).map_err(at("create", path))?;
        Ok(Self(path.into()))
    }

    /// The key; a new one if there is none.
    pub(super) fn key(&self) -> Result<Vec<u8>, LedgerError> {
        let path = self.0.join("key");
        match fs::read(&path) {
            Ok(key) if key.len() == 32 => return Ok(key),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(at("read", &path)(error)),
        }
        let key = Chance::System.key();
        let fresh = path.with_extension("new");
        write_durably(&fresh, &key).map_err(at("write", &fresh))?;
        fs::rename(&fresh, &path).map_err(at("write", &path))?;
        Ok(key.to_vec())
    }

    pub(super) fn entries(&self) -> Result<BTreeMap<PodUid, LedgerEntry>, LedgerError> {
        let mut entries = BTreeMap::new();
        for file in fs::read_dir(&self.0).map_err(at("read", &self.0))? {
            let path = file.map_err(at("read", &self.0))?.path();
            let uid = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".json"));
            if let Some(uid) = uid.and_then(PodUid::new) {
                // A file that a crash cut short still says that the pod was ours.
                let entry = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
                let unknown = LedgerEntry { namespace: String::new(), name: String::new() };
                entries.insert(uid, entry.unwrap_or(unknown));
            }
        }
        Ok(entries)
    }

    /// Writes an entry; it is on disk when this returns.
    pub(super) async fn enter(&self, pod: &PodUid, entry: &LedgerEntry) -> Result<(), LedgerError> {
        let path = self.path(pod);
        let bytes = serde_json::to_vec(entry).unwrap_or_default();
        let written = path.clone();
        let write = tokio::task::spawn_blocking(move || write_durably(&written, &bytes));
        write.await.unwrap_or_else(|panic| Err(io::Error::other(panic))).map_err(at("write", &path))
    }

    pub(super) fn forget(&self, pod: &PodUid) -> Result<(), LedgerError> {
        let path = self.path(pod);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at("remove", &path)(error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn path(&self, pod: &PodUid) -> PathBuf {
        self.0.join(format!("{pod}.json"))
    }
}

fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    if let Some(parent) = path.parent() {
        fs::File::open(parent)?.sync_data()?;
    }
    Ok(())
}
