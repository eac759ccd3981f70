//! What happens when the disk is full, and what is remembered when it fails.
//!
//! [`Guarded`] sits between redb and the disk. On the first "no space" it gives the reserve back and tries again, so
//! that the write in progress, and deletes and compaction after it, still fit; the writer refuses other writes until
//! the reserve is whole again. A failed sync is remembered for ever: the kernel may have dropped the pages, so a
//! later sync that succeeds proves nothing (fsyncgate).

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use redb::StorageBackend;

use super::disk::{Disk, is_full};

/// What the disk has been through.
#[derive(Debug, Default)]
pub(crate) struct SpaceState {
    full: AtomicBool,
    failure: OnceLock<String>,
    file_bytes: AtomicU64,
    syncs: AtomicU64,
}

impl SpaceState {
    /// Whether the reserve is in use.
    pub(crate) fn is_full(&self) -> bool {
        self.full.load(Ordering::Acquire)
    }

    /// The first error that cannot be recovered from.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    pub(crate) fn file_bytes(&self) -> u64 {
        self.file_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    pub(crate) fn enter_full(&self) {
        self.full.store(true, Ordering::Release);
    }

    pub(crate) fn leave_full(&self) {
        self.full.store(false, Ordering::Release);
    }

    fn fail(&self, what: &str, err: &io::Error) {
        // Only the first failure is kept: the later ones follow from it.
        self.failure.get_or_init(|| format!("{what}: {err}"));
    }
}

/// A data file whose failures are noticed.
#[derive(Debug)]
pub(crate) struct Guarded {
    inner: Box<dyn StorageBackend>,
    disk: Arc<dyn Disk>,
    state: Arc<SpaceState>,
}

impl Guarded {
    pub(crate) fn new(inner: Box<dyn StorageBackend>, disk: Arc<dyn Disk>, state: Arc<SpaceState>) -> Self {
        Self { inner, disk, state }
    }

    fn with_reserve(&self, what: &str, attempt: impl Fn() -> io::Result<()>) -> io::Result<()> {
        let first = attempt();
        let full = match &first {
            Ok(()) => return first,
            Err(err) => is_full(err),
        };
        if !full {
            return first.inspect_err(|err| self.state.fail(what, err));
        }
        self.state.enter_full();
        // A reserve that cannot be released is no reserve: the "no space" error stands.
        let has_reserve = !drover_api::mutants::active("D05-no-reserve");
        if has_reserve && self.disk.release().unwrap_or(false) {
            tracing::warn!("no space left on the store's disk; using the reserve, only deletes are accepted");
            return attempt().inspect_err(|err| {
                if !is_full(err) {
                    self.state.fail(what, err);
                }
            });
        }
        first
    }
}

impl StorageBackend for Guarded {
    fn len(&self) -> io::Result<u64> {
        let len = self.inner.len().inspect_err(|err| self.state.fail("length of data file", err))?;
        self.state.file_bytes.store(len, Ordering::Relaxed);
        Ok(len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out).inspect_err(|err| self.state.fail("read of data file", err))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with_reserve("resize of data file", || self.inner.set_len(len))?;
        self.state.file_bytes.store(len, Ordering::Relaxed);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.state.syncs.fetch_add(1, Ordering::Relaxed);
        if drover_api::mutants::active("D01-acks-before-durable") {
            return Ok(());
        }
        let synced = self.inner.sync_data();
        if drover_api::mutants::active("D06-sync-error-ignored") {
            return Ok(());
        }
        synced.inspect_err(|err| self.state.fail("sync of data file", err))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.with_reserve("write of data file", || self.inner.write(offset, data))
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }
}
