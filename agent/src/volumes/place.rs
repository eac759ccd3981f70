//! Where volumes are: in this host's file systems, or in memory on a simulated node.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{claims::Storage, payload::Payload};
use crate::ids::PodUid;

/// Where volumes are.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// On this host.
    Host,
    /// Nowhere but in this value.
    Memory(MemoryVolumes),
}

/// The volumes of a simulated node. Cheap to clone; clones are the same volumes. They outlive the agent.
#[derive(Debug, Clone, Default)]
pub struct MemoryVolumes {
    content: Arc<Mutex<Content>>,
}

#[derive(Debug, Default)]
struct Content {
    pods: BTreeMap<PodUid, BTreeMap<PathBuf, Payload>>,
    /// Persistent volumes: whose data is under each handle.
    local: BTreeMap<String, String>,
}

impl MemoryVolumes {
    /// The handles of the persistent volumes that have data here, each with the uid of the volume it belongs to.
    pub fn local(&self) -> BTreeMap<String, String> {
        self.lock().local.clone()
    }

    /// Loses the data under a handle, as a broken disk does.
    pub fn lose_local(&self, handle: &str) {
        self.lock().local.remove(handle);
    }

    /// The pods that have volumes here.
    pub fn pods(&self) -> Vec<PodUid> {
        self.lock().pods.keys().cloned().collect()
    }

    pub(super) fn make_pod(&self, pod: &PodUid) {
        self.lock().pods.entry(pod.clone()).or_default();
    }

    pub(super) fn remove_pod(&self, pod: &PodUid) {
        self.lock().pods.remove(pod);
    }

    /// Replaces the files of a volume. A pod that has gone gets none.
    pub(super) fn write(&self, pod: &PodUid, directory: &Path, payload: Payload) {
        if let Some(volumes) = self.lock().pods.get_mut(pod) {
            volumes.insert(directory.to_owned(), payload);
        }
    }

    pub(super) fn find_local(&self, handle: &str, uid: &str) -> Storage {
        match self.lock().local.get(handle) {
            None => Storage::Absent,
            Some(owner) if owner == uid => Storage::Ours,
            Some(owner) => Storage::Other(format!("its directory belongs to the volume with uid {owner:?}")),
        }
    }

    pub(super) fn create_local(&self, handle: &str, uid: &str) {
        self.lock().local.insert(handle.to_owned(), uid.to_owned());
    }

    pub(super) fn remove_local(&self, handle: &str, uid: &str) {
        let mut content = self.lock();
        if content.local.get(handle).is_some_and(|owner| owner == uid) {
            content.local.remove(handle);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
