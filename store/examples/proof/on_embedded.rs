//! The embedded store on a simulated disk that loses power: lost, kept and torn writes, also during recovery.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use drover_store::embedded::{Embedded, Options, SimulatedDisk, Unsynced};
use drover_store::{Backend, Error, Retention};

use crate::histories::{Plan, Target};
use crate::rng::Rng;
use crate::slot::Slot;

/// Beyond what any history does.
const NEVER: u64 = u64::MAX / 2;

/// A store that compacts only when told to.
pub(crate) fn options() -> Options {
    let retention = Retention { keep_revisions: u64::MAX, interval: Duration::from_secs(3600) };
    Options { retention, reserve_bytes: 0, cache_bytes: 1 << 20 }
}

/// The store and its disk.
pub(crate) struct OnEmbedded {
    plan: Plan,
    rng: Rng,
    disk: SimulatedDisk,
    store: Arc<Embedded>,
    slot: Arc<Slot>,
}

impl OnEmbedded {
    pub(crate) fn start(plan: Plan) -> Result<Self, Error> {
        let disk = SimulatedDisk::default();
        let store = Embedded::open_on(Arc::new(disk.clone()), options())?;
        let slot = Arc::new(Slot::new(plan.wrap(Arc::clone(&store) as Arc<dyn Backend>), false));
        Ok(Self { plan, rng: Rng::new(plan.seed ^ 0xd15c), disk, store, slot })
    }

    /// Power comes back, perhaps to go again while the store recovers.
    fn reopen(&mut self) {
        self.store.close();
        loop {
            let fate = match self.rng.below(4) {
                0 => Unsynced::Lost,
                1 => Unsynced::Kept,
                _ => Unsynced::Torn(self.rng.next()),
            };
            self.disk = self.disk.after_power_loss(fate);
            if self.rng.percent(30) {
                self.disk.crash_before(self.rng.below(12));
            }
            match Embedded::open_on(Arc::new(self.disk.clone()), options()) {
                Ok(store) => {
                    self.disk.crash_before(NEVER);
                    self.store = store;
                    break;
                }
                Err(error) => assert!(self.disk.crashed(), "seed {}: does not open: {error}", self.plan.seed),
            }
        }
    }
}

#[async_trait]
impl Target for OnEmbedded {
    fn slot(&self) -> Arc<Slot> {
        Arc::clone(&self.slot)
    }

    async fn trouble(&mut self, over: Arc<AtomicBool>) -> u64 {
        let mut done = 0;
        let mut plan_next = true;
        loop {
            if plan_next && done < self.plan.troubles {
                self.disk.crash_before(20 + self.rng.below(600));
                plan_next = false;
            }
            if over.load(Ordering::SeqCst) {
                self.disk.crash_before(NEVER);
            }
            if self.disk.crashed() {
                self.reopen();
                done += 1;
                plan_next = true;
                self.slot.replace(self.plan.wrap(Arc::clone(&self.store) as Arc<dyn Backend>));
            } else if over.load(Ordering::SeqCst) {
                return done;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn counts_by_one(&self) -> bool {
        true
    }
}

impl Drop for OnEmbedded {
    fn drop(&mut self) {
        self.store.close();
    }
}
