//! Versioned key-value storage with watch: one trait, two backends, one conformance suite.
//!
//! Owns durability and revisions. Knows nothing of kinds, users or HTTP. Only the API server depends on it.

mod backend;
pub mod embedded;
pub mod etcd;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod health;
mod retention;

pub use backend::{
    Backend, ChangeStream, Changes, Compare, Error, Event, EventKind, KeyValue, Operation, Range, RangeResult,
    Revision, Transaction, TransactionResult, WatchStream,
};
pub use embedded::Embedded;
pub use etcd::Etcd;
pub use health::{Health, State};
pub use retention::{Retention, plan_compaction};
