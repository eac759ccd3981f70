//! What outlives a restart, and what compaction takes away.

use drover_store::{Error, Range};

use crate::harness::{
    Harness, changes_until, compare, conflict, delete, delete_op, owned, pairs, put, put_op, under, watch_error, write,
};

pub(crate) async fn state_and_revision_survive_reopening(harness: &mut dyn Harness) {
    let store = harness.backend();
    put(&*store, "/a", "1").await;
    let kept = put(&*store, "/b", "2").await;
    let newest = delete(&*store, "/a").await;
    let before = store.range(under("/")).await.unwrap();
    drop(store);
    let store = harness.reopen().await;
    let after = store.range(under("/")).await.unwrap();
    assert_eq!(after.items, before.items);
    assert_eq!(after.items[0].mod_revision, kept);
    assert!(store.revision().await.unwrap() >= newest);
    assert!(put(&*store, "/c", "3").await > newest);
    conflict(crate::harness::commit(&*store, vec![compare("/b", 0)], vec![put_op("/b", "")]).await);
}

pub(crate) async fn a_watch_resumes_across_reopening(harness: &mut dyn Harness) {
    let store = harness.backend();
    let start = put(&*store, "/a", "1").await;
    let newest = write(&*store, vec![put_op("/b", "2"), delete_op("/a")]).await;
    let before = changes_until(&*store, "/", start, newest).await;
    drop(store);
    let store = harness.reopen().await;
    assert_eq!(changes_until(&*store, "/", start, newest).await, before);
}

pub(crate) async fn compaction_survives_reopening(harness: &mut dyn Harness) {
    let store = harness.backend();
    let first = put(&*store, "/a", "1").await;
    let second = put(&*store, "/a", "2").await;
    store.compact(second).await.unwrap();
    drop(store);
    let store = harness.reopen().await;
    assert_eq!(watch_error(&*store, "/", first).await, Error::Compacted { oldest: second });
    assert_eq!(pairs(&*store, Range { at: Some(second), ..under("/") }).await, owned(&[("/a", "2")]));
}

pub(crate) async fn the_revision_never_goes_back_when_everything_was_deleted_and_compacted(harness: &mut dyn Harness) {
    let store = harness.backend();
    put(&*store, "/a", "1").await;
    let newest = delete(&*store, "/a").await;
    store.compact(newest).await.unwrap();
    drop(store);
    let store = harness.reopen().await;
    assert!(store.revision().await.unwrap() >= newest);
    assert!(put(&*store, "/a", "2").await > newest);
}

pub(crate) async fn reads_at_compacted_revisions_are_refused_exactly_at_the_boundary(harness: &mut dyn Harness) {
    let store = harness.backend();
    let first = put(&*store, "/a", "1").await;
    let second = put(&*store, "/b", "2").await;
    let third = delete(&*store, "/a").await;
    store.compact(second).await.unwrap();
    let at = |revision| Range { at: Some(revision), ..under("/") };
    assert_eq!(store.range(at(first)).await, Err(Error::Compacted { oldest: second }));
    assert_eq!(pairs(&*store, at(second)).await, owned(&[("/a", "1"), ("/b", "2")]));
    assert_eq!(pairs(&*store, at(third)).await, owned(&[("/b", "2")]));
}

pub(crate) async fn compacting_twice_or_backwards_changes_nothing(harness: &mut dyn Harness) {
    let store = harness.backend();
    let first = put(&*store, "/a", "1").await;
    let second = put(&*store, "/a", "2").await;
    store.compact(second).await.unwrap();
    store.compact(second).await.unwrap();
    store.compact(first).await.unwrap();
    assert_eq!(watch_error(&*store, "/", first).await, Error::Compacted { oldest: second });
    assert_eq!(store.revision().await.unwrap(), second);
}

pub(crate) async fn compacting_the_future_is_refused(harness: &mut dyn Harness) {
    let store = harness.backend();
    let newest = put(&*store, "/a", "1").await;
    let asked = newest + 1;
    assert_eq!(store.compact(asked).await, Err(Error::Future { asked, newest }));
    assert_eq!(pairs(&*store, Range { at: Some(newest), ..under("/") }).await, owned(&[("/a", "1")]));
}

pub(crate) async fn live_keys_survive_compaction_whatever_their_age(harness: &mut dyn Harness) {
    let store = harness.backend();
    put(&*store, "/old", "untouched").await;
    put(&*store, "/gone", "x").await;
    for n in 0..50 {
        put(&*store, "/hot", &n.to_string()).await;
    }
    let newest = delete(&*store, "/gone").await;
    store.compact(newest).await.unwrap();
    assert_eq!(pairs(&*store, under("/")).await, owned(&[("/hot", "49"), ("/old", "untouched")]));
    let next = put(&*store, "/old", "touched").await;
    let changes = changes_until(&*store, "/", newest, next).await;
    assert_eq!(changes[0].events[0].previous.as_ref().unwrap().value, "untouched");
}
