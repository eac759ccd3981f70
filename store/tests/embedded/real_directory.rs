//! The directory on a real file system: modes, the lock, and how fast it opens.

use std::ffi::CString;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use drover_store::embedded::{Embedded, Options};
use drover_store::{Backend, Error, Operation, Range, Retention, State, Transaction};
use rustix::mount::{MountFlags, UnmountFlags};

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn nobody_but_the_owner_may_read_it() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("deep/data");
    let _store = Embedded::open(&dir, Options::default()).unwrap();
    assert_eq!(mode(&dir), 0o700);
    let files: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 3, "{files:?}");
    for file in files {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}

#[test]
fn a_second_process_is_told_who_has_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let first = Embedded::open(dir.path(), Options::default()).unwrap();
    let error = Embedded::open(dir.path(), Options::default()).unwrap_err();
    let Error::Locked(text) = &error else { panic!("{error:?}") };
    assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
    assert!(text.contains(&dir.path().display().to_string()), "{text}");
    first.close();
    Embedded::open(dir.path(), Options::default()).unwrap();
}

#[test]
fn a_file_of_something_else_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("store.redb");
    std::fs::write(&file, b"not a database, but perhaps somebody's diary").unwrap();
    assert!(matches!(Embedded::open(dir.path(), Options::default()), Err(Error::Broken(_))));
    assert_eq!(std::fs::read(&file).unwrap(), b"not a database, but perhaps somebody's diary");
}

#[tokio::test]
async fn a_directory_whose_creation_was_interrupted_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("store.redb.new"), vec![0; 10_000]).unwrap();
    let store = Embedded::open(dir.path(), Options::default()).unwrap();
    let operations = vec![Operation::Put { key: Bytes::from_static(b"/a"), value: Bytes::new() }];
    store.commit(Transaction { compares: vec![], operations }).await.unwrap();
}

/// A file system of its own in memory, gone with the value.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None`, loudly, for who may not mount.
    fn mount(size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let options = CString::new(format!("size={size}")).unwrap();
        match rustix::mount::mount("tmpfs", dir.path(), "tmpfs", MountFlags::empty(), options.as_c_str()) {
            Ok(()) => Some(Self(dir)),
            Err(error) => {
                eprintln!("SKIPPED: cannot mount a small disk, which takes root: {error}");
                None
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        rustix::mount::unmount(self.0.path(), UnmountFlags::DETACH).unwrap();
    }
}

#[tokio::test]
async fn a_really_full_disk_still_deletes_and_is_left_by_itself() {
    let Some(disk) = SmallDisk::mount("40m") else { return };
    let dir = disk.0.path().join("data");
    let retention = Retention { interval: Duration::from_millis(50), ..Retention::default() };
    let options = Options { reserve_bytes: 8 << 20, retention, ..Options::default() };
    let store = Embedded::open(&dir, options).unwrap();
    let ballast = disk.0.path().join("ballast");
    std::fs::write(&ballast, vec![0; 10 << 20]).unwrap();
    let key = |n: u32| Bytes::from(format!("/k/{n:05}"));
    let commit = |operation| store.commit(Transaction { compares: vec![], operations: vec![operation] });
    let mut keys = 0;
    while let Ok(_stored) = commit(Operation::Put { key: key(keys), value: Bytes::from(vec![1; 20_000]) }).await {
        keys += 1;
    }
    assert_eq!(store.health().state, State::Full);
    for n in 0..keys / 2 {
        commit(Operation::Delete { key: key(n) }).await.unwrap();
    }
    std::fs::remove_file(ballast).unwrap();
    let give_up = Instant::now() + Duration::from_secs(30);
    while store.health().state != State::Serving {
        assert!(Instant::now() < give_up, "{:?}", store.health());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    commit(Operation::Put { key: key(keys), value: Bytes::from(vec![1; 20_000]) }).await.unwrap();
    store.close();
    let store = Embedded::open(&dir, options).unwrap();
    let kept = store.range(Range::default()).await.unwrap().items.len();
    assert_eq!(kept as u32, keys - keys / 2 + 1);
    store.close();
}
