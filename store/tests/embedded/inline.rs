//! The store without a thread: the same behaviour, everything within the call, and the same bytes every time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use drover_store::embedded::{Embedded, Failure, Options, SimulatedDisk, Unsynced};
use drover_store::{Backend, Error, Operation, Range, Retention, State, Transaction};
use futures::{FutureExt, StreamExt};

use crate::model::{Model, options};

fn open(disk: &SimulatedDisk, options: Options) -> Arc<Embedded> {
    Embedded::open_inline(Arc::new(disk.clone()), options).unwrap()
}

fn put(key: u64, bytes: usize) -> Transaction {
    let operation = Operation::Put { key: Bytes::from(format!("/k/{key:06}")), value: Bytes::from(vec![7; bytes]) };
    Transaction { compares: vec![], operations: vec![operation] }
}

fn delete(key: u64) -> Transaction {
    let operation = Operation::Delete { key: Bytes::from(format!("/k/{key:06}")) };
    Transaction { compares: vec![], operations: vec![operation] }
}

#[test]
fn every_call_is_done_when_it_is_first_polled_and_needs_no_runtime() {
    let disk = SimulatedDisk::default();
    let store = open(&disk, options());
    let mut model = Model::default();
    let mut watch = store.watch(b"", 0).now_or_never().unwrap().unwrap();
    for key in 0..20 {
        let result = store.commit(put(key % 7, 100)).now_or_never().unwrap().unwrap();
        assert_eq!(result, model.commit(&put(key % 7, 100)));
        let events = watch.next().now_or_never().unwrap().unwrap().unwrap();
        assert_eq!(events[0].current.mod_revision, model.revision());
    }
    assert!(watch.next().now_or_never().is_none(), "nothing more has happened");
    store.compact(5).now_or_never().unwrap().unwrap();
    model.compact(5);
    assert_eq!(store.range(Range::default()).now_or_never().unwrap().unwrap().items.len(), 7);
    model.check(&store).now_or_never().unwrap();
    store.close();
    assert!(matches!(watch.next().now_or_never().unwrap().unwrap(), Err(Error::Unavailable(_))));
    let store = open(&disk.after_power_loss(Unsynced::Lost), options());
    // What is no longer in memory is read from the disk, in the call as well.
    model.check(&store).now_or_never().unwrap();
}

#[test]
fn maintenance_compacts_when_it_is_told_to() {
    let retention = Retention { keep_revisions: 10, interval: Duration::from_secs(3600) };
    let store = open(&SimulatedDisk::default(), Options { retention, ..options() });
    for key in 0..100 {
        store.commit(put(key % 3, 100)).now_or_never().unwrap().unwrap();
    }
    assert_eq!(store.health().compacted, 0);
    store.tick();
    let health = store.health();
    assert_eq!((health.compacted, health.purging, health.compactions), (90, false, 1));
    assert!(matches!(store.watch(b"", 89).now_or_never().unwrap(), Err(Error::Compacted { oldest: 90 })));
}

#[test]
fn a_full_disk_takes_deletes_and_is_left_at_a_tick() {
    let disk = SimulatedDisk::of_size(12 << 20, 2 << 20);
    let store = open(&disk, Options { reserve_bytes: 2 << 20, ..options() });
    let mut keys = 0;
    while store.commit(put(keys, 5_000)).now_or_never().unwrap().is_ok() {
        keys += 1;
    }
    assert_eq!(store.health().state, State::Full);
    for key in 0..keys {
        store.commit(delete(key)).now_or_never().unwrap().unwrap();
    }
    store.tick();
    assert_eq!(store.health().state, State::Serving);
    store.commit(put(0, 5_000)).now_or_never().unwrap().unwrap();
}

#[test]
fn a_disk_that_is_full_at_any_one_step_leaves_no_doubt_about_what_was_written() {
    for step in (0..).step_by(5) {
        let disk = SimulatedDisk::default();
        let store = open(&disk, options());
        let mut model = Model::default();
        let mut watch = store.changes(b"", 0).now_or_never().unwrap().unwrap();
        let mut seen = Vec::new();
        let planned_at = disk.steps() + step;
        disk.fail_step(step, Failure::Full);
        // The file grows, and is cut when most of it is free again.
        for round in 0..3 {
            for transaction in [put(round, 200_000), delete(round)] {
                match store.commit(transaction.clone()).now_or_never().unwrap() {
                    Ok(result) => assert_eq!(result, model.commit(&transaction), "step {step}"),
                    Err(Error::Full(_)) => {}
                    Err(error) => assert!(error.to_string().contains("sync"), "step {step}: {error}"),
                }
                while let Some(Some(Ok(changes))) = watch.next().now_or_never() {
                    seen.push(changes.revision);
                }
            }
            store.tick();
            drop(store.compact(model.revision()).now_or_never().unwrap());
        }
        assert_eq!(seen, (1..=model.revision()).collect::<Vec<_>>(), "step {step}");
        store.close();
        if disk.steps() < planned_at {
            return;
        }
    }
}

#[test]
fn a_failed_sync_ends_the_store() {
    let disk = SimulatedDisk::default();
    let store = open(&disk, options());
    disk.fail_sync(0);
    let error = store.commit(put(0, 10)).now_or_never().unwrap().unwrap_err();
    assert!(matches!(&error, Error::Broken(text) if text.contains("sync")), "{error:?}");
    store.tick();
    assert_eq!(store.commit(put(0, 10)).now_or_never().unwrap(), Err(error.clone()));
    assert_eq!(store.revision().now_or_never().unwrap(), Err(error));
}

#[test]
fn the_same_calls_give_the_same_bytes_also_torn() {
    let run = || {
        let disk = SimulatedDisk::default();
        let retention = Retention { keep_revisions: 20, interval: Duration::from_secs(3600) };
        let store = open(&disk, Options { retention, ..options() });
        disk.crash_before(2_000);
        for key in 0..1_000_u64 {
            let transaction = if key % 5 == 4 { delete(key % 13) } else { put(key % 13, 100) };
            if store.commit(transaction).now_or_never().unwrap().is_err() {
                break;
            }
            if key % 50 == 0 {
                store.tick();
            }
        }
        assert!(disk.crashed());
        (disk.after_power_loss(Unsynced::Torn(7)).contents(), disk.after_power_loss(Unsynced::Lost).contents())
    };
    let (first, second) = (run(), run());
    assert!(first == second, "two runs of the same calls differ");
    assert!(first.0 != first.1, "something was torn");
}
