//! Where the bytes go: the seam that lets tests inject faults, and the real directory behind it.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use redb::StorageBackend;

use crate::Error;

/// The disk under an embedded store.
pub trait Disk: fmt::Debug + Send + Sync + 'static {
    /// Opens the data file; `None` when there is none yet.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn open(&self) -> io::Result<Option<Box<dyn StorageBackend>>>;

    /// Makes an empty file, which [`Disk::publish`] makes the data file once it is filled and synced. A crash in
    /// between leaves no data file: redb cannot open one whose creation was cut short.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn create(&self) -> io::Result<Box<dyn StorageBackend>>;

    /// Makes the created file the data file, at once and durably.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn publish(&self) -> io::Result<()>;

    /// Sets space aside for the day the disk is full; does nothing when it is set aside already.
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`] when there is not enough.
    fn reserve(&self) -> io::Result<()>;

    /// Gives the space set aside back. Returns whether there was any.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn release(&self) -> io::Result<bool>;
}

const DATA_FILE: &str = "store.redb";
const NEW_DATA_FILE: &str = "store.redb.new";
const LOCK_FILE: &str = "store.lock";
const RESERVE_FILE: &str = "store.reserve";

/// A directory, locked by this process for as long as the value lives.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    reserve_bytes: u64,
    /// Closing it gives the lock up.
    _lock: File,
}

impl Directory {
    /// Makes the directory (mode 0700) when it is missing, and locks it.
    ///
    /// # Errors
    /// [`Error::Locked`] naming the process that holds it, [`Error::Full`], or [`Error::Broken`] when it cannot be used.
    pub fn lock(path: &Path, reserve_bytes: u64) -> Result<Self, Error> {
        let unusable = |err: &io::Error| io_error(&format!("data directory {}", path.display()), err);
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|err| unusable(&err))?;
        let mut lock = private().truncate(false).open(path.join(LOCK_FILE)).map_err(|err| unusable(&err))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::Locked(describe_holder(path, &mut lock))),
            Err(TryLockError::Error(err)) => return Err(unusable(&err)),
        }
        write_pid(&mut lock).map_err(|err| unusable(&err))?;
        Ok(Self { path: path.to_owned(), reserve_bytes, _lock: lock })
    }
}

impl Disk for Directory {
    fn open(&self) -> io::Result<Option<Box<dyn StorageBackend>>> {
        match File::options().read(true).write(true).open(self.path.join(DATA_FILE)) {
            Ok(file) => Ok(Some(Box::new(DataFile(file)))),
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(err) => Err(err),
        }
    }

    fn create(&self) -> io::Result<Box<dyn StorageBackend>> {
        let file = private().truncate(true).open(self.path.join(NEW_DATA_FILE))?;
        Ok(Box::new(DataFile(file)))
    }

    fn publish(&self) -> io::Result<()> {
        let new = self.path.join(NEW_DATA_FILE);
        File::open(&new)?.sync_all()?;
        fs::rename(new, self.path.join(DATA_FILE))?;
        File::open(&self.path)?.sync_all()
    }

    fn reserve(&self) -> io::Result<()> {
        let path = self.path.join(RESERVE_FILE);
        if fs::metadata(&path).is_ok_and(|meta| meta.len() >= self.reserve_bytes) || self.reserve_bytes == 0 {
            return Ok(());
        }
        let file = private().truncate(false).open(&path)?;
        // fallocate changes the length only when it got all the space, so a reserve of full length is a whole one.
        let allocated = rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, self.reserve_bytes);
        match allocated {
            Ok(()) => Ok(()),
            // File systems without fallocate: zeroes hold the space as well.
            Err(rustix::io::Errno::OPNOTSUPP) => fill(&file, self.reserve_bytes),
            Err(errno) => {
                fs::remove_file(&path)?;
                Err(errno.into())
            }
        }
    }

    fn release(&self) -> io::Result<bool> {
        match fs::remove_file(self.path.join(RESERVE_FILE)) {
            Ok(()) => Ok(true),
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(err) => Err(err),
        }
    }
}

/// Maps an I/O error to the store's terms.
pub(crate) fn io_error(what: &str, err: &io::Error) -> Error {
    if is_full(err) { Error::Full(format!("{what}: {err}")) } else { Error::Broken(format!("{what}: {err}")) }
}

/// Whether the error says that there is no room, as opposed to a failing disk.
pub(crate) fn is_full(err: &io::Error) -> bool {
    matches!(err.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Opens for reading and writing, making a file that only its owner may read.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).mode(0o600);
    options
}

fn describe_holder(path: &Path, lock: &mut File) -> String {
    let mut pid = String::new();
    let holder = match lock.read_to_string(&mut pid) {
        Ok(_) if !pid.trim().is_empty() => format!("process {}", pid.trim()),
        Ok(_) | Err(_) => "another process".to_owned(),
    };
    format!("data directory {} is in use by {holder}", path.display())
}

fn write_pid(lock: &mut File) -> io::Result<()> {
    lock.set_len(0)?;
    lock.rewind()?;
    // On a full disk the pid may not fit; the lock holds without it.
    match writeln!(lock, "{}", std::process::id()) {
        Err(err) if !is_full(&err) => Err(err),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn fill(file: &File, bytes: u64) -> io::Result<()> {
    static CHUNK: [u8; 65_536] = [0; 65_536];
    let mut offset = 0;
    while offset < bytes {
        file.write_all_at(&CHUNK, offset)?;
        offset += CHUNK.len() as u64;
    }
    Ok(())
}

/// Plain positioned reads and writes. Its lock is the directory's.
#[derive(Debug)]
struct DataFile(File);

impl StorageBackend for DataFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }
}
