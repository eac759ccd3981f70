//! Watchers that come and go, and the check of what each was given: exactly the log, filtered, from where it asked on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use drover_store::{ChangeStream, Changes, Error, Event, Revision};
use futures::StreamExt;
use tokio::time::timeout;

use crate::log::Log;
use crate::rng::Rng;
use crate::slot::Slot;

/// One stretch of one watch, from its opening to its end.
#[derive(Debug)]
pub(crate) struct Stretch {
    pub(crate) prefix: Bytes,
    pub(crate) after: Revision,
    pub(crate) items: Vec<Changes>,
    pub(crate) ended: Ended,
}

/// Why a stretch ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The watcher had enough.
    Dropped,
    /// The store did, with this error.
    By(Error),
    /// Nothing came though there was more.
    Silent,
}

/// How a watcher behaves.
#[derive(Debug, Clone)]
pub(crate) struct Habit {
    pub(crate) prefix: Bytes,
    pub(crate) seed: u64,
    /// Of a hundred items, after so many it goes away and resumes.
    pub(crate) resumes_percent: u64,
    /// Of a hundred items, after so many it sleeps for a few milliseconds.
    pub(crate) sleeps_percent: u64,
}

/// Where the history begins and ends, and how far the first watcher has got.
#[derive(Debug)]
pub(crate) struct Finish {
    /// The revision before the history's first.
    pub(crate) base: Revision,
    /// A watch that says nothing for so long, though it should, is silent.
    pub(crate) patience: Duration,
    pub(crate) newest: AtomicU64,
    pub(crate) known: AtomicBool,
    pub(crate) progress: AtomicU64,
}

impl Finish {
    pub(crate) fn unknown(base: Revision, patience: Duration) -> Self {
        let (newest, known, progress) = (AtomicU64::new(0), AtomicBool::new(false), AtomicU64::new(base));
        Self { base, patience, newest, known, progress }
    }

    pub(crate) fn set(&self, newest: Revision) {
        self.newest.store(newest, Ordering::SeqCst);
        self.known.store(true, Ordering::SeqCst);
    }

    fn is_reached(&self, at: Revision) -> bool {
        self.known.load(Ordering::SeqCst) && at >= self.newest.load(Ordering::SeqCst)
    }
}

/// Watches from the beginning to the finish, across whatever happens to the store. `tells` shares how far it is.
pub(crate) async fn follow(slot: Arc<Slot>, habit: Habit, finish: Arc<Finish>, tells: bool) -> Vec<Stretch> {
    let mut rng = Rng::new(habit.seed);
    let mut stretches: Vec<Stretch> = Vec::new();
    let mut at = finish.base;
    while !finish.is_reached(at) {
        let (generation, store) = slot.current();
        let mut stretch = Stretch { prefix: habit.prefix.clone(), after: at, items: Vec::new(), ended: Ended::Dropped };
        let opened = store.changes(&habit.prefix, at).await;
        drop(store);
        match opened {
            Ok(stream) => at = read(stream, &mut stretch, &habit, &mut rng, (&finish, tells)).await,
            Err(error) => stretch.ended = Ended::By(error),
        }
        let ended = stretch.ended.clone();
        stretches.push(stretch);
        match ended {
            Ended::Dropped => {}
            Ended::By(Error::Compacted { oldest }) if oldest > at => at = oldest,
            Ended::By(Error::Unavailable(_) | Error::Broken(_)) => slot.recovered(generation).await,
            Ended::By(_) | Ended::Silent => return stretches,
        }
    }
    stretches
}

/// Reads one stretch. Returns how far it got.
async fn read(
    mut stream: ChangeStream,
    stretch: &mut Stretch,
    habit: &Habit,
    rng: &mut Rng,
    (finish, tells): (&Finish, bool),
) -> Revision {
    let mut at = stretch.after;
    let mut silent_for = Duration::ZERO;
    while !finish.is_reached(at) {
        const LOOK: Duration = Duration::from_millis(100);
        match timeout(LOOK, stream.next()).await {
            Ok(Some(Ok(changes))) => {
                at = changes.revision;
                stretch.items.push(changes);
                silent_for = Duration::ZERO;
                if tells {
                    finish.progress.fetch_max(at, Ordering::SeqCst);
                }
                if rng.percent(habit.sleeps_percent) {
                    tokio::time::sleep(Duration::from_millis(1 + rng.below(5))).await;
                }
                if rng.percent(habit.resumes_percent) {
                    return at;
                }
            }
            Ok(Some(Err(error))) => {
                stretch.ended = Ended::By(error);
                return at;
            }
            Ok(None) => {
                stretch.ended = Ended::Silent;
                return at;
            }
            Err(_) => {
                // Only once the end is known is silence a fault: before, there may be nothing to say.
                silent_for += if finish.known.load(Ordering::SeqCst) { LOOK } else { Duration::ZERO };
                if silent_for >= finish.patience {
                    stretch.ended = Ended::Silent;
                    return at;
                }
            }
        }
    }
    at
}

/// Checks a stretch. Returns how many events it was given.
pub(crate) fn check(stretch: &Stretch, log: &Log, compacted: Revision, faults: &mut Vec<String>) -> u64 {
    let (prefix, mut at) = (&stretch.prefix, stretch.after);
    for changes in &stretch.items {
        if changes.revision <= at {
            faults.push(format!("watch of {prefix:?}: revision {} was delivered after {at}", changes.revision));
        }
        at = at.max(changes.revision);
    }
    let delivered: Vec<&Event> = stretch.items.iter().flat_map(|changes| &changes.events).collect();
    let skipped = log.changes.partition_point(|changes| changes.revision <= stretch.after);
    let due = log.changes[skipped..].iter().take_while(|changes| changes.revision <= at);
    let due: Vec<&Event> =
        due.flat_map(|changes| &changes.events).filter(|event| event.current.key.starts_with(prefix)).collect();
    if delivered != due {
        let same = delivered.iter().zip(&due).take_while(|(one, other)| one == other).count();
        faults.push(format!(
            "watch of {prefix:?} after {}: event {same} was {:?}, and should be {:?}",
            stretch.after,
            delivered.get(same),
            due.get(same)
        ));
    }
    match &stretch.ended {
        Ended::By(Error::Compacted { oldest }) if *oldest <= at || *oldest > compacted => {
            faults.push(format!(
                "watch of {prefix:?} at {at} was told of a compaction at {oldest}; asked for was {compacted}"
            ));
        }
        Ended::By(error @ (Error::Future { .. } | Error::Full(_) | Error::Locked(_))) => {
            faults.push(format!("watch of {prefix:?} at {at} ended with {error:?}"));
        }
        Ended::Silent => faults.push(format!("watch of {prefix:?} fell silent at {at}")),
        Ended::By(_) | Ended::Dropped => {}
    }
    delivered.len() as u64
}
