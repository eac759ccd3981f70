//! Reading and writing secrets: atomic, private, and picky about modes.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::Path,
};

use super::Error;

/// Creates a directory of mode 0700, or checks that an existing one lets nobody else in.
pub(super) fn ensure_private_dir(dir: &Path) -> Result<(), Error> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|source| failed("create", dir, source))?;
    check_mode(dir, 0o700)
}

/// Reads a secret; `None` when it does not exist.
pub(super) fn read_secret(path: &Path) -> Result<Option<String>, Error> {
    let Some(text) = read(path)? else { return Ok(None) };
    check_mode(path, 0o600)?;
    Ok(Some(text))
}

/// Reads a file; `None` when it does not exist.
pub(super) fn read(path: &Path) -> Result<Option<String>, Error> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(failed("read", path, source)),
    }
}

/// Replaces a file whole: a crash leaves the old one or the new one.
pub(super) fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let temporary = path.with_extension("new");
    let write = || -> io::Result<()> {
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
    };
    write().map_err(|source| failed("write", path, source))
}

/// Reads a P-256 key in PKCS#8 PEM, making it when it is missing.
pub(super) fn ensure_key(path: &Path) -> Result<String, Error> {
    if let Some(pem) = read_secret(path)? {
        return Ok(pem);
    }
    let key =
        rcgen::KeyPair::generate().map_err(|source| Error::Issue { subject: path.display().to_string(), source })?;
    let pem = key.serialize_pem();
    write_atomic(path, pem.as_bytes(), 0o600)?;
    Ok(pem)
}

/// The kernel's host name, when it has one.
pub(super) fn host_name() -> Option<String> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty() && name != "(none)")
}

fn check_mode(path: &Path, wanted: u32) -> Result<(), Error> {
    let mode = fs::metadata(path).map_err(|source| failed("read", path, source))?.mode() & 0o7777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(Error::Mode { path: path.to_owned(), mode, wanted }) }
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> Error {
    Error::File { action, path: path.to_owned(), source }
}
