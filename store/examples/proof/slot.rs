//! The store that clients use now. A store that was killed is followed by the one opened after it.

use std::sync::Arc;

use drover_store::Backend;
use tokio::sync::watch;

/// Holds the present store.
#[derive(Debug)]
pub(crate) struct Slot {
    current: watch::Sender<(u64, Arc<dyn Backend>)>,
    /// Whether the same store comes back by itself, as a client of etcd does.
    heals: bool,
}

impl Slot {
    pub(crate) fn new(store: Arc<dyn Backend>, heals: bool) -> Self {
        Self { current: watch::Sender::new((0, store)), heals }
    }

    pub(crate) fn current(&self) -> (u64, Arc<dyn Backend>) {
        self.current.borrow().clone()
    }

    /// Puts the next store in place.
    pub(crate) fn replace(&self, store: Arc<dyn Backend>) {
        self.current.send_modify(|current| *current = (current.0 + 1, store));
    }

    /// Waits until it makes sense to try again after a failure of the store of this generation.
    pub(crate) async fn recovered(&self, generation: u64) {
        if self.heals {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            return;
        }
        // The sender is ours, so it lives.
        drop(self.current.subscribe().wait_for(|(current, _)| *current > generation).await);
    }
}
