//! Point reads and ranges.

use bytes::Bytes;
use drover_store::{Error, Operation, Range};

use crate::harness::{Harness, bytes, delete, owned, pair, pairs, put, put_op, under, write};

pub(crate) async fn a_key_that_was_never_written_is_none(harness: &mut dyn Harness) {
    let store = harness.backend();
    assert_eq!(store.get(b"/nothing").await.unwrap(), None);
    assert_eq!(pairs(&*store, under("/nothing")).await, []);
}

pub(crate) async fn a_key_is_read_back_with_its_revisions(harness: &mut dyn Harness) {
    let store = harness.backend();
    let revision = put(&*store, "/a", "1").await;
    let found = store.get(b"/a").await.unwrap().unwrap();
    assert_eq!(pair(&found), ("/a".to_owned(), "1".to_owned()));
    assert_eq!((found.create_revision, found.mod_revision), (revision, revision));
    assert_eq!(store.revision().await.unwrap(), revision);
}

pub(crate) async fn an_overwrite_keeps_the_create_revision_and_a_recreate_does_not(harness: &mut dyn Harness) {
    let store = harness.backend();
    let created = put(&*store, "/a", "1").await;
    let changed = put(&*store, "/a", "2").await;
    let found = store.get(b"/a").await.unwrap().unwrap();
    assert_eq!((found.create_revision, found.mod_revision), (created, changed));
    delete(&*store, "/a").await;
    assert_eq!(store.get(b"/a").await.unwrap(), None);
    let recreated = put(&*store, "/a", "3").await;
    let found = store.get(b"/a").await.unwrap().unwrap();
    assert_eq!((found.create_revision, found.mod_revision), (recreated, recreated));
}

pub(crate) async fn empty_values_and_binary_keys_are_kept_as_they_are(harness: &mut dyn Harness) {
    let store = harness.backend();
    let keys = [&b"k\0"[..], b"k\0\0", b"k\xff", b"k\xff\xff", b"k", b"k\x00\xff"];
    for key in keys {
        let put = Operation::Put { key: Bytes::from_static(key), value: Bytes::new() };
        write(&*store, vec![put]).await;
    }
    let mut sorted = keys.to_vec();
    sorted.sort_unstable();
    let all = store.range(under("k")).await.unwrap();
    assert_eq!(all.items.iter().map(|kv| kv.key.as_ref()).collect::<Vec<_>>(), sorted);
    for key in keys {
        assert_eq!(store.get(key).await.unwrap().unwrap().value, Bytes::new());
    }
    let narrowed = store.range(Range { prefix: Bytes::from_static(b"k\xff"), ..Range::default() }).await.unwrap();
    assert_eq!(narrowed.items.len(), 2, "a prefix that ends in 0xff has no successor of its own length");
}

pub(crate) async fn a_value_of_one_and_a_half_mebibytes_is_kept(harness: &mut dyn Harness) {
    let store = harness.backend();
    // etcd refuses requests over 1.5 MiB as a whole, so the value is a little smaller than that.
    let value: Bytes = (0..(3 << 19) - 1024_u32).map(|n| n.to_le_bytes()[0]).collect();
    write(&*store, vec![Operation::Put { key: bytes("/big"), value: value.clone() }]).await;
    write(&*store, vec![Operation::Put { key: bytes("/big"), value: value.clone() }]).await;
    assert_eq!(store.get(b"/big").await.unwrap().unwrap().value, value);
    let mut watch = crate::harness::Watch::open(&*store, "/big", store.revision().await.unwrap() - 1).await;
    assert_eq!(watch.next().await.unwrap()[0].previous.as_ref().unwrap().value, value);
}

pub(crate) async fn a_range_holds_the_keys_of_its_prefix_in_order(harness: &mut dyn Harness) {
    let store = harness.backend();
    for key in ["/a/2", "/b/1", "/a/10", "/a/1", "/a", "/a0"] {
        put(&*store, key, key).await;
    }
    let listed = pairs(&*store, under("/a/")).await;
    assert_eq!(listed, owned(&[("/a/1", "/a/1"), ("/a/10", "/a/10"), ("/a/2", "/a/2")]));
    assert_eq!(pairs(&*store, under("")).await.len(), 6, "the empty prefix is everything");
}

pub(crate) async fn pages_join_to_the_whole_without_gap_or_overlap(harness: &mut dyn Harness) {
    let store = harness.backend();
    let keys: Vec<_> = (0..23).map(|n| format!("/p/{n:02}")).collect();
    write(&*store, keys.iter().map(|key| put_op(key, "x")).collect()).await;
    put(&*store, "/q", "x").await;
    let mut paged = Vec::new();
    let mut after = Bytes::new();
    loop {
        let page = store.range(Range { after, limit: 5, ..under("/p/") }).await.unwrap();
        assert!(page.items.len() <= 5);
        paged.extend(page.items.iter().map(|kv| pair(kv).0));
        if !page.more {
            break;
        }
        after = page.items.last().unwrap().key.clone();
    }
    assert_eq!(paged, keys);
}

pub(crate) async fn a_limit_that_fits_exactly_leaves_no_more(harness: &mut dyn Harness) {
    let store = harness.backend();
    write(&*store, vec![put_op("/p/1", ""), put_op("/p/2", ""), put_op("/p/3", "")]).await;
    delete(&*store, "/p/3").await;
    let page = store.range(Range { limit: 2, ..under("/p/") }).await.unwrap();
    assert_eq!((page.items.len(), page.more), (2, false));
    let page = store.range(Range { limit: 1, ..under("/p/") }).await.unwrap();
    assert_eq!((page.items.len(), page.more), (1, true));
}

pub(crate) async fn a_page_may_start_after_a_key_that_is_gone(harness: &mut dyn Harness) {
    let store = harness.backend();
    write(&*store, vec![put_op("/p/1", ""), put_op("/p/2", ""), put_op("/p/3", "")]).await;
    delete(&*store, "/p/2").await;
    let page = store.range(Range { after: bytes("/p/2"), ..under("/p/") }).await.unwrap();
    assert_eq!(page.items.iter().map(|kv| pair(kv).0).collect::<Vec<_>>(), ["/p/3"]);
    let page = store.range(Range { after: bytes("/a"), ..under("/p/") }).await.unwrap();
    assert_eq!(page.items.len(), 2, "a position before the prefix is its beginning");
    let page = store.range(Range { after: bytes("/z"), ..under("/p/") }).await.unwrap();
    assert_eq!(page.items.len(), 0, "a position behind the prefix is its end");
}

pub(crate) async fn a_range_at_a_revision_shows_the_past(harness: &mut dyn Harness) {
    let store = harness.backend();
    let first = put(&*store, "/a", "1").await;
    let second = write(&*store, vec![put_op("/a", "2"), put_op("/b", "2")]).await;
    let third = delete(&*store, "/a").await;
    put(&*store, "/a", "4").await;
    let at = |revision| Range { at: Some(revision), ..under("/") };
    assert_eq!(pairs(&*store, at(first)).await, owned(&[("/a", "1")]));
    assert_eq!(pairs(&*store, at(second)).await, owned(&[("/a", "2"), ("/b", "2")]));
    assert_eq!(pairs(&*store, at(third)).await, owned(&[("/b", "2")]));
    let newest = store.range(at(first)).await.unwrap().revision;
    assert_eq!(newest, store.revision().await.unwrap(), "a read of the past tells the present revision");
}

pub(crate) async fn pages_at_one_revision_ignore_later_writes(harness: &mut dyn Harness) {
    let store = harness.backend();
    let at = write(&*store, vec![put_op("/p/1", "old"), put_op("/p/2", "old"), put_op("/p/4", "old")]).await;
    let first = store.range(Range { limit: 1, at: Some(at), ..under("/p/") }).await.unwrap();
    assert!(first.more);
    write(&*store, vec![put_op("/p/2", "new"), put_op("/p/3", "new"), Operation::Delete { key: bytes("/p/4") }]).await;
    let rest = Range { after: first.items[0].key.clone(), at: Some(at), ..under("/p/") };
    assert_eq!(pairs(&*store, rest).await, owned(&[("/p/2", "old"), ("/p/4", "old")]));
}

pub(crate) async fn a_range_in_the_future_is_refused(harness: &mut dyn Harness) {
    let store = harness.backend();
    let newest = put(&*store, "/a", "1").await;
    for asked in [newest + 1, newest + 1_000_000_000] {
        let error = store.range(Range { at: Some(asked), ..under("/") }).await.unwrap_err();
        assert_eq!(error, Error::Future { asked, newest });
    }
}

pub(crate) async fn ten_thousand_keys_are_listed(harness: &mut dyn Harness) {
    let store = harness.backend();
    for chunk in 0..100 {
        write(&*store, (0..100).map(|n| put_op(&format!("/many/{:05}", chunk * 100 + n), "value")).collect()).await;
    }
    let all = store.range(under("/many/")).await.unwrap();
    assert_eq!(all.items.len(), 10_000);
    assert!(all.items.is_sorted_by(|a, b| a.key < b.key));
}
