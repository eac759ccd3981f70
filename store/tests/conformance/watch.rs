//! Watches: contiguous, ordered, whole revisions, no event twice, or an honest error.

use drover_store::{Backend, Error, EventKind};

use crate::harness::{Harness, Watch, changes_until, delete, delete_op, put, put_op, watch_error, write};

pub(crate) async fn a_watch_delivers_what_happened_after_its_revision_in_order(harness: &mut dyn Harness) {
    let store = harness.backend();
    put(&*store, "/a", "1").await;
    let after = put(&*store, "/a", "2").await;
    put(&*store, "/b", "3").await;
    put(&*store, "/a", "4").await;
    delete(&*store, "/b").await;
    let mut watch = Watch::open(&*store, "/", after).await;
    assert_eq!(watch.text().await, "+/b=3");
    assert_eq!(watch.text().await, "~/a=4 (2)");
    assert_eq!(watch.text().await, "-/b (3)");
}

pub(crate) async fn a_watch_goes_on_with_live_events(harness: &mut dyn Harness) {
    let store = harness.backend();
    let after = put(&*store, "/a", "0").await;
    let mut watch = Watch::open(&*store, "/", after).await;
    for n in 1..=20 {
        let revision = put(&*store, "/a", &n.to_string()).await;
        let events = watch.next().await.unwrap();
        assert_eq!(events.len(), 1);
        assert_eq!(events[0].current.mod_revision, revision);
    }
}

pub(crate) async fn an_event_carries_the_state_before_it(harness: &mut dyn Harness) {
    let store = harness.backend();
    let created = put(&*store, "/a", "1").await;
    let changed = put(&*store, "/a", "2").await;
    let deleted = delete(&*store, "/a").await;
    let mut watch = Watch::open(&*store, "/", created).await;
    let change = watch.next().await.unwrap().remove(0);
    let previous = change.previous.unwrap();
    assert_eq!((previous.create_revision, previous.mod_revision), (created, created));
    assert_eq!((change.current.create_revision, change.current.mod_revision), (created, changed));
    let delete = watch.next().await.unwrap().remove(0);
    assert_eq!(delete.kind, EventKind::Delete);
    assert_eq!((delete.current.value.len(), delete.current.mod_revision), (0, deleted));
    assert_eq!(delete.previous.unwrap().mod_revision, changed);
}

pub(crate) async fn a_transaction_arrives_as_one_item_in_key_order(harness: &mut dyn Harness) {
    let store = harness.backend();
    let after = put(&*store, "/b", "0").await;
    write(&*store, vec![put_op("/c", "1"), delete_op("/missing"), put_op("/a", "1"), delete_op("/b")]).await;
    put(&*store, "/d", "2").await;
    let mut watch = Watch::open(&*store, "/", after).await;
    assert_eq!(watch.text().await, "+/a=1 -/b (0) +/c=1");
    assert_eq!(watch.text().await, "+/d=2");
}

pub(crate) async fn a_big_transaction_arrives_as_one_item(harness: &mut dyn Harness) {
    let store = harness.backend();
    let after = put(&*store, "/x", "0").await;
    // A hundred operations of 12 KiB: with the state before them, more than etcd puts into one message.
    let value = "v".repeat(12 << 10);
    let writes = || (0..100).map(|n| put_op(&format!("/big/{n:03}"), &value)).collect();
    write(&*store, writes()).await;
    write(&*store, writes()).await;
    let mut watch = Watch::open(&*store, "/big/", after).await;
    for has_previous in [false, true] {
        let events = watch.next().await.unwrap();
        assert_eq!(events.len(), 100);
        assert!(events.is_sorted_by(|a, b| a.current.key < b.current.key));
        assert!(events.iter().all(|event| event.previous.is_some() == has_previous));
    }
}

pub(crate) async fn a_watch_sees_its_prefix_only(harness: &mut dyn Harness) {
    let store = harness.backend();
    let after = put(&*store, "/a/1", "0").await;
    let mut watch = Watch::open(&*store, "/a/", after).await;
    put(&*store, "/b/1", "1").await;
    write(&*store, vec![put_op("/a", "2"), put_op("/a/2", "2"), put_op("/a0", "2")]).await;
    assert_eq!(watch.text().await, "+/a/2=2");
}

pub(crate) async fn changes_tell_of_revisions_that_touch_other_keys(harness: &mut dyn Harness) {
    let store = harness.backend();
    let after = put(&*store, "/a/1", "0").await;
    let newest = put(&*store, "/b/1", "1").await;
    let changes = changes_until(&*store, "/a/", after, newest).await;
    assert!(changes.iter().all(|changes| changes.events.is_empty()));
    assert_eq!(changes.last().unwrap().revision, newest);
}

pub(crate) async fn a_watch_resumed_at_every_revision_continues_exactly_there(harness: &mut dyn Harness) {
    let store = harness.backend();
    let start = put(&*store, "/a", "start").await;
    let newest = mixed_writes(&*store).await;
    let whole: Vec<_> = changes_until(&*store, "/", start, newest).await;
    for after in start..newest {
        let resumed = changes_until(&*store, "/", after, newest).await;
        let expected: Vec<_> = whole.iter().filter(|changes| changes.revision > after).cloned().collect();
        assert_eq!(resumed, expected, "resumed after {after}");
    }
}

pub(crate) async fn a_watch_in_the_future_is_refused(harness: &mut dyn Harness) {
    let store = harness.backend();
    let newest = put(&*store, "/a", "1").await;
    for asked in [newest + 1, newest + 1_000_000_000] {
        assert_eq!(watch_error(&*store, "/", asked).await, Error::Future { asked, newest });
    }
}

pub(crate) async fn a_watch_from_before_the_compaction_is_refused_exactly_at_the_boundary(harness: &mut dyn Harness) {
    let store = harness.backend();
    let start = put(&*store, "/a", "start").await;
    let newest = mixed_writes(&*store).await;
    let whole = changes_until(&*store, "/", start, newest).await;
    for compacted in start + 1..=newest {
        store.compact(compacted).await.unwrap();
        let refused = watch_error(&*store, "/", compacted - 1).await;
        assert_eq!(refused, Error::Compacted { oldest: compacted });
        let resumed = changes_until(&*store, "/", compacted, newest).await;
        let expected: Vec<_> = whole.iter().filter(|changes| changes.revision > compacted).cloned().collect();
        assert_eq!(resumed, expected, "compacted at {compacted}");
    }
    assert_eq!(watch_error(&*store, "/", 0).await, Error::Compacted { oldest: newest });
}

pub(crate) async fn an_open_watch_survives_compaction_of_what_it_has_seen(harness: &mut dyn Harness) {
    let store = harness.backend();
    let after = put(&*store, "/a", "1").await;
    let mut watch = Watch::open(&*store, "/", after).await;
    let seen = put(&*store, "/a", "2").await;
    assert_eq!(watch.text().await, "~/a=2 (1)");
    store.compact(seen).await.unwrap();
    delete(&*store, "/a").await;
    assert_eq!(watch.text().await, "-/a (2)");
}

pub(crate) async fn a_stalled_watch_gets_everything_or_is_told_that_it_was_compacted(harness: &mut dyn Harness) {
    let store = harness.backend();
    let after = put(&*store, "/a", "start").await;
    let mut watch = Watch::open(&*store, "/", after).await;
    // 30 MB of history: more than any buffer between the store and a watcher that does not read.
    let value = "v".repeat(100 << 10);
    let mut revisions = Vec::new();
    for _ in 0..300 {
        revisions.push(put(&*store, "/a", &value).await);
    }
    let newest = revisions.pop().unwrap();
    store.compact(newest).await.unwrap();
    let mut expected = revisions.into_iter().chain([newest]);
    loop {
        match watch.next().await {
            Ok(events) => {
                let next = expected.next().expect("no more events than writes");
                assert_eq!(events[0].current.mod_revision, next, "a gap that was not announced");
                if next == newest {
                    return;
                }
            }
            Err(error) => {
                assert_eq!(error, Error::Compacted { oldest: newest });
                return;
            }
        }
    }
}

/// Creates, changes, deletes, recreates, and transactions of several keys.
async fn mixed_writes(store: &dyn Backend) -> u64 {
    put(store, "/b", "1").await;
    put(store, "/a", "2").await;
    delete(store, "/b").await;
    write(store, vec![put_op("/c", "3"), put_op("/b", "3"), delete_op("/a")]).await;
    put(store, "/a", "4").await;
    delete(store, "/c").await;
    delete(store, "/b").await;
    put(store, "/b", "5").await
}
