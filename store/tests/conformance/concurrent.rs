//! Many writers at once.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use drover_store::{Backend, EventKind, KeyValue, Range, TransactionResult};
use futures::future::join_all;

use crate::harness::{Harness, changes_until, commit, compare, delete_op, pair, put, put_op, under, write};

pub(crate) async fn fifty_writers_with_compare_and_swap_lose_no_update(harness: &mut dyn Harness) {
    let store = harness.backend();
    put(&*store, "/counter", "0").await;
    join_all((0..50).map(|_| increment(&*store))).await;
    let total = store.get(b"/counter").await.unwrap().unwrap();
    assert_eq!(pair(&total).1, "50");
}

async fn increment(store: &dyn Backend) {
    let mut current = store.get(b"/counter").await.unwrap().unwrap();
    loop {
        let next = pair(&current).1.parse::<u64>().unwrap() + 1;
        let compares = vec![compare("/counter", current.mod_revision)];
        match commit(store, compares, vec![put_op("/counter", &next.to_string())]).await {
            TransactionResult::Committed { .. } => return,
            TransactionResult::Conflict { current: mut seen, .. } => current = seen.remove(0).unwrap(),
        }
    }
}

pub(crate) async fn one_of_many_concurrent_creates_wins(harness: &mut dyn Harness) {
    let store = harness.backend();
    let attempts = (0..30).map(|n| {
        let store = &store;
        async move { commit(&**store, vec![compare("/a", 0)], vec![put_op("/a", &n.to_string())]).await }
    });
    let results = join_all(attempts).await;
    let won = results.iter().filter(|result| matches!(result, TransactionResult::Committed { .. })).count();
    assert_eq!(won, 1);
}

pub(crate) async fn concurrent_transactions_get_different_revisions(harness: &mut dyn Harness) {
    let store = harness.backend();
    let keys: Vec<_> = (0..200).map(|n| format!("/k/{n}")).collect();
    let revisions: BTreeSet<_> = join_all(keys.iter().map(|key| put(&*store, key, "x"))).await.into_iter().collect();
    assert_eq!(revisions.len(), 200);
    let stored: BTreeSet<_> = store.range(under("/k/")).await.unwrap().items.iter().map(|kv| kv.mod_revision).collect();
    assert_eq!(stored, revisions);
}

pub(crate) async fn reads_after_an_acknowledged_write_see_it(harness: &mut dyn Harness) {
    let store = harness.backend();
    let writers = (0..20).map(|n| {
        let store = &store;
        async move {
            let key = format!("/k/{n}");
            for _ in 0..10 {
                let revision = put(&**store, &key, "x").await;
                assert_eq!(store.get(key.as_bytes()).await.unwrap().unwrap().mod_revision, revision);
                let listed = store.range(under("/k/")).await.unwrap();
                assert!(listed.revision >= revision);
                assert!(store.revision().await.unwrap() >= listed.revision);
            }
        }
    });
    join_all(writers).await;
}

pub(crate) async fn a_rebuilt_replica_equals_the_list_at_every_checked_revision(harness: &mut dyn Harness) {
    let store = harness.backend();
    let start = put(&*store, "/k/0", "start").await;
    let load = join_all((0..8).map(|writer| random_writes(&*store, writer)));
    let listings = async {
        let mut listings = Vec::new();
        for _ in 0..20 {
            tokio::task::yield_now().await;
            listings.push(store.range(under("/k/")).await.unwrap());
        }
        listings
    };
    let (_, mut listings) = tokio::join!(load, listings);
    listings.push(store.range(under("/k/")).await.unwrap());
    let newest = listings.iter().map(|listing| listing.revision).max().unwrap();

    let first = store.range(Range { at: Some(start), ..under("/k/") }).await.unwrap().items;
    let mut replica: BTreeMap<Bytes, KeyValue> = first.into_iter().map(|kv| (kv.key.clone(), kv)).collect();
    let mut states = BTreeMap::from([(start, replica.clone())]);
    for changes in changes_until(&*store, "/k/", start, newest).await {
        for event in changes.events {
            let key = event.current.key.clone();
            assert_eq!(event.previous.as_ref(), replica.get(&key), "the state before the event is the replica's");
            match event.kind {
                EventKind::Put => replica.insert(key, event.current),
                EventKind::Delete => replica.remove(&key),
            };
        }
        states.insert(changes.revision, replica.clone());
    }
    for listing in listings {
        let (_, state) = states.range(..=listing.revision).next_back().unwrap();
        assert_eq!(listing.items, state.values().cloned().collect::<Vec<_>>(), "list at {}", listing.revision);
    }
}

/// Puts, deletes and small transactions in an order that differs for each writer.
async fn random_writes(store: &dyn Backend, writer: u64) {
    for step in 0..40_u64 {
        let mixed = (writer * 40 + step).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let key = format!("/k/{}", mixed % 17);
        let operations = match mixed % 5 {
            0 => vec![delete_op(&key)],
            1 => vec![put_op(&key, &format!("{writer}.{step}")), delete_op("/k/other"), put_op("/k/third", "x")],
            _ => vec![put_op(&key, &format!("{writer}.{step}"))],
        };
        write(store, operations).await;
    }
}
