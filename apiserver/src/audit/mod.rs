//! The audit log: who did what, when and from where, one JSON line each, chained by hashes.
//!
//! Owns the policy of what is written, the shape of a line, and the task that writes. A request only puts a record into a
//! bounded queue: a slow, full or blocked disk loses records, which are counted and said in the next line, and never
//! holds a request up. Bodies are never looked at. See `docs/audit-log.md`.

mod event;
mod file;
mod policy;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    fmt,
    fmt::Write as _,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use drover_api::audit::Chain;
use serde_json::{Value, json};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;

pub(crate) use event::{Named, Record, Who};
pub use file::{FileSink, Limits};
pub(crate) use policy::is_recorded;
pub use writer::Sink;

/// Records that wait for the disk; at most a few KiB each.
const QUEUE: usize = 8192;
/// Refused strangers that are written down in one second. The rest is counted, so that nobody can push the log out.
const STRANGERS_PER_SECOND: u64 = 50;

/// Where requests leave their records.
pub(crate) struct Audit {
    queue: Option<mpsc::Sender<Record>>,
    counts: Arc<Counts>,
    /// The second of the last refused stranger, and how many there were in it.
    strangers: Mutex<(i64, u64)>,
    /// What the sink says about itself.
    sink: Value,
}

/// What the writer tells.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    written: AtomicU64,
    dropped: AtomicU64,
    /// How many of the lost records a line has told already.
    told: AtomicU64,
    head: Mutex<Chain>,
}

impl fmt::Debug for Audit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Audit").field("counts", &self.counts).finish_non_exhaustive()
    }
}

impl Audit {
    /// No log.
    pub(crate) fn off() -> Self {
        Self { queue: None, counts: Arc::default(), strangers: Mutex::default(), sink: Value::Null }
    }

    /// A log, and the task that writes it until `shutdown`.
    pub(crate) fn start(sink: Box<dyn Sink>, shutdown: CancellationToken) -> (Self, JoinHandle<()>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let (counts, about): (Arc<Counts>, Value) = (Arc::default(), sink.describe());
        let writer = tokio::spawn(writer::run(sink, receiver, Arc::clone(&counts), shutdown));
        (Self { queue: Some(sender), counts, strangers: Mutex::default(), sink: about }, writer)
    }

    /// Leaves a record, or counts it as lost.
    pub(crate) fn record(&self, record: Record) {
        let Some(queue) = &self.queue else { return };
        let lost = (record.is_stranger() && self.is_flood(record.received_secs())) || queue.try_send(record).is_err();
        if lost {
            self.counts.lose(1);
        }
    }

    fn is_flood(&self, now_secs: i64) -> bool {
        let mut strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        if strangers.0 != now_secs {
            *strangers = (now_secs, 0);
        }
        strangers.1 += 1;
        strangers.1 > STRANGERS_PER_SECOND
    }

    /// Whether records are kept at all.
    pub(crate) fn is_on(&self) -> bool {
        self.queue.is_some()
    }

    /// The numbers in Prometheus' text format, under Kubernetes' names.
    pub(crate) fn render(&self) -> String {
        let mut text = String::new();
        let counts = &self.counts;
        let numbers = [
            ("apiserver_audit_event_total", "Audit events written.", "", &counts.written),
            ("apiserver_audit_error_total", "Audit events lost.", "{plugin=\"log\"}", &counts.dropped),
        ];
        for (name, help, labels, value) in numbers {
            let value = value.load(Ordering::Relaxed);
            // Writing to a String cannot fail.
            _ = write!(text, "# HELP {name} {help}\n# TYPE {name} counter\n{name}{labels} {value}\n");
        }
        text
    }

    /// What `droverctl audit` is told.
    pub(crate) fn report(&self) -> Value {
        let head = self.counts.head.lock().unwrap_or_else(PoisonError::into_inner).clone();
        json!({
            "enabled": self.is_on(),
            "sink": self.sink,
            "written": self.counts.written.load(Ordering::Relaxed),
            "dropped": self.counts.dropped.load(Ordering::Relaxed),
            "sequence": head.sequence,
            "head": head.head,
        })
    }
}

impl Counts {
    fn lose(&self, records: u64) {
        self.dropped.fetch_add(records, Ordering::Relaxed);
    }

    fn wrote(&self, records: u64, told: u64, head: &Chain) {
        self.written.fetch_add(records, Ordering::Relaxed);
        self.told.fetch_add(told, Ordering::Relaxed);
        self.head.lock().unwrap_or_else(PoisonError::into_inner).clone_from(head);
    }

    /// Lost records that no line has told yet.
    fn untold(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed) - self.told.load(Ordering::Relaxed)
    }
}
