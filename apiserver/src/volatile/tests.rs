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

mod kept {
    use std::sync::Arc;

    use bytes::Bytes;
    use drover_store::{Backend, Compare, Error, Operation, Transaction, TransactionResult};

    use super::super::{Volatile, kept::Kept};

    const ELECTION: &str = "/registry/coordination.k8s.io/leases/default/operator";
    const NODE: &str = "/registry/coordination.k8s.io/leases/kube-node-lease/n1";
    const OURS: &str = "/registry/coordination.k8s.io/leases/kube-system/drover-controllers";

    fn put(key: &str, value: &'static str, expected: u64) -> Transaction {
        Transaction {
            compares: vec![Compare { key: key.to_owned().into(), mod_revision: expected }],
            operations: vec![Operation::Put { key: key.to_owned().into(), value: value.into() }],
        }
    }

    async fn owner(durable: &Arc<dyn Backend>, epoch: u64) -> Kept {
        let record = put_record(&**durable).await;
        Kept::open(Volatile::new(epoch, Vec::new()), Arc::clone(durable), Some(record), Vec::new()).await.unwrap()
    }

    async fn put_record(durable: &dyn Backend) -> Compare {
        let operations = vec![Operation::Put { key: "owner".into(), value: Bytes::new() }];
        match durable.commit(Transaction { compares: vec![], operations }).await.unwrap() {
            TransactionResult::Committed { revision } => Compare { key: "owner".into(), mod_revision: revision },
            TransactionResult::Conflict { .. } => panic!("nothing was compared"),
        }
    }

    async fn value(backend: &dyn Backend, key: &str) -> Option<Bytes> {
        backend.get(key.as_bytes()).await.unwrap().map(|found| found.value)
    }

    #[tokio::test]
    async fn the_next_owner_finds_elections_but_no_heartbeats() {
        let durable: Arc<dyn Backend> = Arc::new(Volatile::new(1, Vec::new()));
        let first = owner(&durable, 5).await;
        for key in [ELECTION, NODE, OURS] {
            assert!(matches!(first.commit(put(key, "a", 0)).await, Ok(TransactionResult::Committed { .. })));
        }
        let second = owner(&durable, 6).await;
        assert_eq!(value(&second, ELECTION).await.as_deref(), Some(&b"a"[..]));
        assert_eq!((value(&second, NODE).await, value(&second, OURS).await), (None, None));
    }

    #[tokio::test]
    async fn an_owner_that_was_replaced_acknowledges_no_election() {
        let durable: Arc<dyn Backend> = Arc::new(Volatile::new(1, Vec::new()));
        let first = owner(&durable, 5).await;
        first.commit(put(ELECTION, "a", 0)).await.unwrap();
        let known = first.get(ELECTION.as_bytes()).await.unwrap().unwrap().mod_revision;
        let second = owner(&durable, 6).await;
        let late = first.commit(put(ELECTION, "late", known)).await;
        assert!(matches!(late, Err(Error::Unavailable(_))), "{late:?}");
        assert_eq!(value(&second, ELECTION).await.as_deref(), Some(&b"a"[..]));
        let known = second.get(ELECTION.as_bytes()).await.unwrap().unwrap().mod_revision;
        assert!(matches!(second.commit(put(ELECTION, "b", known)).await, Ok(TransactionResult::Committed { .. })));
        let stale = second.commit(put(ELECTION, "c", known)).await;
        assert!(matches!(stale, Ok(TransactionResult::Conflict { .. })), "{stale:?}");
        let third = owner(&durable, 7).await;
        assert_eq!(value(&third, ELECTION).await.as_deref(), Some(&b"b"[..]));
    }

    #[tokio::test]
    async fn a_deleted_election_stays_deleted() {
        let durable: Arc<dyn Backend> = Arc::new(Volatile::new(1, Vec::new()));
        let first = owner(&durable, 5).await;
        first.commit(put(ELECTION, "a", 0)).await.unwrap();
        let operations = vec![Operation::Delete { key: ELECTION.into() }];
        first.commit(Transaction { compares: vec![], operations }).await.unwrap();
        let second = owner(&durable, 6).await;
        assert_eq!(value(&second, ELECTION).await, None);
        assert!(matches!(second.commit(put(ELECTION, "b", 0)).await, Ok(TransactionResult::Committed { .. })));
    }
}
