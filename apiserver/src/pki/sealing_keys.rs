//! `sealing.keys`: the file that holds the sealing keys.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use super::files;
use crate::sealing::{KeyStore, KeyStoreError, Keyring};

/// The keys of one `pki` directory, which several servers may share.
#[derive(Debug, Clone)]
pub struct SealingKeys {
    path: PathBuf,
}

impl SealingKeys {
    /// Names the file in a `pki` directory, which must exist; nothing is read yet.
    pub fn new(pki_dir: &Path) -> Self {
        Self { path: pki_dir.join("sealing.keys") }
    }

    /// Keeps other writers out until the returned file is dropped.
    fn lock(&self) -> Result<File, KeyStoreError> {
        let path = self.path.with_extension("lock");
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let locked = file.and_then(|file| file.lock().map(|()| file));
        locked.map_err(|error| KeyStoreError(format!("cannot lock {}: {error}", path.display())))
    }
}

impl KeyStore for SealingKeys {
    fn load(&self) -> Result<Keyring, KeyStoreError> {
        let text = files::read_secret(&self.path).map_err(|error| failed(&error))?.unwrap_or_default();
        Keyring::parse(&text).map_err(|why| KeyStoreError(format!("{} is damaged: {why}", self.path.display())))
    }

    fn update(&self, change: &mut dyn FnMut(&mut Keyring)) -> Result<Keyring, KeyStoreError> {
        let _lock = self.lock()?;
        let before = self.load()?;
        let mut after = before.clone();
        change(&mut after);
        if after != before {
            files::write_atomic(&self.path, after.render().as_bytes(), 0o600).map_err(|error| failed(&error))?;
        }
        Ok(after)
    }
}

/// One line with the cause: the caller's error has no place for a chain.
fn failed(error: &super::Error) -> KeyStoreError {
    use std::error::Error as _;
    let cause = error.source().map(|source| format!(": {source}")).unwrap_or_default();
    KeyStoreError(format!("{error}{cause}"))
}
