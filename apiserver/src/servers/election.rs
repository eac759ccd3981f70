//! The loop that keeps exactly one owner of the memory-only class: look, decide, take or follow.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use drover_store::{Compare, Error, Revision};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    Servers,
    plan::{CONFIRMED, Observed, Step, TICK, plan},
    record::{self, OWNER, Owner},
    remote::Remote,
};
use crate::volatile::{Volatile, kept::Kept, shared::Place};

/// A look that lasts longer confirms nothing.
const LOOK_MAX: Duration = CONFIRMED;

/// Returns what this server's cache shows of the class, for a new owner to start from.
pub(crate) type Seed = Box<dyn Fn() -> Vec<(Bytes, Bytes)> + Send + Sync>;

/// What one server remembers between two looks.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// The record seen last, and when the server behind it was last heard.
    owner: Option<(Revision, Instant)>,
}

impl Servers {
    /// Looks once and acts; at the start of a server this decides at once who has the class, when anybody can.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn look(&self, memory: &mut Memory, seed: &Seed) -> Result<(), Error> {
        let started = Instant::now();
        let look = timeout(LOOK_MAX, record::owner(&*self.backend)).await;
        let owner = look.unwrap_or_else(|_| Err(Error::Unavailable("no answer in time".to_owned())))?;
        let silent = self.listen(memory, owner.as_ref()).await;
        let mine = match self.shared.place() {
            Place::Here { epoch, .. } => epoch,
            Place::Nowhere | Place::There { .. } => 0,
        };
        match plan(&Observed { me: &self.me.id, mine, owner: owner.as_ref(), silent }) {
            Step::Confirm => self.shared.extend(started + CONFIRMED),
            Step::Follow => self.follow(owner),
            Step::Take { expected, pause } => self.take(expected, pause, seed).await?,
        }
        Ok(())
    }

    /// Looks again and again until `shutdown`.
    pub(crate) async fn keep_looking(self: Arc<Self>, mut memory: Memory, seed: Seed, shutdown: CancellationToken) {
        loop {
            // Cancel-safe: a look that is dropped leaves a record that the next start reads.
            tokio::select! {
                () = shutdown.cancelled() => return,
                result = self.look(&mut memory, &seed) => if let Err(error) = result {
                    tracing::debug!(%error, "no look at the owner of Leases and Events");
                },
            }
            // Cancel-safe: a timer.
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = sleep(TICK) => {}
            }
        }
    }

    /// Asks the owner whether it lives; returns for how long it has not answered.
    async fn listen(&self, memory: &mut Memory, owner: Option<&Owner>) -> Duration {
        let Some(owner) = owner.filter(|owner| owner.server.id != self.me.id) else {
            memory.owner = None;
            return Duration::ZERO;
        };
        let now = Instant::now();
        let heard = match memory.owner {
            Some((epoch, heard)) if epoch == owner.epoch => heard,
            Some(_) | None => now,
        };
        let answers = match timeout(TICK * 2, self.peer(&owner.server).ping()).await {
            Ok(Ok(())) => true,
            Ok(Err(_)) | Err(_) => false,
        };
        let heard = if answers { Instant::now() } else { heard };
        memory.owner = Some((owner.epoch, heard));
        heard.elapsed()
    }

    fn follow(&self, owner: Option<Owner>) {
        let Some(owner) = owner.filter(|owner| owner.epoch != self.shared.place().epoch()) else { return };
        tracing::info!(owner.id = %owner.server.id, owner.epoch, "another server owns Leases and Events");
        let store = Arc::new(Remote::new(self.peer(&owner.server)));
        self.shared.move_to(Place::There { epoch: owner.epoch, store });
    }

    async fn take(&self, expected: Revision, pause: Duration, seed: &Seed) -> Result<(), Error> {
        let Some(epoch) = record::take(&*self.backend, &self.me, expected).await? else { return Ok(()) };
        sleep(pause).await;
        let memory = Volatile::new(epoch, self.limits.clone());
        let ownership = Compare { key: OWNER.into(), mod_revision: epoch };
        let store = Kept::open(memory, Arc::clone(&self.backend), Some(ownership), seed()).await?;
        tracing::info!(owner.epoch = epoch, "this server owns Leases and Events");
        // Not confirmed yet: that takes another look, which follows at once.
        let until = Instant::now();
        self.shared.move_to(Place::Here { epoch, store: Arc::new(store), until });
        let started = Instant::now();
        if record::owner(&*self.backend).await?.is_some_and(|owner| owner.epoch == epoch) {
            self.shared.extend(started + CONFIRMED);
        }
        Ok(())
    }
}
