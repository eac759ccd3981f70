//! Power loss before every single step of a workload, and of the recovery after it.

use bytes::Bytes;
use drover_store::embedded::{Embedded, SimulatedDisk, Unsynced};
use drover_store::{Backend, Compare, Error, Operation, Transaction};

use crate::model::{Model, open};

const FATES: [Unsynced; 4] = [Unsynced::Lost, Unsynced::Kept, Unsynced::Torn(1), Unsynced::Torn(2)];

/// One thing the workload does.
#[derive(Debug, Clone)]
enum Action {
    Commit(Transaction),
    Compact(u64),
}

/// What is known when the power goes: the state that was acknowledged, and the one that may have been reached.
#[derive(Debug)]
struct Known {
    acknowledged: Model,
    possible: Model,
}

#[tokio::test]
async fn no_power_loss_at_any_step_loses_an_acknowledged_write_or_half_a_transaction() {
    let script = script();
    let (disk, known) = run(&SimulatedDisk::default(), &script).await;
    assert_eq!(known.acknowledged, known.possible, "without a crash everything is acknowledged");
    let steps = disk.steps();
    let mut points = 0;
    for step in 0..steps {
        let disk = SimulatedDisk::default();
        disk.crash_before(step);
        let (disk, known) = run(&disk, &script).await;
        for fate in FATES {
            check(&disk.after_power_loss(fate), &known, &format!("step {step}, {fate:?}")).await;
            points += 1;
        }
    }
    println!("{points} crash points checked: {steps} steps, unsynced writes lost, kept, and torn two ways");
}

#[tokio::test]
async fn no_power_loss_during_recovery_from_a_power_loss_loses_anything() {
    let script = script();
    let steps = run(&SimulatedDisk::default(), &script).await.0.steps();
    let mut points = 0;
    // Every step of recovery, after a crash at every eleventh step of the workload.
    for step in (0..steps).step_by(11) {
        let disk = SimulatedDisk::default();
        disk.crash_before(step);
        let (disk, known) = run(&disk, &script).await;
        for (first, second) in [
            (Unsynced::Lost, Unsynced::Torn(3)),
            (Unsynced::Torn(4), Unsynced::Lost),
            (Unsynced::Torn(5), Unsynced::Torn(6)),
        ] {
            let mut recovery_step = 0;
            loop {
                let disk = disk.after_power_loss(first);
                disk.crash_before(recovery_step);
                if let Ok(store) = open(&disk) {
                    store.close();
                }
                if !disk.crashed() {
                    break;
                }
                let what = format!("step {step}, {first:?}, recovery step {recovery_step}, {second:?}");
                check(&disk.after_power_loss(second), &known, &what).await;
                points += 1;
                recovery_step += 1;
            }
        }
    }
    println!("{points} double crash points checked");
}

/// Works through the script until the disk crashes.
async fn run(disk: &SimulatedDisk, script: &[Action]) -> (SimulatedDisk, Known) {
    let mut known = Known { acknowledged: Model::default(), possible: Model::default() };
    if let Ok(store) = open(disk) {
        for action in script {
            if act(&store, action, &mut known).await.is_err() {
                break;
            }
        }
        store.close();
    }
    (disk.clone(), known)
}

async fn act(store: &Embedded, action: &Action, known: &mut Known) -> Result<(), Error> {
    match action {
        Action::Commit(transaction) => {
            let expected = known.possible.commit(transaction);
            assert_eq!(store.commit(transaction.clone()).await?, expected);
        }
        Action::Compact(revision) => {
            known.possible.compact(*revision);
            store.compact(*revision).await?;
        }
    }
    known.acknowledged = known.possible.clone();
    Ok(())
}

async fn check(disk: &SimulatedDisk, known: &Known, what: &str) {
    let store = open(disk).unwrap_or_else(|error| panic!("{what}: does not open: {error}"));
    let revision = store.revision().await.unwrap();
    let compacted = store.health().compacted;
    let reached = [&known.acknowledged, &known.possible]
        .into_iter()
        .find(|model| model.revision() == revision && model.compacted == compacted);
    let model = reached.unwrap_or_else(|| {
        let (acknowledged, possible) = (known.acknowledged.revision(), known.possible.revision());
        panic!("{what}: revision {revision}, compacted {compacted}; acknowledged {acknowledged}, possible {possible}")
    });
    model.check(&store).await;
    // It is alive, and no revision is used twice.
    let mut next = model.clone();
    let transaction = Transaction { compares: vec![], operations: vec![put("/after", "crash")] };
    assert_eq!(store.commit(transaction.clone()).await.unwrap(), next.commit(&transaction), "{what}");
    store.close();
}

fn put(key: &str, value: &str) -> Operation {
    Operation::Put { key: Bytes::copy_from_slice(key.as_bytes()), value: Bytes::copy_from_slice(value.as_bytes()) }
}

fn delete(key: &str) -> Operation {
    Operation::Delete { key: Bytes::copy_from_slice(key.as_bytes()) }
}

fn commit(operations: Vec<Operation>) -> Action {
    Action::Commit(Transaction { compares: vec![], operations })
}

/// Creates, changes, deletes, transactions of several keys, values over many pages, conflicts, compactions.
fn script() -> Vec<Action> {
    let large = "large ".repeat(3000);
    let mut script = vec![commit(vec![put("/a", "1")]), commit(vec![put("/b", "1"), put("/c", "1")])];
    for round in 0..4 {
        let value = format!("round {round}");
        script.extend([
            commit(vec![put("/a", &value), delete("/b"), put("/d", &value)]),
            commit(vec![put("/large", &large), put("/b", &value)]),
            commit(vec![delete("/d")]),
            Action::Commit(Transaction {
                compares: vec![Compare { key: Bytes::from_static(b"/a"), mod_revision: 0 }],
                operations: vec![put("/never", "written")],
            }),
            commit((0..12).map(|n| put(&format!("/many/{n}"), &value)).collect()),
            Action::Compact(3 + round * 5),
            commit(vec![delete("/large"), delete("/missing")]),
        ]);
    }
    script.push(commit(vec![put("/end", "")]));
    script
}
