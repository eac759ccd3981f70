//! Keeps two Services from taking the same address or port, within this server and between servers.
//!
//! What is in use is always derived from the Services themselves. One key of the store orders the writers: whoever
//! allocates compares and rewrites it, so that of two servers that chose from the same state only one commits.

use drover_api::{kinds::Kind, status::ApiError};
use drover_store::Revision;

use super::{Registry, from_store, keys};

impl Registry {
    /// Orders the allocating writes of this server; `None` for kinds that allocate nothing.
    pub(super) async fn lock_allocations(&self, kind: &Kind) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        if allocates(kind) { Some(self.allocations.lock().await) } else { None }
    }

    /// Returns the revision of the allocation key, with every Service up to it visible to admission.
    pub(super) async fn allocation_revision(&self, kind: &Kind) -> Result<Option<Revision>, ApiError> {
        if !allocates(kind) || drover_api::mutants::active("A28-allocates-without-order") {
            return Ok(None);
        }
        let found = self.durable.get(keys::SERVICE_ALLOCATIONS.as_bytes()).await.map_err(|error| from_store(&error))?;
        self.refresh_admission().await?;
        Ok(Some(found.map_or(0, |found| found.mod_revision)))
    }
}

fn allocates(kind: &Kind) -> bool {
    kind.group.is_empty() && kind.kind == "Service"
}
