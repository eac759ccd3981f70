//! Power loss while many writers share commits; and the proof that these tests would notice.

use bytes::Bytes;
use drover_store::embedded::{SimulatedDisk, Unsynced};
use drover_store::{Backend, Operation, Transaction};
use futures::future::join_all;

use crate::model::open;

const WRITERS: u64 = 8;
const WRITES: u64 = 12;

#[tokio::test]
async fn no_power_loss_under_concurrent_writers_loses_an_acknowledged_write() {
    let mut points = 0;
    for step in (0..400).step_by(3) {
        let disk = SimulatedDisk::default();
        disk.crash_before(step);
        let acknowledged = count_up(&disk).await;
        for fate in [Unsynced::Lost, Unsynced::Torn(step)] {
            let lost = lost_writes(&disk.after_power_loss(fate), &acknowledged).await;
            assert!(lost.is_empty(), "step {step}, {fate:?}: {lost:?}");
            points += 1;
        }
    }
    println!("{points} crash points under {WRITERS} writers checked");
}

#[tokio::test]
async fn a_disk_that_lies_about_syncing_is_noticed_by_these_tests() {
    let disk = SimulatedDisk::that_lies_about_syncing_after(20);
    disk.crash_before(200);
    let acknowledged = count_up(&disk).await;
    let lost = lost_writes(&disk.after_power_loss(Unsynced::Lost), &acknowledged).await;
    assert!(!lost.is_empty(), "acknowledged {acknowledged:?}, and all is there without a single sync");
}

/// Each writer counts up in a key of its own. Returns the last number each was told is stored.
async fn count_up(disk: &SimulatedDisk) -> Vec<u64> {
    let Ok(store) = open(disk) else { return vec![0; 8] };
    let writers = (0..WRITERS).map(|writer| {
        let store = &store;
        async move {
            for number in 1..=WRITES {
                let value = Bytes::from(number.to_string());
                let operations = vec![Operation::Put { key: key(writer), value }];
                if store.commit(Transaction { compares: vec![], operations }).await.is_err() {
                    return number - 1;
                }
            }
            WRITES
        }
    });
    let acknowledged = join_all(writers).await;
    store.close();
    acknowledged
}

/// Writers whose stored number is smaller than what they were told.
async fn lost_writes(disk: &SimulatedDisk, acknowledged: &[u64]) -> Vec<u64> {
    let store = open(disk).unwrap();
    let mut lost = Vec::new();
    for (writer, told) in (0..WRITERS).zip(acknowledged) {
        let stored = store.get(&key(writer)).await.unwrap();
        let number = stored.map_or(0, |kv| std::str::from_utf8(&kv.value).unwrap().parse().unwrap());
        if number < *told {
            lost.push(writer);
        }
    }
    store.close();
    lost
}

fn key(writer: u64) -> Bytes {
    Bytes::from(format!("/writer/{writer}"))
}
