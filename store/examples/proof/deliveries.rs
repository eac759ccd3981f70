//! Very many deliveries: a thousand watchers on one store, each item compared with what was to be written, as it comes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use drover_store::embedded::{Embedded, SimulatedDisk};
use drover_store::{
    Backend, Changes, Error, Event, EventKind, KeyValue, Operation, Revision, Transaction, TransactionResult,
};
use futures::StreamExt;
use futures::future::try_join_all;

use crate::on_embedded::options;
use crate::rng::Rng;

const KEYS: u64 = 400;
/// So many transactions are on their way at once.
const AT_ONCE: usize = 64;
/// The fast watchers are at most so far behind, or the slow ones would be all that is tested.
const AHEAD_MAX: Revision = 4_000;
/// History is kept for so long behind the newest revision: the slow watchers lose theirs.
const KEPT: Revision = 6_000;
const COMPACT_EVERY: Revision = 2_000;

/// What watchers compare with. Revision r is at index r - 1.
#[derive(Debug, Default)]
struct Truth {
    changes: RwLock<Vec<Arc<Changes>>>,
    compacted: AtomicU64,
    /// The last revision there will be; 0 until it is known.
    last: AtomicU64,
    delivered: AtomicU64,
    resumed: AtomicU64,
    told: AtomicU64,
}

/// What became of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) revisions: u64,
    pub(crate) delivered: u64,
    pub(crate) resumed: u64,
    /// How often a watcher was told that its history was compacted.
    pub(crate) told: u64,
    pub(crate) faults: Vec<String>,
}

/// `deliveries N [WATCHERS]`. Returns whether nothing was found.
pub(crate) fn program(arguments: &[&str]) -> Result<bool, Box<dyn std::error::Error>> {
    let deliveries = arguments.first().ok_or("say how many deliveries")?.parse()?;
    let watchers = arguments.get(1).map_or(Ok(1_000), |count| count.parse())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let begun = std::time::Instant::now();
    let outcome = runtime.block_on(run(deliveries, watchers, 1))?;
    let Outcome { revisions, delivered, resumed, told, faults } = outcome;
    println!(
        "{delivered} deliveries to {watchers} watchers from {revisions} revisions, resumed {resumed} times, \
         told of a compaction {told} times: {} gaps, duplicates, reorders or phantoms; {:.0} s",
        faults.len(),
        begun.elapsed().as_secs_f64()
    );
    faults.iter().take(10).for_each(|fault| println!("FAULT {fault}"));
    Ok(faults.is_empty())
}

/// Writes until about so many events were delivered, and waits for every watcher to get to the end.
pub(crate) async fn run(deliveries: u64, watchers: u64, seed: u64) -> Result<Outcome, Error> {
    let store = Embedded::open_on(Arc::new(SimulatedDisk::default()), options())?;
    let truth = Arc::new(Truth::default());
    let progress: Arc<Vec<AtomicU64>> = Arc::new((0..watchers).map(|_| AtomicU64::new(0)).collect());
    let tasks: Vec<_> = (0..watchers)
        .map(|n| tokio::spawn(watch(Arc::clone(&store), Arc::clone(&truth), Arc::clone(&progress), n)))
        .collect();
    let revisions = write(&store, &truth, &progress, deliveries, seed).await?;
    let mut faults = Vec::new();
    for task in tasks {
        faults.extend(task.await.expect("a watcher does not panic").err());
    }
    store.close();
    let number = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
    let (delivered, resumed, told) = (number(&truth.delivered), number(&truth.resumed), number(&truth.told));
    Ok(Outcome { revisions, delivered, resumed, told, faults })
}

/// Every tenth watcher sees half of the keys, every tenth is slow, every seventh comes and goes.
async fn watch(store: Arc<Embedded>, truth: Arc<Truth>, progress: Arc<Vec<AtomicU64>>, n: u64) -> Result<(), String> {
    let prefix: &[u8] = if n % 10 == 3 { b"/k/0" } else { b"/k/" };
    let mut rng = Rng::new(n);
    let mut at = 0;
    loop {
        let mut stream = match store.changes(prefix, at).await {
            Ok(stream) => stream,
            Err(error) => {
                at = truth.relist(at, &error)?;
                continue;
            }
        };
        loop {
            match stream.next().await {
                Some(Ok(changes)) => {
                    truth.compare(at, &changes, prefix)?;
                    at = changes.revision;
                }
                Some(Err(error)) => {
                    at = truth.relist(at, &error)?;
                    break;
                }
                None => return Err(format!("watcher {n}: the stream ended at {at} without an error")),
            }
            progress[n as usize].store(at, Ordering::Relaxed);
            if at == truth.last.load(Ordering::SeqCst) {
                return Ok(());
            }
            if is_slow(n) && rng.below(500) == 0 {
                tokio::time::sleep(Duration::from_millis(rng.below(400))).await;
            }
            if n.is_multiple_of(7) && rng.below(300) == 0 {
                truth.resumed.fetch_add(1, Ordering::Relaxed);
                break;
            }
        }
    }
}

fn is_slow(n: u64) -> bool {
    n % 10 == 9
}

impl Truth {
    fn compare(&self, at: Revision, found: &Changes, prefix: &[u8]) -> Result<(), String> {
        if found.revision != at + 1 {
            return Err(format!("revision {} was delivered after {at}", found.revision));
        }
        let due = self.changes.read().unwrap_or_else(PoisonError::into_inner).get(at as usize).cloned();
        let due = due.ok_or_else(|| format!("revision {} was delivered before it was written", found.revision))?;
        let under = due.events.iter().filter(|event| event.current.key.starts_with(prefix));
        if !found.events.iter().eq(under) {
            return Err(format!("delivered under {prefix:?}: {found:?}, written: {due:?}"));
        }
        self.delivered.fetch_add(found.events.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Where to go on after an error, when it is the honest one.
    fn relist(&self, at: Revision, error: &Error) -> Result<Revision, String> {
        match error {
            Error::Compacted { oldest } if *oldest > at && *oldest <= self.compacted.load(Ordering::SeqCst) => {
                self.told.fetch_add(1, Ordering::Relaxed);
                Ok(*oldest)
            }
            other => Err(format!("a watch at {at} ended with {other:?}")),
        }
    }
}

async fn write(
    store: &Embedded,
    truth: &Truth,
    progress: &[AtomicU64],
    deliveries: u64,
    seed: u64,
) -> Result<Revision, Error> {
    let mut rng = Rng::new(seed);
    let mut keys = BTreeMap::new();
    let mut revision = 0;
    let mut is_last = false;
    while !is_last {
        is_last = truth.delivered.load(Ordering::Relaxed) >= deliveries;
        let mut batch = Vec::new();
        while batch.len() < AT_ONCE {
            let (transaction, events) = next(&mut rng, &mut keys, revision + 1);
            revision += 1;
            batch.push((transaction, revision));
            truth.changes.write().unwrap_or_else(PoisonError::into_inner).push(Arc::new(Changes { revision, events }));
        }
        if is_last {
            truth.last.store(revision, Ordering::SeqCst);
        }
        // Polled in order, so they queue up in order; tokio's budget must not put one of them off.
        tokio::task::unconstrained(try_join_all(batch.into_iter().map(|(transaction, revision)| async move {
            match store.commit(transaction).await? {
                TransactionResult::Committed { revision: told } if told == revision => Ok(()),
                other => Err(Error::Broken(format!("revision {revision} was due, and {other:?} came"))),
            }
        })))
        .await?;
        if revision % COMPACT_EVERY < AT_ONCE as u64 && revision > KEPT {
            truth.compacted.store(revision - KEPT, Ordering::SeqCst);
            store.compact(revision - KEPT).await?;
        }
        while fast_ones(progress).is_some_and(|slowest| slowest + AHEAD_MAX < revision) {
            tokio::task::yield_now().await;
        }
    }
    Ok(revision)
}

/// How far the slowest of the fast watchers is.
fn fast_ones(progress: &[AtomicU64]) -> Option<Revision> {
    let fast = progress.iter().zip(0_u64..).filter(|(_, n)| !is_slow(*n));
    fast.map(|(progress, _)| progress.load(Ordering::Relaxed)).min()
}

/// A transaction of one to four writes, and the events that it must give.
fn next(rng: &mut Rng, keys: &mut BTreeMap<Bytes, KeyValue>, revision: Revision) -> (Transaction, Vec<Event>) {
    let mut writes = BTreeMap::new();
    for _ in 0..=rng.below(4) {
        let key = Bytes::from(format!("/k/{}/{:03}", rng.below(2), rng.below(KEYS)));
        let deletes = rng.percent(15) && keys.contains_key(&key);
        writes.insert(key, (!deletes).then(|| Bytes::from(format!("{:032x}", rng.next()))));
    }
    let mut operations = Vec::new();
    let mut events = Vec::new();
    for (key, value) in writes {
        let previous = keys.remove(&key);
        match value {
            Some(value) => {
                let create_revision = previous.as_ref().map_or(revision, |previous| previous.create_revision);
                let current =
                    KeyValue { key: key.clone(), value: value.clone(), create_revision, mod_revision: revision };
                keys.insert(key.clone(), current.clone());
                operations.push(Operation::Put { key, value });
                events.push(Event { kind: EventKind::Put, current, previous });
            }
            // It was put earlier in this transaction's making, or is there: a delete of what is not there has no event.
            None => {
                let current =
                    KeyValue { key: key.clone(), value: Bytes::new(), create_revision: 0, mod_revision: revision };
                operations.push(Operation::Delete { key });
                events.extend(previous.map(|previous| Event {
                    kind: EventKind::Delete,
                    current,
                    previous: Some(previous),
                }));
            }
        }
    }
    (Transaction { compares: vec![], operations }, events)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_hundred_watchers_get_every_event_once_and_in_order_or_are_told_of_the_compaction() {
        let outcome = run(200_000, 100, 3).await.unwrap();
        println!("{} deliveries, {} told of a compaction", outcome.delivered, outcome.told);
        assert_eq!(outcome.faults, Vec::<String>::new());
        assert!(outcome.resumed > 0);
    }
}
