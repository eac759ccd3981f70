//! The directory on a real file system: modes, the lock, and how fast it opens.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use bytes::Bytes;
use drover_store::embedded::{Embedded, Options};
use drover_store::{Backend, Error, Operation, Transaction};

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
