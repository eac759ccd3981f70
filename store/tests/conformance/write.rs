//! Transactions: preconditions, atomicity, revisions.

use crate::harness::{
    Harness, commit, committed, compare, conflict, delete, delete_op, owned, pairs, put, put_op, under, write,
};

pub(crate) async fn create_only_succeeds_once(harness: &mut dyn Harness) {
    let store = harness.backend();
    committed(commit(&*store, vec![compare("/a", 0)], vec![put_op("/a", "1")]).await);
    conflict(commit(&*store, vec![compare("/a", 0)], vec![put_op("/a", "2")]).await);
    assert_eq!(pairs(&*store, under("/")).await, owned(&[("/a", "1")]));
    delete(&*store, "/a").await;
    committed(commit(&*store, vec![compare("/a", 0)], vec![put_op("/a", "3")]).await);
}

pub(crate) async fn a_write_with_the_right_revision_succeeds_and_with_a_stale_one_conflicts(harness: &mut dyn Harness) {
    let store = harness.backend();
    let first = put(&*store, "/a", "1").await;
    let second = committed(commit(&*store, vec![compare("/a", first)], vec![put_op("/a", "2")]).await);
    conflict(commit(&*store, vec![compare("/a", first)], vec![put_op("/a", "3")]).await);
    committed(commit(&*store, vec![compare("/a", second)], vec![put_op("/a", "4")]).await);
}

pub(crate) async fn a_conflict_tells_the_current_state_of_every_compared_key(harness: &mut dyn Harness) {
    let store = harness.backend();
    let revision = write(&*store, vec![put_op("/a", "1"), put_op("/b", "2")]).await;
    let compares = vec![compare("/missing", 0), compare("/b", revision), compare("/a", 0)];
    let (current, at) = conflict(commit(&*store, compares, vec![put_op("/c", "")]).await);
    assert_eq!(at, revision);
    assert_eq!(current, [None, store.get(b"/b").await.unwrap(), store.get(b"/a").await.unwrap()]);
}

pub(crate) async fn a_conflict_writes_nothing_and_takes_no_revision(harness: &mut dyn Harness) {
    let store = harness.backend();
    let revision = put(&*store, "/a", "1").await;
    conflict(commit(&*store, vec![compare("/a", 0)], vec![put_op("/b", "2"), delete_op("/a")]).await);
    assert_eq!(pairs(&*store, under("/")).await, owned(&[("/a", "1")]));
    assert_eq!(store.revision().await.unwrap(), revision);
}

pub(crate) async fn the_writes_of_a_transaction_share_one_revision(harness: &mut dyn Harness) {
    let store = harness.backend();
    put(&*store, "/old", "1").await;
    let revision = write(&*store, vec![put_op("/b", "2"), delete_op("/old"), put_op("/a", "1")]).await;
    let items = store.range(under("/")).await.unwrap().items;
    assert_eq!(items.len(), 2);
    assert!(items.iter().all(|kv| kv.mod_revision == revision));
    assert_eq!(store.revision().await.unwrap(), revision);
}

pub(crate) async fn a_compare_may_be_on_another_key_than_the_write(harness: &mut dyn Harness) {
    let store = harness.backend();
    let lease = put(&*store, "/lease", "me").await;
    committed(commit(&*store, vec![compare("/lease", lease)], vec![put_op("/a", "1")]).await);
    put(&*store, "/lease", "someone else").await;
    conflict(commit(&*store, vec![compare("/lease", lease)], vec![put_op("/a", "2")]).await);
}

pub(crate) async fn every_compare_must_hold(harness: &mut dyn Harness) {
    let store = harness.backend();
    let a = put(&*store, "/a", "1").await;
    let b = put(&*store, "/b", "1").await;
    conflict(commit(&*store, vec![compare("/a", a), compare("/b", a)], vec![put_op("/c", "1")]).await);
    committed(commit(&*store, vec![compare("/a", a), compare("/b", b)], vec![put_op("/c", "1")]).await);
}

pub(crate) async fn deleting_a_missing_key_takes_no_revision(harness: &mut dyn Harness) {
    let store = harness.backend();
    let revision = put(&*store, "/a", "1").await;
    assert_eq!(delete(&*store, "/missing").await, revision);
    assert_eq!(store.revision().await.unwrap(), revision);
    let both = write(&*store, vec![delete_op("/missing"), delete_op("/a")]).await;
    assert!(both > revision);
}

pub(crate) async fn a_transaction_without_operations_takes_no_revision(harness: &mut dyn Harness) {
    let store = harness.backend();
    let revision = put(&*store, "/a", "1").await;
    assert_eq!(committed(commit(&*store, vec![compare("/a", revision)], vec![]).await), revision);
    conflict(commit(&*store, vec![compare("/a", 0)], vec![]).await);
}

pub(crate) async fn a_delete_with_a_stale_revision_conflicts(harness: &mut dyn Harness) {
    let store = harness.backend();
    let stale = put(&*store, "/a", "1").await;
    put(&*store, "/a", "2").await;
    conflict(commit(&*store, vec![compare("/a", stale)], vec![delete_op("/a")]).await);
    assert_eq!(pairs(&*store, under("/")).await, owned(&[("/a", "2")]));
}

pub(crate) async fn revisions_strictly_increase(harness: &mut dyn Harness) {
    let store = harness.backend();
    let mut last = store.revision().await.unwrap();
    for n in 0..50 {
        let revision = if n % 5 == 4 { delete(&*store, "/a").await } else { put(&*store, "/a", "x").await };
        assert!(revision > last);
        last = revision;
    }
    assert_eq!(store.revision().await.unwrap(), last);
}
