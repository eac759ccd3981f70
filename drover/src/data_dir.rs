//! The files that a data directory holds besides the store's, the server's and the agent's own.

use std::{
    fs::{self, File, TryLockError},
    io::Write as _,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

/// Makes the directory (mode 0700) when it is missing.
pub(crate) fn ensure(dir: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("cannot make {}", dir.display()))
}

/// Takes the directory for this process until the returned file is dropped; its end of any kind gives it back.
pub(crate) fn lock(dir: &Path) -> Result<File> {
    let path = dir.join("lock");
    let options = fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).clone();
    let mut file = options.open(&path).with_context(|| format!("cannot open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let holder = fs::read_to_string(&path).unwrap_or_default();
            bail!("{} is in use by another process, pid {}", dir.display(), holder.trim());
        }
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("cannot lock {}", path.display()));
        }
    }
    file.set_len(0)?;
    write!(file, "{}", std::process::id())?;
    Ok(file)
}

/// Returns the cluster's name: the one kept in the directory, else the one given, else that of the cluster whose store
/// is used, else a new random one, which is kept.
pub(crate) fn cluster_name(dir: &Path, given: Option<&str>, of_store: Option<&str>) -> Result<String> {
    let path = dir.join("cluster-name");
    match fs::read_to_string(&path) {
        Ok(kept) => {
            let kept = kept.trim().to_owned();
            ensure!(
                given.is_none_or(|given| given == kept),
                "{} belongs to cluster {kept}: leave --cluster-name out, or use another --data-dir",
                dir.display()
            );
            Ok(kept)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let name = given
                .or(of_store)
                .map_or_else(|| format!("drover-{:06x}", rand::random::<u32>() & 0xff_ffff), str::to_owned);
            write(&path, name.as_bytes())?;
            Ok(name)
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Writes `server.json`: how scripts learn that the server serves, and where.
pub(crate) fn write_server_json(dir: &Path, url: &str) -> Result<()> {
    let content = json!({"pid": std::process::id(), "url": url, "version": env!("CARGO_PKG_VERSION")});
    write(&dir.join("server.json"), content.to_string().as_bytes())
}

/// Removes `server.json` at a clean end.
pub(crate) fn remove_server_json(dir: &Path) {
    if let Err(error) = fs::remove_file(dir.join("server.json")) {
        tracing::warn!(%error, "server.json not removed");
    }
}

/// Writes a file (mode 0600) so that a reader sees the old or the new content whole.
fn write(path: &Path, content: &[u8]) -> Result<()> {
    let fresh = path.with_extension("new");
    let written = (|| {
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&fresh, path)
    })();
    written.with_context(|| format!("cannot write {}", path.display()))
}
