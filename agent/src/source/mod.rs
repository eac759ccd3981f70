//! What the agent reads from the API server and writes back.
//!
//! Owns the informers, the writer of pod status and deletions, and the recorder of events.

mod backoff;
mod events;
mod informer;
mod pod_api;
mod restore;

pub use events::Recorder;
pub(crate) use informer::revision_of;
pub use informer::{Informer, InformerHandle, InformerState};
pub use pod_api::{KubePodApi, PodApi, PodApiError};
pub use restore::unconfirmed_restore;
