//! A full disk refuses writes, never deletes or compaction, and is left again by itself.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use drover_store::embedded::{Embedded, Options, SimulatedDisk, Unsynced};
use drover_store::{Backend, Error, Operation, Range, Retention, State, Transaction};

use crate::model::options;

const RESERVE: usize = 2 << 20;

fn open(disk: &SimulatedDisk) -> Arc<Embedded> {
    // Maintenance every few milliseconds: the tests wait for what it does, not for the time it takes.
    let retention = Retention { keep_revisions: 1_000_000, interval: Duration::from_millis(5) };
    Embedded::open_on(Arc::new(disk.clone()), Options { retention, ..options() }).unwrap()
}

async fn put(store: &Embedded, key: u64, bytes: usize) -> Result<(), Error> {
    let operation = Operation::Put { key: Bytes::from(format!("/k/{key:06}")), value: Bytes::from(vec![7; bytes]) };
    store.commit(Transaction { compares: vec![], operations: vec![operation] }).await.map(|_| ())
}

async fn delete(store: &Embedded, key: u64) -> Result<(), Error> {
    let operation = Operation::Delete { key: Bytes::from(format!("/k/{key:06}")) };
    store.commit(Transaction { compares: vec![], operations: vec![operation] }).await.map(|_| ())
}

/// Writes until the disk is full. Returns how many keys were acknowledged.
async fn fill(store: &Embedded, bytes: usize) -> u64 {
    for key in 0.. {
        match put(store, key, bytes).await {
            Ok(()) => {}
            Err(Error::Full(_)) => return key,
            Err(error) => panic!("after {key} writes: {error}"),
        }
    }
    unreachable!("a finite disk fills up")
}

async fn wait_until(what: &str, store: &Embedded, mut reached: impl FnMut(&Embedded) -> bool) {
    let give_up = tokio::time::Instant::now() + Duration::from_secs(30);
    while !reached(store) {
        assert!(tokio::time::Instant::now() < give_up, "not in 30 s: {what}; {:?}", store.health());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_full_disk_refuses_writes_keeps_what_it_has_and_still_deletes() {
    for bytes in [100, 5_000, 300_000] {
        let disk = SimulatedDisk::of_size(7 << 20, RESERVE);
        let store = open(&disk);
        let keys = fill(&store, bytes).await;
        assert!(keys > 5, "{keys}");
        assert_eq!(store.health().state, State::Full);
        assert_eq!(store.range(Range::default()).await.unwrap().items.len() as u64, keys);
        for key in 0..keys.min(20) {
            delete(&store, key).await.unwrap();
        }
        store.compact(store.revision().await.unwrap()).await.unwrap();
        store.close();
        let store = open(&disk.after_power_loss(Unsynced::Lost));
        assert_eq!(store.range(Range::default()).await.unwrap().items.len() as u64, keys - keys.min(20));
    }
}

#[tokio::test]
async fn deleting_on_a_full_disk_makes_room_for_writes_without_help() {
    let disk = SimulatedDisk::of_size(12 << 20, RESERVE);
    let store = open(&disk);
    let keys = fill(&store, 5_000).await;
    for key in 0..keys {
        delete(&store, key).await.unwrap();
    }
    wait_until("space regained", &store, |store| store.health().state == State::Serving).await;
    put(&store, 0, 5_000).await.unwrap();
}

#[tokio::test]
async fn space_made_by_others_ends_the_full_state() {
    let disk = SimulatedDisk::of_size(12 << 20, RESERVE);
    let store = open(&disk);
    let mut keys = fill(&store, 5_000).await;
    // What the refused write gave back may have been enough for the reserve: now it cannot be.
    disk.resize(disk.used());
    while put(&store, keys, 5_000).await.is_ok() {
        keys += 1;
    }
    wait_until("a look for space in vain", &store, |store| store.health().maintenance_failures > 0).await;
    disk.resize(24 << 20);
    wait_until("space regained", &store, |store| store.health().state == State::Serving).await;
    for key in 0..100 {
        put(&store, keys + key, 5_000).await.unwrap();
    }
}

#[tokio::test]
async fn without_a_reserve_a_full_disk_loses_nothing_and_serves_reads() {
    let disk = SimulatedDisk::of_size(8 << 20, 0);
    let store = open(&disk);
    let keys = fill(&store, 5_000).await;
    assert_eq!(store.range(Range::default()).await.unwrap().items.len() as u64, keys);
    disk.resize(16 << 20);
    wait_until("a write succeeds again", &store, |store| store.health().state == State::Serving).await;
    put(&store, keys, 5_000).await.unwrap();
}
