//! How calls on the memory-only class look between two servers: JSON, one value a line.
//!
//! Keys and values of this class are text: names, and objects in JSON.

use bytes::Bytes;
use drover_store::{
    Changes, Compare, Error, Event, EventKind, KeyValue, Operation, Range, RangeResult, Transaction, TransactionResult,
};
use serde::{Deserialize, Serialize};

/// A call.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Call {
    Get(String),
    Range { prefix: String, after: String, limit: usize, at: Option<u64> },
    Commit { compares: Vec<(String, u64)>, writes: Vec<(String, Option<String>)> },
    Revision,
    Changes { prefix: String, after: u64 },
}

/// What is answered; for [`Call::Changes`], [`Reply::Open`] and then a [`Reply::Batch`] for each revision.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    Found(Option<Row>),
    Page { rows: Vec<Row>, revision: u64, more: bool },
    Committed(u64),
    Conflict { current: Vec<Option<Row>>, revision: u64 },
    Revision(u64),
    Open,
    Batch { revision: u64, events: Vec<Happened> },
    Failed(Failure),
}

/// One live key.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Row {
    key: String,
    value: String,
    created: u64,
    modified: u64,
}

/// One event.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Happened {
    put: bool,
    current: Row,
    previous: Option<Row>,
}

/// An error of the store.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Failure {
    Compacted(u64),
    Future { asked: u64, newest: u64 },
    Full(String),
    Unavailable(String),
}

impl From<KeyValue> for Row {
    fn from(found: KeyValue) -> Self {
        let KeyValue { key, value, create_revision, mod_revision } = found;
        Self { key: text(&key), value: text(&value), created: create_revision, modified: mod_revision }
    }
}

impl From<Row> for KeyValue {
    fn from(row: Row) -> Self {
        let Row { key, value, created, modified } = row;
        Self { key: key.into(), value: value.into(), create_revision: created, mod_revision: modified }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Compacted { oldest } => Self::Compacted(oldest),
            Error::Future { asked, newest } => Self::Future { asked, newest },
            Error::Full(text) => Self::Full(text),
            Error::Unavailable(text) | Error::Locked(text) | Error::Broken(text) => Self::Unavailable(text),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Compacted(oldest) => Self::Compacted { oldest },
            Failure::Future { asked, newest } => Self::Future { asked, newest },
            Failure::Full(text) => Self::Full(text),
            Failure::Unavailable(text) => Self::Unavailable(text),
        }
    }
}

impl From<Range> for Call {
    fn from(Range { prefix, after, limit, at }: Range) -> Self {
        Self::Range { prefix: text(&prefix), after: text(&after), limit, at }
    }
}

impl From<Transaction> for Call {
    fn from(Transaction { compares, operations }: Transaction) -> Self {
        let write = |operation| match operation {
            Operation::Put { key, value } => (text(&key), Some(text(&value))),
            Operation::Delete { key } => (text(&key), None),
        };
        Self::Commit {
            compares: compares.into_iter().map(|compare| (text(&compare.key), compare.mod_revision)).collect(),
            writes: operations.into_iter().map(write).collect(),
        }
    }
}

impl From<TransactionResult> for Reply {
    fn from(result: TransactionResult) -> Self {
        match result {
            TransactionResult::Committed { revision } => Self::Committed(revision),
            TransactionResult::Conflict { current, revision } => {
                Self::Conflict { current: current.into_iter().map(|found| found.map(Row::from)).collect(), revision }
            }
        }
    }
}

impl From<RangeResult> for Reply {
    fn from(RangeResult { items, revision, more }: RangeResult) -> Self {
        Self::Page { rows: items.into_iter().map(Row::from).collect(), revision, more }
    }
}

impl From<Changes> for Reply {
    fn from(Changes { revision, events }: Changes) -> Self {
        let happened = |Event { kind, current, previous }| Happened {
            put: kind == EventKind::Put,
            current: Row::from(current),
            previous: previous.map(Row::from),
        };
        Self::Batch { revision, events: events.into_iter().map(happened).collect() }
    }
}

/// Builds the changes of a batch.
pub(super) fn changes(revision: u64, events: Vec<Happened>) -> Changes {
    let event = |Happened { put, current, previous }| Event {
        kind: if put { EventKind::Put } else { EventKind::Delete },
        current: current.into(),
        previous: previous.map(KeyValue::from),
    };
    Changes { revision, events: events.into_iter().map(event).collect() }
}

/// Builds the transaction of a call.
pub(super) fn transaction(compares: Vec<(String, u64)>, writes: Vec<(String, Option<String>)>) -> Transaction {
    let operation = |(key, value): (String, Option<String>)| match value {
        Some(value) => Operation::Put { key: key.into(), value: value.into() },
        None => Operation::Delete { key: key.into() },
    };
    Transaction {
        compares: compares.into_iter().map(|(key, mod_revision)| Compare { key: key.into(), mod_revision }).collect(),
        operations: writes.into_iter().map(operation).collect(),
    }
}

/// One line of JSON.
pub(super) fn line(value: &impl Serialize) -> Bytes {
    // Strings and numbers in structs: nothing that JSON cannot hold.
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    line.into()
}

fn text(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
