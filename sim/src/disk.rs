//! The embedded store on a simulated disk, reopened after every crash of its server.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use drover_store::{
    Backend, ChangeStream, Embedded, Error, KeyValue, Range, RangeResult, Revision, Transaction, TransactionResult,
    embedded::{Options, SimulatedDisk, Unsynced},
};

use crate::chance::Chance;

/// The shipping embedded store, without its thread, on a disk in memory.
#[derive(Debug)]
pub(crate) struct DiskStore {
    state: Mutex<State>,
    chance: Chance,
}

#[derive(Debug)]
struct State {
    disk: SimulatedDisk,
    store: Arc<Embedded>,
}

impl DiskStore {
    /// Opens a store on an empty disk.
    ///
    /// # Errors
    /// The store's.
    pub(crate) fn new(chance: Chance) -> Result<Self, Error> {
        let disk = SimulatedDisk::default();
        let store = open(&disk)?;
        Ok(Self { state: Mutex::new(State { disk, store }), chance })
    }

    /// The server's process dies, and sometimes the power goes: what was not synced is kept, lost or torn.
    ///
    /// # Errors
    /// The store's, when it cannot recover: a bug.
    pub(crate) fn crash(&self) -> Result<(), Error> {
        let fate = match self.chance.below(3) {
            0 => Unsynced::Kept,
            1 => Unsynced::Lost,
            _ => Unsynced::Torn(self.chance.below(u64::MAX)),
        };
        let mut state = self.lock();
        state.store.close();
        state.disk = state.disk.after_power_loss(fate);
        state.store = open(&state.disk)?;
        Ok(())
    }

    /// Does the maintenance that is due.
    pub(crate) fn tick(&self) {
        self.store().tick();
    }

    fn store(&self) -> Arc<Embedded> {
        Arc::clone(&self.lock().store)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn open(disk: &SimulatedDisk) -> Result<Arc<Embedded>, Error> {
    // A small page cache: the simulated disk is memory already.
    let options = Options { cache_bytes: 1 << 20, ..Options::default() };
    Embedded::open_inline(Arc::new(disk.clone()), options)
}

#[async_trait]
impl Backend for DiskStore {
    async fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, Error> {
        self.store().get(key).await
    }

    async fn range(&self, range: Range) -> Result<RangeResult, Error> {
        self.store().range(range).await
    }

    async fn commit(&self, transaction: Transaction) -> Result<TransactionResult, Error> {
        self.store().commit(transaction).await
    }

    async fn changes(&self, prefix: &[u8], after: Revision) -> Result<ChangeStream, Error> {
        self.store().changes(prefix, after).await
    }

    async fn revision(&self) -> Result<Revision, Error> {
        self.store().revision().await
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.store().compact(revision).await
    }
}
