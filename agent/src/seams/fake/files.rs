//! Pod files in memory.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;

use crate::seams::{FilesRequest, PodFiles};

/// Remembers which pods have files, not what is in them. Cheap to clone; clones are the same files.
#[derive(Debug, Clone, Default)]
pub struct MemoryFiles {
    directories: Arc<Mutex<BTreeSet<PathBuf>>>,
}

impl MemoryFiles {
    /// The directories of pods that have files.
    pub fn directories(&self) -> BTreeSet<PathBuf> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.directories.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl PodFiles for MemoryFiles {
    async fn write(&self, request: &FilesRequest<'_>) -> io::Result<Vec<(PathBuf, String)>> {
        self.lock().insert(request.pod_dir.to_owned());
        Ok(vec![(request.termination_log.to_owned(), request.termination_target())])
    }

    async fn last_words(&self, _log: &Path) -> Option<Vec<u8>> {
        None
    }

    async fn remove(&self, pod_dir: &Path) -> io::Result<()> {
        self.lock().remove(pod_dir);
        Ok(())
    }
}
