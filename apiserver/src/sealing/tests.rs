//! Sealing over a memory store: what the store holds, what readers see, and every point at which a change of keys can be
//! cut short.

use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use drover_store::{
    ChangeStream, Compare, Error as StoreError, KeyValue, Operation, Range, RangeResult, Revision, Transaction,
    TransactionResult,
};
use futures::StreamExt;

use super::*;
use crate::{registry::testing::Fixed, volatile::Volatile};

const CANARY: &[u8] = br#"{"kind":"Secret","metadata":{"name":"a"},"data":{"x":"canary"}}"#;

/// Counts writes to the store and the key file; the one it stops at is lost, or its answer is.
#[derive(Debug)]
struct Crash {
    left: AtomicUsize,
    applied: bool,
}

impl Crash {
    fn never() -> Arc<Self> {
        Self::at(usize::MAX, false)
    }

    fn at(left: usize, applied: bool) -> Arc<Self> {
        Arc::new(Self { left: AtomicUsize::new(left), applied })
    }

    /// `None` after the crash, whether this step is the crash otherwise.
    fn step(&self) -> Option<bool> {
        match self.left.load(Ordering::Relaxed) {
            0 => None,
            left => {
                self.left.store(left - 1, Ordering::Relaxed);
                Some(left == 1)
            }
        }
    }

    fn is_dead(&self) -> bool {
        self.left.load(Ordering::Relaxed) == 0
    }
}

#[derive(Debug, Clone)]
struct Store {
    inner: Arc<Volatile>,
    crash: Arc<Crash>,
}

fn gone<T>() -> Result<T, StoreError> {
    Err(StoreError::Unavailable("crashed".to_owned()))
}

#[async_trait]
impl Backend for Store {
    async fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, StoreError> {
        if self.crash.is_dead() { gone() } else { self.inner.get(key).await }
    }

    async fn range(&self, range: Range) -> Result<RangeResult, StoreError> {
        if self.crash.is_dead() { gone() } else { self.inner.range(range).await }
    }

    async fn commit(&self, transaction: Transaction) -> Result<TransactionResult, StoreError> {
        match self.crash.step() {
            Some(false) => self.inner.commit(transaction).await,
            Some(true) if self.crash.applied => {
                self.inner.commit(transaction).await?;
                gone()
            }
            Some(true) | None => gone(),
        }
    }

    async fn changes(&self, prefix: &[u8], after: Revision) -> Result<ChangeStream, StoreError> {
        self.inner.changes(prefix, after).await
    }

    async fn revision(&self) -> Result<Revision, StoreError> {
        if self.crash.is_dead() { gone() } else { self.inner.revision().await }
    }

    async fn compact(&self, _: Revision) -> Result<(), StoreError> {
        if self.crash.is_dead() { gone() } else { Ok(()) }
    }
}

#[derive(Debug, Clone)]
struct Keys {
    ring: Arc<Mutex<Keyring>>,
    crash: Arc<Crash>,
}

impl KeyStore for Keys {
    fn load(&self) -> Result<Keyring, KeyStoreError> {
        Ok(self.ring.lock().unwrap().clone())
    }

    fn update(&self, change: &mut dyn FnMut(&mut Keyring)) -> Result<Keyring, KeyStoreError> {
        let gone = || KeyStoreError("crashed".to_owned());
        let crashes = self.crash.step().ok_or_else(gone)?;
        if !crashes || self.crash.applied {
            change(&mut self.ring.lock().unwrap());
        }
        if crashes { Err(gone()) } else { self.load() }
    }
}

/// What survives a crash.
#[derive(Debug, Clone)]
struct Disk {
    store: Arc<Volatile>,
    ring: Arc<Mutex<Keyring>>,
    environment: Arc<Fixed>,
}

impl Disk {
    fn new() -> Self {
        Self { store: Arc::new(Volatile::new(1, Vec::new())), ring: Arc::default(), environment: Arc::default() }
    }

    async fn start(&self, crash: &Arc<Crash>) -> Result<Arc<Sealed>, Error> {
        let store = Store { inner: Arc::clone(&self.store), crash: Arc::clone(crash) };
        let keys = Keys { ring: Arc::clone(&self.ring), crash: Arc::clone(crash) };
        Sealed::open(Arc::new(store), Arc::new(keys), self.environment.clone()).await
    }

    async fn raw(&self, name: &str) -> Bytes {
        self.store.get(secret(name).as_bytes()).await.unwrap().expect("stored").value
    }
}

fn secret(name: &str) -> String {
    format!("/registry/core/secrets/default/{name}")
}

fn put(key: String, value: &[u8], expected: Revision) -> Transaction {
    let key = Bytes::from(key);
    Transaction {
        compares: vec![Compare { key: key.clone(), mod_revision: expected }],
        operations: vec![Operation::Put { key, value: Bytes::copy_from_slice(value) }],
    }
}

async fn write(backend: &dyn Backend, name: &str, value: &[u8]) -> Result<(), StoreError> {
    let found = backend.get(secret(name).as_bytes()).await?.map_or(0, |found| found.mod_revision);
    match backend.commit(put(secret(name), value, found)).await? {
        TransactionResult::Committed { .. } => Ok(()),
        TransactionResult::Conflict { .. } => panic!("nobody else writes {name}"),
    }
}

async fn read(backend: &dyn Backend, name: &str) -> Option<Bytes> {
    backend.get(secret(name).as_bytes()).await.unwrap().map(|found| found.value)
}

#[tokio::test]
async fn the_store_never_sees_a_secret_and_readers_never_see_a_seal() {
    let disk = Disk::new();
    let sealed = disk.start(&Crash::never()).await.unwrap();
    let mut changes = sealed.changes(b"/registry/", sealed.revision().await.unwrap()).await.unwrap();
    write(&*sealed, "a", CANARY).await.unwrap();
    assert!(!disk.raw("a").await.windows(6).any(|window| window == b"canary"));
    assert_eq!(read(&*sealed, "a").await.as_deref(), Some(CANARY));
    let listed = sealed.range(Range { prefix: secret("").into(), ..Range::default() }).await.unwrap();
    assert_eq!(listed.items[0].value, CANARY);
    assert_eq!(changes.next().await.unwrap().unwrap().events[0].current.value, CANARY);
    write(&*sealed, "a", b"{}").await.unwrap();
    let event = changes.next().await.unwrap().unwrap().events.remove(0);
    assert_eq!(event.previous.expect("an update").value, CANARY);
    let pod = "/registry/core/pods/default/a".to_owned();
    sealed.commit(put(pod.clone(), CANARY, 0)).await.unwrap();
    assert_eq!(disk.store.get(pod.as_bytes()).await.unwrap().unwrap().value, CANARY, "pods are not sealed");
}

#[tokio::test]
async fn a_conflict_shows_only_what_the_caller_compared_and_opened() {
    let disk = Disk::new();
    let sealed = disk.start(&Crash::never()).await.unwrap();
    write(&*sealed, "a", CANARY).await.unwrap();
    let TransactionResult::Conflict { current, .. } = sealed.commit(put(secret("a"), b"{}", 0)).await.unwrap() else {
        panic!("the key exists");
    };
    assert_eq!(current.len(), 1);
    assert_eq!(current[0].as_ref().unwrap().value, CANARY);
}

#[tokio::test]
async fn plain_values_of_an_older_version_are_read_and_sealed_and_later_ones_refused() {
    let disk = Disk::new();
    disk.store.commit(put(secret("old"), CANARY, 0)).await.unwrap();
    let sealed = disk.start(&Crash::never()).await.unwrap();
    assert_eq!(read(&*sealed, "old").await.as_deref(), Some(CANARY));
    assert_eq!(sealed.report().await.unwrap().plain, 1);
    assert_eq!(sealed.reseal().await.unwrap(), 1);
    assert_eq!(read(&*sealed, "old").await.as_deref(), Some(CANARY));
    assert!(!disk.raw("old").await.windows(6).any(|window| window == b"canary"));
    // Somebody with access to the file, not to the keys.
    disk.store.commit(put(secret("planted"), CANARY, 0)).await.unwrap();
    assert_ne!(read(&*sealed, "planted").await.as_deref(), Some(CANARY));
    assert_eq!(sealed.report().await.unwrap().unreadable, [secret("planted")]);
}

#[tokio::test]
async fn a_value_moved_to_another_name_is_not_opened() {
    let disk = Disk::new();
    let sealed = disk.start(&Crash::never()).await.unwrap();
    write(&*sealed, "a", CANARY).await.unwrap();
    disk.store.commit(put(secret("b"), &disk.raw("a").await, 0)).await.unwrap();
    assert_eq!(sealed.report().await.unwrap().unreadable, [secret("b")]);
    assert!(matches!(sealed.retire("0000000000000000").await, Err(RotationError::NoSuchKey(_))));
    sealed.discard(&secret("b")).await.unwrap();
    assert!(matches!(sealed.discard(&secret("a")).await, Err(RotationError::Readable(_))));
    assert_eq!(sealed.report().await.unwrap().unreadable, [""; 0]);
}

#[tokio::test]
async fn a_start_without_the_key_is_refused_and_names_it() {
    let disk = Disk::new();
    disk.start(&Crash::never()).await.unwrap();
    let id = disk.ring.lock().unwrap().newest().unwrap().id();
    let other = Disk { ring: Arc::default(), ..disk.clone() };
    let error = other.start(&Crash::never()).await.unwrap_err();
    assert!(error.to_string().contains(&id.to_string()), "{error}");
    assert!(other.ring.lock().unwrap().is_empty(), "no second key was made");
}

#[tokio::test]
async fn a_server_that_missed_a_rotation_seals_with_the_new_key_or_not_at_all() {
    let disk = Disk::new();
    let (one, two) = (disk.start(&Crash::never()).await.unwrap(), disk.start(&Crash::never()).await.unwrap());
    let new = one.rotate().await.unwrap();
    write(&*two, "a", CANARY).await.unwrap();
    assert_eq!(key_id(&disk.raw("a").await), Some(new));
    // Its own copy of the key file, which nobody has updated.
    let stale = Disk { ring: Arc::new(Mutex::new(disk.ring.lock().unwrap().clone())), ..disk.clone() };
    let three = stale.start(&Crash::never()).await.unwrap();
    let newer = one.rotate().await.unwrap();
    let error = write(&*three, "b", CANARY).await.unwrap_err();
    assert!(error.to_string().contains(&newer.to_string()), "{error}");
    assert_eq!(read(&*one, "b").await, None);
}

#[tokio::test]
async fn a_key_is_retired_only_when_nothing_needs_it() {
    let disk = Disk::new();
    let sealed = disk.start(&Crash::never()).await.unwrap();
    write(&*sealed, "a", CANARY).await.unwrap();
    let old = sealed.report().await.unwrap().keys[0].id.clone();
    assert!(matches!(sealed.retire(&old).await, Err(RotationError::InUse(_))));
    let prepared = sealed.prepare().await.unwrap();
    assert!(matches!(sealed.retire(&prepared.to_string()).await, Err(RotationError::InUse(_))), "about to be used");
    assert_eq!(sealed.rotate().await.unwrap(), prepared, "a prepared key is the one that is used");
    assert!(matches!(sealed.retire(&old).await, Err(RotationError::Needed { values: 1, .. })));
    sealed.reseal().await.unwrap();
    sealed.retire(&old).await.unwrap();
    assert_eq!(read(&*sealed, "a").await.as_deref(), Some(CANARY));
}

/// Everything that writes, in the order an administrator does it; returns what was acknowledged.
async fn change_keys(disk: &Disk, crash: &Arc<Crash>) -> Vec<(&'static str, &'static [u8])> {
    let mut acknowledged: Vec<(&str, &[u8])> = vec![("old", CANARY)];
    let Ok(sealed) = disk.start(crash).await else { return acknowledged };
    for (name, value) in [("a", &b"{\"v\":1}"[..]), ("b", b"{\"v\":1}")] {
        if write(&*sealed, name, value).await.is_err() {
            return acknowledged;
        }
        acknowledged.push((name, value));
    }
    let old = disk.ring.lock().unwrap().newest().unwrap().id().to_string();
    if sealed.reseal().await.is_err() || sealed.rotate().await.is_err() {
        return acknowledged;
    }
    if write(&*sealed, "c", CANARY).await.is_ok() {
        acknowledged.push(("c", CANARY));
    }
    if sealed.reseal().await.is_ok() {
        // An error is the crash; what the disk then holds is checked after the restart.
        _ = sealed.retire(&old).await;
    }
    acknowledged
}

#[tokio::test]
async fn a_crash_at_any_write_loses_nothing_and_can_be_taken_up_again() {
    let mut points = 0;
    for applied in [false, true] {
        for at in 1.. {
            let disk = Disk::new();
            disk.store.commit(put(secret("old"), CANARY, 0)).await.unwrap();
            let crash = Crash::at(at, applied);
            let acknowledged = change_keys(&disk, &crash).await;
            let finished = !crash.is_dead();
            let sealed = disk.start(&Crash::never()).await.unwrap();
            for (name, value) in &acknowledged {
                assert_eq!(read(&*sealed, name).await.as_deref(), Some(*value), "{name}, crash {at} {applied}");
            }
            sealed.rotate().await.unwrap();
            sealed.reseal().await.unwrap();
            for key in sealed.report().await.unwrap().keys.iter().filter(|key| !key.primary) {
                sealed.retire(&key.id).await.unwrap();
            }
            let report = sealed.report().await.unwrap();
            assert_eq!((report.keys.len(), report.plain, report.unreadable.len()), (1, 0, 0), "crash {at} {applied}");
            assert!(report.keys[0].values >= acknowledged.len());
            if finished {
                break;
            }
            points += 1;
        }
    }
    assert!(points >= 20, "only {points} points");
}
