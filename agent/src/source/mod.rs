//! What the agent reads from the API server and writes back.
//!
//! Owns the informers, the lease with the drained-proxies revision and the writer of pod status.

mod informer;

pub use informer::{Informer, InformerHandle, InformerState};
