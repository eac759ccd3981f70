//! A disk in memory for simulated nodes: it outlives the agent, and the host's end as far as it was synced.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::LedgerEntry;
use crate::{chance::Chance, ids::PodUid};

/// The ledger of a simulated node. Cheap to clone; clones are the same disk.
#[derive(Debug, Clone, Default)]
pub struct MemoryDisk {
    content: Arc<Mutex<Content>>,
}

#[derive(Debug, Default)]
struct Content {
    key: Option<[u8; 32]>,
    /// As programs see it.
    entries: BTreeMap<PodUid, LedgerEntry>,
    /// As a loss of power leaves it.
    synced: BTreeMap<PodUid, LedgerEntry>,
    /// Removed since the last sync.
    removed: Vec<PodUid>,
    failing: bool,
    lying: bool,
}

impl MemoryDisk {
    /// Whether writes fail from now on.
    pub fn fail(&self, failing: bool) {
        self.lock().failing = failing;
    }

    /// Whether writes from now on are acknowledged without being synced.
    pub fn lie(&self, lying: bool) {
        self.lock().lying = lying;
    }

    /// What a loss of power does: what was not synced is as it was.
    pub fn lose_unsynced(&self) {
        let mut content = self.lock();
        content.entries = content.synced.clone();
        content.removed.clear();
    }

    /// What the next sync of the file system does, which no program asks for.
    pub fn sync(&self) {
        let mut content = self.lock();
        content.synced = content.entries.clone();
        content.removed.clear();
    }

    /// The pods for which something was made, as programs see it.
    pub fn entries(&self) -> BTreeMap<PodUid, LedgerEntry> {
        self.lock().entries.clone()
    }

    pub(super) fn key(&self, chance: &Chance) -> [u8; 32] {
        *self.lock().key.get_or_insert_with(|| chance.key())
    }

    pub(super) fn enter(&self, pod: &PodUid, entry: &LedgerEntry) -> io::Result<()> {
        let mut content = self.lock();
        if content.failing {
            return Err(io::ErrorKind::StorageFull.into());
        }
        content.entries.insert(pod.clone(), entry.clone());
        if !content.lying {
            // Syncing the directory for the new entry makes earlier removals last too.
            for gone in std::mem::take(&mut content.removed) {
                content.synced.remove(&gone);
            }
            content.synced.insert(pod.clone(), entry.clone());
        }
        Ok(())
    }

    /// Removals are not synced, in the directory's form either: an entry that comes back is only forgotten again.
    pub(super) fn forget(&self, pod: &PodUid) {
        let mut content = self.lock();
        content.entries.remove(pod);
        content.removed.push(pod.clone());
    }

    fn lock(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
