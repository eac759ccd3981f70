//! The memory-only class keeps its bounds and its history.

use futures::StreamExt;

use super::*;

fn store(keys_max: usize, overflow: Overflow) -> Volatile {
    Volatile::new(5, vec![Limit { prefix: "/e/".to_owned(), keys_max, overflow }])
}

async fn put(store: &Volatile, key: &str, expected: Revision) -> Result<TransactionResult, Error> {
    let key = Bytes::copy_from_slice(key.as_bytes());
    store
        .commit(Transaction {
            compares: vec![Compare { key: key.clone(), mod_revision: expected }],
            operations: vec![Operation::Put { key, value: Bytes::from_static(b"v") }],
        })
        .await
}

async fn keys(store: &Volatile) -> Vec<String> {
    let found = store.range(Range::default()).await.expect("memory");
    found.items.iter().map(|item| String::from_utf8_lossy(&item.key).into_owned()).collect()
}

#[tokio::test]
async fn revisions_start_at_the_epoch_and_grow() {
    let store = store(9, Overflow::Refuse);
    assert_eq!(store.revision().await, Ok(5 << 32));
    assert_eq!(put(&store, "/e/a", 0).await, Ok(TransactionResult::Committed { revision: (5 << 32) + 1 }));
    assert!(matches!(put(&store, "/e/a", 0).await, Ok(TransactionResult::Conflict { .. })));
    assert_eq!(store.revision().await, Ok((5 << 32) + 1));
}

#[tokio::test]
async fn the_oldest_key_makes_room_in_the_same_revision() {
    let store = store(2, Overflow::EvictOldest);
    for key in ["/e/a", "/e/b", "/x/unbounded"] {
        put(&store, key, 0).await.expect("memory");
    }
    let mut watch = store.watch(b"/e/", (5 << 32) + 3).await.expect("recent");
    put(&store, "/e/a", (5 << 32) + 1).await.expect("memory");
    put(&store, "/e/c", 0).await.expect("memory");
    assert_eq!(keys(&store).await, ["/e/a", "/e/c", "/x/unbounded"], "b was written longest ago");
    assert_eq!(watch.next().await.expect("open").expect("no error").len(), 1);
    let batch = watch.next().await.expect("open").expect("no error");
    let told: Vec<_> = batch.iter().map(|event| (event.kind, event.current.mod_revision - (5 << 32))).collect();
    assert_eq!(told, [(EventKind::Delete, 5), (EventKind::Put, 5)]);
}

#[tokio::test]
async fn a_full_prefix_that_refuses_still_takes_updates() {
    let store = store(1, Overflow::Refuse);
    put(&store, "/e/a", 0).await.expect("memory");
    assert!(matches!(put(&store, "/e/b", 0).await, Err(Error::Full(_))));
    assert!(matches!(put(&store, "/e/a", (5 << 32) + 1).await, Ok(TransactionResult::Committed { .. })));
}

#[tokio::test]
async fn a_watch_of_another_epoch_is_refused() {
    let store = store(1, Overflow::Refuse);
    assert!(matches!(store.watch(b"/", (4 << 32) + 7).await, Err(Error::Compacted { .. })));
}
