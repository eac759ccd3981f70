//! Drives a controller: takes keys from its queue, runs passes side by side, turns failures into delays.
//!
//! A panic in one pass is that key's failure and nobody else's. This is the only place that turns an error's class
//! into a backoff, and the only place that logs it.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::clock::Environment;
use super::error::{Disposition, Error, chain};
use super::{ObjectKey, WorkQueue};

/// Every key is looked at again about this often, whatever the triggers say.
const RESYNC: Duration = Duration::from_secs(300);
/// So soon after a list. A server that was away has several kinds listed anew together: one look serves for all.
const AFTER_LIST: Duration = Duration::from_secs(1);
/// A pass that takes longer is given up, so that a wedged request never wedges the key.
const PASS_TIMEOUT: Duration = Duration::from_secs(120);

/// What a pass that went well asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outcome {
    /// Look at the key again after this time, when set.
    pub requeue_after: Option<Duration>,
}

impl Outcome {
    /// Nothing more to do until something changes.
    pub const DONE: Self = Self { requeue_after: None };

    /// Look again after `delay`, or only on change for `None`.
    pub fn after(delay: Option<Duration>) -> Self {
        Self { requeue_after: delay }
    }
}

/// A controller: one reconcile over keys.
#[async_trait::async_trait]
pub trait Controller: Send + Sync + 'static {
    /// The name in logs and in `--controllers`.
    fn name(&self) -> &'static str;

    /// Returns every key there is, for the resync.
    fn keys(&self) -> Vec<ObjectKey>;

    /// Makes the world match one object: observe → plan → apply → report.
    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error>;
}

type Pass = Pin<Box<dyn Future<Output = (ObjectKey, Result<Outcome, Failure>)> + Send>>;

enum Failure {
    Error(Error),
    Panic(String),
    TimedOut,
}

/// Runs a controller until shut down; at most `workers` passes at a time. Passes under way are dropped at shutdown:
/// every write is atomic and carries its precondition, so the next start resumes from what was written.
///
/// When `lists` changes all keys are looked at: an object that was made after a watch broke and was gone before the next
/// list is in no event, not even to the controller that made it.
pub async fn run(
    controller: Arc<dyn Controller>,
    queue: WorkQueue,
    workers: usize,
    environment: Environment,
    mut lists: watch::Receiver<u64>,
    shutdown: CancellationToken,
) {
    let mut passes: FuturesUnordered<Pass> = FuturesUnordered::new();
    add_all(&*controller, &queue);
    let mut resync_at = tokio::time::Instant::now() + environment.jitter(RESYNC);
    loop {
        // Cancel-safe: `next` takes a key only when it returns it; `passes.next` and `changed` lose nothing when dropped.
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            Some((key, result)) = passes.next(), if !passes.is_empty() => {
                settle(&*controller, &queue, &key, result);
            }
            key = queue.next(), if passes.len() < workers => passes.push(spawn_pass(controller.clone(), key)),
            Ok(()) = lists.changed(), if !drover_api::mutants::active("C04-relist-wakes-nobody") => {
                resync_at = resync_at.min(tokio::time::Instant::now() + environment.jitter(AFTER_LIST));
            }
            () = tokio::time::sleep_until(resync_at) => {
                resync_at = tokio::time::Instant::now() + environment.jitter(RESYNC);
                add_all(&*controller, &queue);
            }
        }
        if queue.take_overflow() {
            tracing::warn!(controller = controller.name(), "work queue overflowed; resyncing");
            add_all(&*controller, &queue);
        }
    }
}

fn add_all(controller: &dyn Controller, queue: &WorkQueue) {
    for key in controller.keys() {
        queue.add(key);
    }
}

/// Starts a pass as a task of its own, so that passes use every core; dropping the pass aborts the task.
fn spawn_pass(controller: Arc<dyn Controller>, key: ObjectKey) -> Pass {
    let task_key = key.clone();
    let task = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(async move {
        let pass = AssertUnwindSafe(controller.reconcile(&task_key)).catch_unwind();
        match tokio::time::timeout(PASS_TIMEOUT, pass).await {
            Ok(Ok(result)) => result.map_err(Failure::Error),
            Ok(Err(panic)) => Err(Failure::Panic(panic_text(&*panic))),
            Err(_) => Err(Failure::TimedOut),
        }
    }));
    Box::pin(async move {
        let result = task.await.unwrap_or_else(|error| Err(Failure::Panic(error.to_string())));
        (key, result)
    })
}

fn settle(controller: &dyn Controller, queue: &WorkQueue, key: &ObjectKey, result: Result<Outcome, Failure>) {
    let name = controller.name();
    match result {
        Ok(outcome) => {
            queue.forget(key);
            if let Some(delay) = outcome.requeue_after {
                queue.add_after(key.clone(), delay);
            }
        }
        Err(Failure::Error(error)) => settle_error(name, queue, key, &error),
        Err(Failure::Panic(message)) => {
            assert!(!drover_api::mutants::active("C18-panic-ends-all"), "{message}");
            let delay = queue.retry(key.clone());
            tracing::error!(controller = name, object = %key, panic = %message, delay_ms = delay.as_millis() as u64, "pass panicked");
        }
        Err(Failure::TimedOut) => {
            let delay = queue.retry(key.clone());
            tracing::error!(controller = name, object = %key, delay_ms = delay.as_millis() as u64, "pass took too long");
        }
    }
    queue.done(key);
}

fn settle_error(name: &str, queue: &WorkQueue, key: &ObjectKey, error: &Error) {
    let delay = match error.disposition() {
        Disposition::Retry => Some(queue.retry(key.clone())),
        Disposition::RetryAfter(delay) => {
            queue.add_after(key.clone(), delay);
            Some(delay)
        }
        Disposition::WaitForChange => None,
    };
    let delay_ms = delay.map(|delay| delay.as_millis() as u64);
    if error.is_conflict() {
        tracing::debug!(controller = name, object = %key, delay_ms, error = %chain(error), "pass met a conflict");
    } else {
        tracing::warn!(controller = name, object = %key, delay_ms, error = %chain(error), "pass failed");
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[derive(Default)]
    struct Poisoned {
        seen: Mutex<Vec<String>>,
    }

    #[async_trait::async_trait]
    impl Controller for Poisoned {
        fn name(&self) -> &'static str {
            "poisoned"
        }
        fn keys(&self) -> Vec<ObjectKey> {
            vec![ObjectKey::cluster("poison"), ObjectKey::cluster("healthy")]
        }
        async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
            assert_ne!(key.name, "poison", "the poison object");
            self.seen.lock().unwrap().push(key.name.clone());
            Ok(Outcome::DONE)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_over_one_object_leaves_the_others_alone() {
        let controller = Arc::new(Poisoned::default());
        let queue = WorkQueue::new(Environment::system());
        let shutdown = CancellationToken::new();
        let (_lists, lists) = watch::channel(0);
        let running =
            tokio::spawn(run(controller.clone(), queue.clone(), 1, Environment::system(), lists, shutdown.clone()));
        while controller.seen.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        queue.add(ObjectKey::cluster("later"));
        while controller.seen.lock().unwrap().len() < 2 {
            tokio::task::yield_now().await;
        }
        shutdown.cancel();
        running.await.unwrap();
        assert_eq!(*controller.seen.lock().unwrap(), ["healthy", "later"]);
    }

    #[derive(Default)]
    struct Looks(Mutex<Vec<tokio::time::Instant>>);

    #[async_trait::async_trait]
    impl Controller for Looks {
        fn name(&self) -> &'static str {
            "looks"
        }
        fn keys(&self) -> Vec<ObjectKey> {
            vec![ObjectKey::cluster("one")]
        }
        async fn reconcile(&self, _: &ObjectKey) -> Result<Outcome, Error> {
            self.0.lock().unwrap().push(tokio::time::Instant::now());
            Ok(Outcome::DONE)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn lists_that_come_together_have_everything_looked_at_once_and_soon() {
        let controller = Arc::new(Looks::default());
        let (environment, shutdown) = (Environment::system(), CancellationToken::new());
        let (made, lists) = watch::channel(0);
        let queue = WorkQueue::new(environment.clone());
        let running = tokio::spawn(run(controller.clone(), queue, 1, environment, lists, shutdown.clone()));
        tokio::time::sleep(Duration::from_secs(10)).await;
        let listed_at = tokio::time::Instant::now();
        for _ in 0..3 {
            made.send_modify(|made| *made += 1);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        tokio::time::sleep(Duration::from_secs(30)).await;
        shutdown.cancel();
        running.await.unwrap();
        let looks = controller.0.lock().unwrap().clone();
        assert_eq!(looks.len(), 2, "the first one and that after the lists: {looks:?}");
        assert!(looks[1] >= listed_at && looks[1] < listed_at + AFTER_LIST * 2, "{looks:?} after {listed_at:?}");
    }
}
