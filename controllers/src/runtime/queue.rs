//! The work queue: keys, each at most once, never two runs of one key at a time.
//!
//! A key added while it is being worked on runs again afterwards. The queue holds keys only, so its size is bounded
//! by the number of objects; past [`CAPACITY`] a key is dropped and a full resync is asked for instead.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Environment, ObjectKey};

/// More keys than any fleet in scope has objects of one kind.
pub const CAPACITY: usize = 200_000;
/// First retry of a failed key.
const BACKOFF_MIN: Duration = Duration::from_millis(5);
/// A key that keeps failing is still tried this often.
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// A deduplicating queue of keys with delays and per-key backoff. Clones share the queue.
#[derive(Debug, Clone)]
pub struct WorkQueue {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    wake: Notify,
    environment: Environment,
}

#[derive(Debug, Default)]
struct State {
    ready: VecDeque<ObjectKey>,
    /// Keys in `ready`.
    waiting: HashSet<ObjectKey>,
    running: HashSet<ObjectKey>,
    /// Keys added while running.
    again: HashSet<ObjectKey>,
    delayed: BTreeMap<(Instant, ObjectKey), ()>,
    due: HashMap<ObjectKey, Instant>,
    failures: HashMap<ObjectKey, u32>,
    overflowed: bool,
}

impl WorkQueue {
    /// Makes an empty queue.
    pub fn new(environment: Environment) -> Self {
        Self { shared: Arc::new(Shared { state: Mutex::default(), wake: Notify::new(), environment }) }
    }

    /// Asks for a run of `key` as soon as possible.
    pub fn add(&self, key: ObjectKey) {
        let mut state = self.lock();
        state.add(key);
        drop(state);
        self.shared.wake.notify_one();
    }

    /// Asks for a run of `key` after a delay; of several delays the earliest counts.
    pub fn add_after(&self, key: ObjectKey, delay: Duration) {
        let due = Instant::now() + delay;
        let mut state = self.lock();
        if state.due.get(&key).is_some_and(|earlier| *earlier <= due) {
            return;
        }
        if let Some(later) = state.due.insert(key.clone(), due) {
            state.delayed.remove(&(later, key.clone()));
        }
        state.delayed.insert((due, key), ());
        drop(state);
        self.shared.wake.notify_one();
    }

    /// Asks for a run after the key's own backoff, which doubles with each failure in a row.
    pub fn retry(&self, key: ObjectKey) -> Duration {
        let failures = {
            let mut state = self.lock();
            let failures = state.failures.entry(key.clone()).or_insert(0);
            *failures += 1;
            *failures
        };
        let delay = BACKOFF_MIN.saturating_mul(1 << (failures - 1).min(16)).min(BACKOFF_MAX);
        let mut delay = self.shared.environment.jitter(delay);
        if drover_api::mutants::active("C09-retries-at-once") {
            delay = Duration::ZERO;
        }
        self.add_after(key, delay);
        delay
    }

    /// Forgets the failures of a key.
    pub fn forget(&self, key: &ObjectKey) {
        self.lock().failures.remove(key);
    }

    /// Waits for the next key and marks it as running; [`WorkQueue::done`] must follow.
    pub async fn next(&self) -> ObjectKey {
        loop {
            let notified = self.shared.wake.notified();
            let (key, wake_at) = {
                let mut state = self.lock();
                state.promote(Instant::now());
                (state.take(), state.delayed.keys().next().map(|(due, _)| *due))
            };
            if let Some(key) = key {
                return key;
            }
            match wake_at {
                // Cancel-safe: nothing is taken from the queue by waiting.
                Some(due) => tokio::select! {
                    () = notified => {}
                    () = tokio::time::sleep_until(due) => {}
                },
                None => notified.await,
            }
        }
    }

    /// Ends the run of a key. A key added meanwhile becomes ready again.
    pub fn done(&self, key: &ObjectKey) {
        let mut state = self.lock();
        state.running.remove(key);
        if state.again.remove(key) {
            state.add(key.clone());
        }
        drop(state);
        self.shared.wake.notify_one();
    }

    /// Returns whether keys were dropped since the last call: the owner must then add every key.
    pub fn take_overflow(&self) -> bool {
        std::mem::take(&mut self.lock().overflowed)
    }

    /// Returns the number of keys ready, running and delayed.
    pub fn depth(&self) -> usize {
        let state = self.lock();
        state.ready.len() + state.running.len() + state.delayed.len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add(&mut self, key: ObjectKey) {
        if self.running.contains(&key) {
            if !drover_api::mutants::active("C21-key-lost-while-running") {
                self.again.insert(key);
            }
        } else if self.waiting.len() >= CAPACITY {
            self.overflowed = true;
        } else if self.waiting.insert(key.clone()) {
            self.ready.push_back(key);
        }
    }

    fn promote(&mut self, now: Instant) {
        while let Some(((due, key), ())) = self.delayed.first_key_value().map(|(k, ())| (k.clone(), ())) {
            if due > now {
                break;
            }
            self.delayed.remove(&(due, key.clone()));
            self.due.remove(&key);
            self.add(key);
        }
    }

    fn take(&mut self) -> Option<ObjectKey> {
        let key = self.ready.pop_front()?;
        self.waiting.remove(&key);
        self.running.insert(key.clone());
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    fn queue() -> WorkQueue {
        WorkQueue::new(Environment::system())
    }

    fn key(name: &str) -> ObjectKey {
        ObjectKey::cluster(name)
    }

    #[tokio::test]
    async fn a_key_added_twice_runs_once() {
        let queue = queue();
        queue.add(key("a"));
        queue.add(key("a"));
        assert_eq!(queue.next().await, key("a"));
        queue.done(&key("a"));
        assert!(queue.next().now_or_never().is_none());
    }

    #[tokio::test]
    async fn a_key_added_while_running_runs_again_and_never_beside_itself() {
        let queue = queue();
        queue.add(key("a"));
        assert_eq!(queue.next().await, key("a"));
        queue.add(key("a"));
        assert!(queue.next().now_or_never().is_none(), "two runs of one key at once");
        queue.done(&key("a"));
        assert_eq!(queue.next().await, key("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn of_several_delays_the_earliest_counts() {
        let queue = queue();
        let start = Instant::now();
        queue.add_after(key("a"), Duration::from_secs(60));
        queue.add_after(key("a"), Duration::from_secs(2));
        queue.add_after(key("a"), Duration::from_secs(30));
        assert_eq!(queue.next().await, key("a"));
        assert_eq!(start.elapsed().as_secs(), 2);
        queue.done(&key("a"));
        assert_eq!(queue.depth(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failing_key_backs_off_further_each_time_and_is_forgiven_by_success() {
        let queue = queue();
        let first = queue.retry(key("a"));
        for _ in 0..20 {
            queue.retry(key("a"));
        }
        let last = queue.retry(key("a"));
        assert!(first < Duration::from_millis(10), "{first:?}");
        assert!(last > Duration::from_secs(20) && last <= Duration::from_secs(36), "{last:?}");
        queue.forget(&key("a"));
        assert!(queue.retry(key("a")) < Duration::from_millis(10));
    }
}
