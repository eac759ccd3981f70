//! The file is bounded by what is live and what is retained, not by how much was ever written.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use drover_store::embedded::{Embedded, Options, SimulatedDisk};
use drover_store::{Backend, Error, Operation, Range, Retention, Transaction};
use futures::StreamExt;
use futures::future::join_all;

use crate::model::options;

async fn put(store: &Embedded, key: u64, round: u64) {
    let value = Bytes::from(format!("{round:01000}"));
    let operation = Operation::Put { key: Bytes::from(format!("/k/{key}")), value };
    store.commit(Transaction { compares: vec![], operations: vec![operation] }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hot_store_compacts_itself_and_its_file_stops_growing() {
    let disk = SimulatedDisk::default();
    let retention = Retention { keep_revisions: 500, interval: Duration::from_millis(5) };
    let store = Embedded::open_on(Arc::new(disk.clone()), Options { retention, ..options() }).unwrap();
    // A watcher that never reads must not hold anything back.
    let mut pinned = store.watch(b"", 0).await.unwrap();
    let mut sizes = Vec::new();
    for round in 0..40 {
        join_all((0..500).map(|key| put(&store, key % 100, round))).await;
        sizes.push(disk.used());
    }
    let health = store.health();
    assert!(health.compactions > 0, "{health:?}");
    assert_eq!(health.maintenance_failures, 0);
    let (half_way, end) = (sizes[19], sizes[39]);
    println!("data file after 10,000 and 20,000 updates of 100 keys of 1 KB: {half_way} and {end} bytes");
    assert!(end <= half_way * 3 / 2, "still growing: {sizes:?}");
    let oldest = loop {
        match pinned.next().await.unwrap() {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(oldest, Error::Compacted { .. }));
    assert_eq!(store.range(Range::default()).await.unwrap().items.len(), 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_at_rest_gives_back_what_it_grew_by_and_keeps_what_is_in_it() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let retention = Retention { keep_revisions: 0, interval: Duration::from_millis(5) };
    let store = Embedded::open(dir.path(), Options { retention, ..Options::default() }).unwrap();
    let key = |number: u32| Bytes::from(format!("/k/{number}"));
    // Ten megabytes: enough for the file to be worth it.
    let value = Bytes::from("x".repeat(100_000));
    let puts = (0..100).map(|number| Operation::Put { key: key(number), value: value.clone() });
    join_all(puts.map(|put| store.commit(Transaction { compares: vec![], operations: vec![put] }))).await;
    let (grown, revision) = (store.health().file_bytes, store.health().revision);
    let operations = (1..100).map(|number| Operation::Delete { key: key(number) }).collect();
    store.commit(Transaction { compares: vec![], operations }).await.unwrap();
    while store.health().file_bytes > grown / 4 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(store.revision().await.unwrap(), revision + 1);
    let kept = store.range(Range::default()).await.unwrap().items;
    assert_eq!(kept.iter().map(|item| (&item.key, &item.value)).collect::<Vec<_>>(), [(&key(0), &value)]);
    assert_eq!(store.health().maintenance_failures, 0);
}
