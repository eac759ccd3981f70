//! What clients asked and were told, with the order in which they saw it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use drover_store::{KeyValue, Range, RangeResult, Revision, Transaction, TransactionResult};

/// A call that was answered, or a write that may have happened.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) client: u64,
    /// When it was made and when it was answered, on the history's own clock. A write without an answer may happen at
    /// any time: its end is `u64::MAX`.
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) what: What,
}

#[derive(Debug, Clone)]
pub(crate) enum What {
    Get {
        key: Bytes,
        found: Option<KeyValue>,
    },
    Range {
        range: Range,
        found: RangeResult,
    },
    Revision {
        found: Revision,
    },
    Commit {
        transaction: Transaction,
        result: TransactionResult,
    },
    /// A write whose reply was lost.
    Unknown {
        transaction: Transaction,
    },
    /// A read in the past that was refused as compacted.
    Refused {
        at: Revision,
        oldest: Revision,
    },
}

/// Collects calls. Its clock ticks at every start and every end, so two calls overlap exactly when their spans do.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    clock: AtomicU64,
    calls: Mutex<Vec<Call>>,
}

impl Recorder {
    pub(crate) fn now(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    /// Notes an answered call that began at `start`.
    pub(crate) fn answered(&self, client: u64, start: u64, what: What) {
        let end = self.now();
        self.push(Call { client, start, end, what });
    }

    /// Notes a write without an answer.
    pub(crate) fn unanswered(&self, client: u64, start: u64, transaction: Transaction) {
        self.push(Call { client, start, end: u64::MAX, what: What::Unknown { transaction } });
    }

    pub(crate) fn take(&self) -> Vec<Call> {
        std::mem::take(&mut *self.calls.lock().expect("no panic while recording"))
    }

    fn push(&self, call: Call) {
        self.calls.lock().expect("no panic while recording").push(call);
    }
}
