//! What a sweep repeats: a script, the disk it runs on, what is known when it is cut short, and the check afterwards.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use drover_store::embedded::{Embedded, Failure, Options, SimulatedDisk};
use drover_store::{
    Backend, Changes, Compare, Error, Operation, Range, Retention, Revision, State, Transaction, TransactionResult,
};
use futures::{FutureExt, StreamExt};

use crate::model::Model;

/// What the store is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Creation,
    Writing,
    Compacting,
    /// A look for space, with the file shrunk if need be.
    Maintenance,
    Reopening,
    Recovery,
}

impl Phase {
    pub(crate) const ALL: [Self; 6] =
        [Self::Creation, Self::Writing, Self::Compacting, Self::Maintenance, Self::Reopening, Self::Recovery];
}

/// One thing the script does.
#[derive(Debug, Clone)]
enum Action {
    Commit(Transaction),
    Compact(Revision),
    Tick,
    Reopen,
}

/// A script and its disk.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    script: Vec<Action>,
    /// Size and reserve of the disk; `None` is without bounds.
    size: Option<(usize, usize)>,
    /// For the positive control: after so many syncs the disk only says that it syncs.
    pub(crate) lies_after: Option<u64>,
}

/// What is known when a run ends.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Every state there was, or may have been.
    possible: Model,
    /// Revision and compaction that were acknowledged.
    acknowledged: (Revision, Revision),
    /// An answer that was not the model's.
    wrong_answer: Option<String>,
    /// Steps by phase.
    pub(crate) steps: [u64; Phase::ALL.len()],
}

/// What a check found.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// Something acknowledged is gone, or something is there that nobody wrote.
    #[error("lost: {0}")]
    Lost(String),
    /// A revision went back, or would be used twice.
    #[error("regression: {0}")]
    Regression(String),
    /// The store does not go on.
    #[error("stuck: {0}")]
    Stuck(String),
}

impl Scenario {
    /// A new disk for a run.
    pub(crate) fn disk(&self) -> SimulatedDisk {
        match (self.size, self.lies_after) {
            (Some((capacity, reserve)), _) => SimulatedDisk::of_size(capacity, reserve),
            (None, Some(syncs)) => SimulatedDisk::that_lies_about_syncing_after(syncs),
            (None, None) => SimulatedDisk::default(),
        }
    }

    pub(crate) fn open(&self, disk: &SimulatedDisk) -> Result<Arc<Embedded>, Error> {
        Embedded::open_inline(Arc::new(disk.clone()), self.options())
    }

    /// A store that compacts only when told to, and reads from the disk, not from memory.
    pub(crate) fn options(&self) -> Options {
        let retention = Retention { keep_revisions: u64::MAX, interval: Duration::from_secs(3600) };
        Options { retention, reserve_bytes: 0, cache_bytes: 64 << 10 }
    }

    /// How many actions it has.
    pub(crate) fn len(&self) -> usize {
        self.script.len()
    }

    /// What is known after so many acknowledged actions: the next one may have happened.
    pub(crate) fn known_after(&self, acknowledged: usize) -> Known {
        let mut known = Known::default();
        for (n, action) in self.script.iter().take(acknowledged + 1).enumerate() {
            match action {
                Action::Commit(transaction) => {
                    known.possible.commit(transaction);
                }
                Action::Compact(revision) => known.possible.compact((*revision).min(known.possible.revision())),
                Action::Tick | Action::Reopen => {}
            }
            if n < acknowledged {
                known.acknowledged = (known.possible.revision(), known.possible.compacted);
            }
        }
        known
    }

    /// Plays the script in a real directory, and calls `acknowledge` after each action.
    pub(crate) async fn play(
        &self,
        dir: &Path,
        with_thread: bool,
        mut acknowledge: impl FnMut() -> std::io::Result<()>,
    ) -> Result<(), Box<dyn std::error::Error>> {
        let mut store = self.open_directory(dir, with_thread)?;
        for action in &self.script {
            match action {
                Action::Commit(transaction) => {
                    store.commit(transaction.clone()).await?;
                }
                Action::Compact(revision) => store.compact((*revision).min(store.revision().await?)).await?,
                Action::Tick => store.tick(),
                Action::Reopen => {
                    store.close();
                    drop(store);
                    store = self.open_directory(dir, with_thread)?;
                }
            }
            acknowledge()?;
        }
        Ok(())
    }

    /// Works through the script until the disk ends it.
    pub(crate) fn run(&self, disk: &SimulatedDisk) -> Known {
        let (known, store) = self.run_and_keep(disk);
        if let Some(store) = store {
            store.close();
        }
        known
    }

    /// [`Scenario::run`], without the end.
    pub(crate) fn run_and_keep(&self, disk: &SimulatedDisk) -> (Known, Option<Arc<Embedded>>) {
        let mut known = Known::default();
        let Ok(mut store) = self.open(disk) else { return (known, None) };
        let mut counted = disk.steps();
        known.steps[Phase::Creation as usize] = counted;
        for action in &self.script {
            let phase = match action {
                Action::Reopen => {
                    store.close();
                    match self.open(disk) {
                        Ok(opened) => store = opened,
                        Err(_) => return (known, None),
                    }
                    Phase::Reopening
                }
                Action::Tick => {
                    store.tick();
                    Phase::Maintenance
                }
                Action::Commit(transaction) => {
                    if !known.commit(&store, transaction) {
                        return (known, Some(store));
                    }
                    Phase::Writing
                }
                Action::Compact(revision) => {
                    if !known.compact(&store, *revision) {
                        return (known, Some(store));
                    }
                    Phase::Compacting
                }
            };
            known.steps[phase as usize] += disk.steps() - counted;
            counted = disk.steps();
        }
        (known, Some(store))
    }

    /// Opens what the run left behind, and compares.
    pub(crate) fn check(&self, disk: &SimulatedDisk, known: &Known) -> Result<(), Fault> {
        // What was kept may fill the disk; that is another sweep's business.
        disk.resize(usize::MAX / 2);
        // redb may panic on what a lying disk leaves; an honest one leaves nothing that makes it.
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let store = self.open(disk).map_err(|error| Fault::Stuck(format!("does not open: {error}")))?;
            let compared = known.compare(&store);
            store.close();
            compared
        }))
        .unwrap_or_else(|_panic| Err(Fault::Stuck("panics".to_owned())))
    }
}

impl Known {
    /// Returns whether the run goes on.
    fn commit(&mut self, store: &Embedded, transaction: &Transaction) -> bool {
        let before = self.possible.revision();
        let expected = self.possible.commit(transaction);
        match now(store.commit(transaction.clone())) {
            Ok(result) => {
                if result != expected {
                    self.wrong_answer = Some(format!("{transaction:?} was answered {result:?}, right is {expected:?}"));
                    return false;
                }
                // On a full disk a delete is compacted at once.
                self.possible.compact(store.health().compacted);
                self.acknowledged = (self.possible.revision(), self.possible.compacted);
                true
            }
            Err(Error::Full(_)) => {
                // It says that nothing was written.
                self.possible.states.split_off(&(before + 1));
                self.possible.compact(store.health().compacted);
                true
            }
            Err(_) => false,
        }
    }

    fn compact(&mut self, store: &Embedded, revision: Revision) -> bool {
        let revision = revision.min(self.possible.revision());
        let before = self.possible.compacted;
        self.possible.compact(revision);
        match now(store.compact(revision)) {
            Ok(()) => {
                self.acknowledged.1 = self.possible.compacted;
                true
            }
            Err(Error::Full(_)) => {
                self.possible.compacted = before;
                true
            }
            Err(_) => false,
        }
    }

    /// Compares a store with what it may be, and sees whether it goes on.
    pub(crate) fn compare(&self, store: &Embedded) -> Result<(), Fault> {
        if let Some(wrong) = &self.wrong_answer {
            return Err(Fault::Lost(wrong.clone()));
        }
        let stuck = |error: Error| Fault::Stuck(error.to_string());
        let revision = now(store.revision()).map_err(stuck)?;
        let compacted = store.health().compacted;
        let (acknowledged, acknowledged_compacted) = self.acknowledged;
        if revision < acknowledged || compacted < acknowledged_compacted {
            return Err(Fault::Regression(format!(
                "at {revision} ({compacted}), acknowledged {:?}",
                self.acknowledged
            )));
        }
        if revision > self.possible.revision() {
            return Err(Fault::Lost(format!("at {revision}, which nobody wrote")));
        }
        let listed = now(store.range(Range::default())).map_err(stuck)?.items;
        let expected = self.possible.states.get(&revision);
        if !expected.is_some_and(|expected| listed.iter().eq(expected.values())) {
            return Err(Fault::Lost(format!("at {revision} there is {listed:?}")));
        }
        let mut expected = self.possible.changes(compacted);
        expected.retain(|changes| changes.revision <= revision);
        let found = history(store, compacted, revision).map_err(stuck)?;
        if found != expected {
            return Err(Fault::Lost(format!("history after {compacted} is {found:?}")));
        }
        let transaction = Transaction { compares: vec![], operations: vec![put("/after", "all")] };
        match now(store.commit(transaction)).map_err(stuck)? {
            TransactionResult::Committed { revision: next } if next == revision + 1 => Ok(()),
            other => Err(Fault::Regression(format!("after {revision} came {other:?}"))),
        }
    }
}

/// A full disk takes a delete of what is there, when it has a reserve; with space again everything works by itself.
pub(crate) fn heals(store: &Embedded, disk: &SimulatedDisk, known: &Known) -> Result<(), String> {
    if let Some(wrong) = &known.wrong_answer {
        return Err(wrong.clone());
    }
    let mut model = known.possible.clone();
    if store.health().state == State::Full && disk.reserve_bytes() > 0 {
        let first = model.keys().keys().next().cloned();
        if let Some(key) = first {
            let transaction = Transaction { compares: vec![], operations: vec![Operation::Delete { key }] };
            let expected = model.commit(&transaction);
            let deleted = now(store.commit(transaction));
            if deleted != Ok(expected) {
                return Err(format!("a delete on a full disk was answered {deleted:?}"));
            }
            model.compact(store.health().compacted);
        }
    }
    disk.resize(usize::MAX / 2);
    // What was planned for a step that never came is off.
    disk.fail_step(u64::MAX / 2, Failure::Io);
    store.tick();
    let state = store.health().state;
    if state != State::Serving {
        return Err(format!("with space again it is {state:?}"));
    }
    model.compact(store.health().compacted);
    let acknowledged = (model.revision(), model.compacted);
    let known = Known { possible: model, acknowledged, ..Known::default() };
    known.compare(store).map_err(|fault| fault.to_string())
}

/// A store without a thread answers at the first poll.
fn now<T>(call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    call.now_or_never().expect("a store opened inline is done when it is polled")
}

fn history(store: &Embedded, after: Revision, until: Revision) -> Result<Vec<Changes>, Error> {
    let mut stream = now(store.changes(b"", after))?;
    let mut found: Vec<Changes> = Vec::new();
    while found.last().map_or(after, |changes| changes.revision) < until {
        let next = stream.next().now_or_never().flatten();
        found.push(next.ok_or_else(|| Error::Broken("the history stops".to_owned()))??);
    }
    Ok(found)
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

/// Creates, changes, deletes, transactions of several keys, values over many pages, conflicts, compactions, restarts.
pub(crate) fn ordinary() -> Scenario {
    let large = "large ".repeat(3000);
    let mut script = vec![commit(vec![put("/a", "1")]), commit(vec![put("/b", "1"), put("/c", "1")])];
    for round in 0..10 {
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
            Action::Tick,
        ]);
        if round % 3 == 2 {
            script.push(Action::Reopen);
        }
    }
    Scenario { name: "ordinary", script, size: None, lies_after: None }
}

/// A small disk that is filled, emptied by deletes, shrunk, and filled again.
pub(crate) fn full_disk() -> Scenario {
    let large = "large ".repeat(10_000);
    let mut script = Vec::new();
    for _ in 0..2 {
        script.extend((0..40).map(|n| commit(vec![put(&format!("/fill/{n:02}"), &large)])));
        script.extend((0..40).map(|n| commit(vec![delete(&format!("/fill/{n:02}"))])));
        script.extend([Action::Tick, commit(vec![put("/between", "fillings")]), Action::Reopen]);
    }
    Scenario { name: "full disk", script, size: Some((3 << 20, 1 << 20)), lies_after: None }
}
