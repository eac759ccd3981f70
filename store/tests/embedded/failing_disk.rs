//! After a failed sync nobody knows what is on the disk, so nothing is acknowledged any more.

use bytes::Bytes;
use drover_store::embedded::{SimulatedDisk, Unsynced};
use drover_store::{Backend, Error, Operation, Range, State, Transaction};
use futures::StreamExt;

use crate::model::open;

fn put(value: u64) -> Transaction {
    let operation = Operation::Put { key: Bytes::from_static(b"/a"), value: Bytes::from(value.to_string()) };
    Transaction { compares: vec![], operations: vec![operation] }
}

#[tokio::test]
async fn a_failed_sync_ends_the_store_even_when_the_next_one_would_succeed() {
    for failing in 0..6 {
        let disk = SimulatedDisk::default();
        let store = open(&disk).unwrap();
        let mut watch = store.watch(b"", 0).await.unwrap();
        disk.fail_sync(failing);
        let mut acknowledged = 0;
        let error = loop {
            match store.commit(put(acknowledged + 1)).await {
                Ok(_) => acknowledged += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(&error, Error::Broken(text) if text.contains("sync")), "{error:?}");
        assert_eq!(store.commit(put(99)).await, Err(error.clone()));
        assert_eq!(store.compact(1).await, Err(error.clone()));
        assert_eq!(store.get(b"/a").await, Err(error.clone()));
        assert_eq!(store.range(Range::default()).await, Err(error.clone()));
        assert_eq!(store.revision().await, Err(error.clone()));
        assert!(matches!(store.health().state, State::Broken { .. }));
        for _ in 0..acknowledged {
            watch.next().await.unwrap().unwrap();
        }
        assert_eq!(watch.next().await.unwrap(), Err(error), "a watch delivers what was acknowledged, then ends");
        store.close();

        let store = open(&disk.after_power_loss(Unsynced::Lost)).unwrap();
        let stored = store.get(b"/a").await.unwrap().map(|kv| kv.value);
        assert_eq!(stored, (acknowledged > 0).then(|| Bytes::from(acknowledged.to_string())));
    }
}

#[tokio::test]
async fn writes_queued_behind_a_failed_sync_all_fail() {
    let disk = SimulatedDisk::default();
    let store = open(&disk).unwrap();
    disk.fail_sync(0);
    let results = futures::future::join_all((0..50).map(|n| store.commit(put(n)))).await;
    assert!(results.iter().all(|result| matches!(result, Err(Error::Broken(_)))), "{results:?}");
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let store = open(&SimulatedDisk::default()).unwrap();
    let mut watch = store.watch(b"", 0).await.unwrap();
    store.commit(put(1)).await.unwrap();
    store.close();
    assert!(matches!(store.commit(put(2)).await, Err(Error::Unavailable(_))));
    assert!(matches!(store.get(b"/a").await, Err(Error::Unavailable(_))));
    let ended = loop {
        match watch.next().await.unwrap() {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(ended, Error::Unavailable(_)));
}
