//! Storage of driver `drover.dev/local`: `<data dir>/volumes/<handle>/data`, beside a marker with the volume's uid.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::Storage;
use crate::volumes::{problem::Problem, tree};

/// The file that says whose directory it is.
const MARKER: &str = "volume-uid";
const DATA: &str = "data";

/// One volume's directory.
#[derive(Debug, Clone)]
pub(in crate::volumes) struct LocalStorage {
    root: PathBuf,
    handle: String,
    uid: String,
}

impl LocalStorage {
    /// `handle` becomes a directory's name below `root`.
    pub(in crate::volumes) fn new(root: &Path, handle: &str, uid: &str) -> Result<Self, Problem> {
        let fits = |text: &str| {
            let allowed = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
            allowed && !text.starts_with('.') && (1..=200).contains(&text.len())
        };
        if !fits(handle) || !fits(uid) {
            return Err(Problem::lasting(format!("volumeHandle {handle:?} cannot name a directory")));
        }
        Ok(Self { root: root.to_owned(), handle: handle.to_owned(), uid: uid.to_owned() })
    }

    /// What containers mount.
    pub(in crate::volumes) fn data(&self) -> PathBuf {
        self.directory().join(DATA)
    }

    pub(in crate::volumes) fn find(&self) -> Result<Storage, Problem> {
        self.look().map_err(|error| self.failed(&error))
    }

    /// Makes directory and marker in one step that a crash cannot cut in two.
    pub(in crate::volumes) fn create(&self) -> Result<(), Problem> {
        self.try_create().map_err(|error| self.failed(&error))
    }

    /// Removes the data if it is this volume's. Begun removals are finished; repeating it is harmless.
    pub(in crate::volumes) fn remove(&self) -> Result<(), Problem> {
        match self.find()? {
            Storage::Absent => {}
            // From here on the data is gone for everyone, though it may take a while to free it.
            Storage::Ours => {
                let moved = renameat_with(CWD, self.directory(), CWD, self.removed(), RenameFlags::NOREPLACE);
                moved.map_err(|errno| self.failed(&errno.into()))?;
            }
            Storage::Other(what) => {
                return Err(Problem::passing(format!("the data of {} is left alone: {what}", self.handle)));
            }
        }
        let sweep = || -> io::Result<()> {
            let root = match tree::open_trusted(&self.root) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                other => other?,
            };
            tree::remove(&root, &self.removed_name())?;
            tree::remove(&root, &self.new_name())
        };
        sweep().map_err(|error| self.failed(&error))
    }

    fn look(&self) -> io::Result<Storage> {
        let directory = self.directory();
        match fs::symlink_metadata(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Storage::Absent),
            Err(error) => return Err(error),
            Ok(meta) if !meta.is_dir() => return Ok(Storage::Other("it is no directory".to_owned())),
            Ok(_) => {}
        }
        let marker = match fs::read_to_string(directory.join(MARKER)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Storage::Other("its directory has no marker of ours".to_owned()));
            }
            other => other?,
        };
        let marker = marker.trim();
        if marker != self.uid && !drover_api::mutants::active("S07-anothers-data") {
            return Ok(Storage::Other(format!("its directory belongs to the volume with uid {marker:?}")));
        }
        match fs::symlink_metadata(self.data()) {
            Ok(meta) if meta.is_dir() => Ok(Storage::Ours),
            Ok(_) => Ok(Storage::Other("its data directory has been replaced".to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Ok(Storage::Other("its data directory has been removed".to_owned()))
            }
            Err(error) => Err(error),
        }
    }

    fn try_create(&self) -> io::Result<()> {
        // Pods see only the data directory; users of the host see nothing.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.root)?;
        let root = tree::open_trusted(&self.root)?;
        let new = self.root.join(self.new_name());
        tree::remove(&root, &self.new_name())?;
        fs::DirBuilder::new().mode(0o711).create(&new)?;
        fs::DirBuilder::new().mode(0o777).create(new.join(DATA))?;
        fs::set_permissions(new.join(DATA), fs::Permissions::from_mode(0o777))?;
        fs::write(new.join(MARKER), &self.uid)?;
        fs::File::open(new.join(MARKER))?.sync_all()?;
        fs::File::open(&new)?.sync_all()?;
        renameat_with(CWD, &new, CWD, self.directory(), RenameFlags::NOREPLACE)?;
        // Before the API hears of it, it is on disk.
        rustix::fs::fsync(&root)?;
        Ok(())
    }

    fn directory(&self) -> PathBuf {
        self.root.join(&self.handle)
    }

    fn new_name(&self) -> String {
        format!(".new.{}.{}", self.handle, self.uid)
    }

    fn removed_name(&self) -> String {
        format!(".removed.{}.{}", self.handle, self.uid)
    }

    fn removed(&self) -> PathBuf {
        self.root.join(self.removed_name())
    }

    fn failed(&self, error: &io::Error) -> Problem {
        Problem::io(&format!("storage of volume {}", self.handle), error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn storage(root: &Path, uid: &str) -> LocalStorage {
        LocalStorage::new(root, "pv-1", uid).unwrap()
    }

    #[test]
    fn a_directory_is_made_whole_and_known_by_its_marker() {
        let dir = tempfile::tempdir().unwrap();
        let (root, other) = (dir.path().join("volumes"), storage(&dir.path().join("volumes"), "u-2"));
        let ours = storage(&root, "u-1");
        assert_eq!(ours.find().unwrap(), Storage::Absent);
        ours.create().unwrap();
        assert_eq!(ours.find().unwrap(), Storage::Ours);
        assert!(matches!(other.find().unwrap(), Storage::Other(what) if what.contains("u-1")));
        fs::write(ours.data().join("file"), "x").unwrap();
        assert!(ours.create().is_err(), "never over what is there");
        assert!(other.create().is_err(), "never over what is there");
        assert!(ours.data().join("file").exists());
        fs::rename(ours.data(), root.join("elsewhere")).unwrap();
        assert!(matches!(ours.find().unwrap(), Storage::Other(_)), "an emptied directory is not ours");
    }

    #[test]
    fn only_its_own_data_is_removed_and_a_crash_in_between_is_made_good() {
        let dir = tempfile::tempdir().unwrap();
        let (ours, other) = (storage(dir.path(), "u-1"), storage(dir.path(), "u-2"));
        ours.remove().unwrap();
        ours.create().unwrap();
        fs::write(ours.data().join("file"), "x").unwrap();
        assert!(other.remove().is_err());
        assert!(ours.data().join("file").exists());
        // The crash comes after the rename.
        fs::rename(dir.path().join("pv-1"), dir.path().join(".removed.pv-1.u-1")).unwrap();
        assert_eq!(ours.find().unwrap(), Storage::Absent);
        ours.remove().unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_directory_without_our_marker_is_never_removed() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("pv-1/data")).unwrap();
        assert!(storage(dir.path(), "u-1").remove().is_err());
        assert!(dir.path().join("pv-1/data").exists());
    }

    #[test]
    fn a_handle_cannot_lead_elsewhere() {
        for handle in ["", ".", "..", "a/b", "../x", ".new.x", "a\0b"] {
            assert!(LocalStorage::new(Path::new("/x"), handle, "u").is_err(), "{handle:?}");
        }
    }
}
