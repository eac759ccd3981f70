//! Versioned key-value storage with watch: one trait, two backends, one conformance suite.
//!
//! Owns durability and revisions. Knows nothing of kinds, users or HTTP. Only the API server depends on it.

mod backend;

pub use backend::{
    Backend, Compare, Error, Event, EventKind, KeyValue, Operation, Range, RangeResult, Revision, Transaction,
    TransactionResult, WatchStream,
};
