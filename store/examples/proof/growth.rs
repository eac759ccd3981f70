//! Very many writes over few keys: the file is bounded by what can be read, compaction keeps up, memory stays.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use drover_store::embedded::{Embedded, Options};
use drover_store::{Backend, Error, Operation, Range, Retention, Transaction};
use futures::StreamExt;
use futures::future::try_join_all;

const KEYS: u64 = 1_000;
/// As large as a Pod: one to a page.
const VALUE_BYTES: usize = 3_800;
/// So many writes share a commit: half a thousandth of it all, for a commit is copy on write.
const AT_ONCE: u64 = 64;
/// A quarter of the keys: what can be read is then mostly what is live, and the file can be held against it.
const KEEP_REVISIONS: u64 = KEYS / 4;
/// The bound that the file has to keep once the store is at rest.
const TIMES_LIVE: u64 = 3;
/// Two rounds of maintenance, and a little more: the first sees the last write, the second sees none.
const REST: Duration = Duration::from_secs(65);

/// What was seen.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    live_bytes: u64,
    readable_bytes: u64,
    file_bytes: u64,
    file_bytes_last: u64,
    file_bytes_max: u64,
    history_max: u64,
    memory_kib_first: u64,
    memory_kib_max: u64,
    compactions: u64,
    failures: u64,
    reads: u64,
}

/// `growth WRITES [DIR]`. Returns whether it stayed within bounds.
pub(crate) fn program(arguments: &[&str]) -> Result<bool, Box<dyn std::error::Error>> {
    let writes = arguments.first().ok_or("say how many writes")?.parse()?;
    let parent = arguments.get(1).copied().unwrap_or("/dev/shm");
    let dir = tempfile::tempdir_in(parent)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let begun = Instant::now();
    let outcome = runtime.block_on(run(dir.path(), writes, REST))?;
    println!(
        "{writes} writes over {KEYS} keys of {VALUE_BYTES} bytes in {parent}, {KEEP_REVISIONS} revisions kept, {:.0} s",
        begun.elapsed().as_secs_f64()
    );
    println!("live {} KiB, readable with history {} KiB", outcome.live_bytes >> 10, outcome.readable_bytes >> 10);
    println!(
        "file {} KiB at most, {} KiB with the last write, {} KiB at rest: {:.2} times the live data",
        outcome.file_bytes_max >> 10,
        outcome.file_bytes_last >> 10,
        outcome.file_bytes >> 10,
        outcome.file_bytes as f64 / outcome.live_bytes as f64
    );
    println!(
        "history at most {} revisions, {} compactions, {} failed; {} full reads beside; memory {} KiB after a tenth, {} KiB at most",
        outcome.history_max,
        outcome.compactions,
        outcome.failures,
        outcome.reads,
        outcome.memory_kib_first,
        outcome.memory_kib_max
    );
    Ok(outcome.is_bounded())
}

/// Writes, with readers pinned for the middle of it, then rests for a while.
pub(crate) async fn run(dir: &Path, writes: u64, rest: Duration) -> Result<Outcome, Box<dyn std::error::Error>> {
    let retention = Retention { keep_revisions: KEEP_REVISIONS, ..Retention::default() };
    let store = Embedded::open(dir, Options { retention, ..Options::default() })?;
    let mut outcome = Outcome::default();
    // Never read until the end: it must hold nothing back.
    let mut stalled = store.changes(b"", 0).await?;
    let (reading, reads) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut reader = None;
    let mut written = 0;
    while written < writes {
        let batch = (written..writes.min(written + AT_ONCE)).map(|n| store.commit(put(n)));
        written += try_join_all(batch).await?.len() as u64;
        let health = store.health();
        outcome.file_bytes_max = outcome.file_bytes_max.max(health.file_bytes);
        outcome.history_max = outcome.history_max.max(health.revision - health.compacted);
        outcome.failures = outcome.failures.max(health.maintenance_failures);
        let tenths = written * 10 / writes;
        if tenths >= 3 && reader.is_none() {
            reading.store(true, Ordering::SeqCst);
            reader = Some(tokio::spawn(read_the_past(Arc::clone(&store), Arc::clone(&reading), Arc::clone(&reads))));
        }
        reading.store((3..7).contains(&tenths), Ordering::SeqCst);
        if written % (AT_ONCE * 64) < AT_ONCE {
            let memory = resident_kib()?;
            outcome.memory_kib_max = outcome.memory_kib_max.max(memory);
            if tenths == 0 {
                outcome.memory_kib_first = memory;
            }
        }
    }
    if let Some(reader) = reader {
        reader.await??;
    }
    outcome.reads = reads.load(Ordering::SeqCst);
    match stalled.next().await {
        Some(Err(Error::Compacted { .. })) => {}
        other => return Err(format!("the stalled watch was given {other:?}").into()),
    }
    outcome.file_bytes_last = store.health().file_bytes;
    tokio::time::sleep(rest).await;
    outcome.measure(&store).await?;
    store.close();
    Ok(outcome)
}

/// Reads everything at one old revision, again and again, until that is compacted; then at another one.
async fn read_the_past(store: Arc<Embedded>, reading: Arc<AtomicBool>, reads: Arc<AtomicU64>) -> Result<(), Error> {
    while reading.load(Ordering::SeqCst) {
        let at = Some(store.revision().await?);
        loop {
            match store.range(Range { at, ..Range::default() }).await {
                Ok(_) => reads.fetch_add(1, Ordering::SeqCst),
                Err(Error::Compacted { .. }) => break,
                Err(error) => return Err(error),
            };
        }
    }
    Ok(())
}

impl Outcome {
    async fn measure(&mut self, store: &Embedded) -> Result<(), Box<dyn std::error::Error>> {
        let health = store.health();
        self.file_bytes = health.file_bytes;
        self.compactions = health.compactions;
        let live = store.range(Range::default()).await?.items;
        self.live_bytes = live.iter().map(|kv| (kv.key.len() + kv.value.len()) as u64).sum();
        let oldest = store.range(Range { at: Some(health.compacted), ..Range::default() }).await?.items;
        self.readable_bytes = oldest.iter().map(|kv| (kv.key.len() + kv.value.len()) as u64).sum();
        let mut history = store.changes(b"", health.compacted).await?;
        let mut at = health.compacted;
        while at < health.revision {
            let changes = history.next().await.ok_or("the history ends early")??;
            at = changes.revision;
            self.readable_bytes += changes
                .events
                .iter()
                .map(|event| (event.current.key.len() + event.current.value.len()) as u64)
                .sum::<u64>();
        }
        Ok(())
    }

    pub(crate) fn is_bounded(&self) -> bool {
        self.file_bytes <= TIMES_LIVE * self.live_bytes && self.keeps_up()
    }

    /// Whether compaction kept up with the writes.
    pub(crate) fn keeps_up(&self) -> bool {
        self.failures == 0 && self.history_max <= 2 * KEEP_REVISIONS + 2 * AT_ONCE
    }
}

fn put(n: u64) -> Transaction {
    // A stride that is no divisor: neighbours in time are not neighbours in the tree.
    let key = Bytes::from(format!("/registry/pods/default/pod-{:04}", n * 389 % KEYS));
    let operation = Operation::Put { key, value: Bytes::from(format!("{n:0width$}", width = VALUE_BYTES)) };
    Transaction { compares: vec![], operations: vec![operation] }
}

fn resident_kib() -> Result<u64, Box<dyn std::error::Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn compaction_keeps_up_with_twenty_thousand_writes_over_a_thousand_keys() {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let outcome = run(dir.path(), 20_000, Duration::ZERO).await.unwrap();
        println!("{outcome:?}");
        assert!(outcome.keeps_up(), "{outcome:?}");
    }
}
