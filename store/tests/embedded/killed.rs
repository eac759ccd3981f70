//! A real process on a real disk, killed at random moments: what it printed as acknowledged is there.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use drover_store::embedded::{Embedded, Options};
use drover_store::{Backend, Operation, Transaction, TransactionResult};
use futures::future::join_all;

/// When it is set, this test binary is the process to kill.
const VICTIM_DIR: &str = "DROVER_STORE_VICTIM_DIR";
const ROUNDS: u32 = 20;
const WRITERS: u32 = 8;

#[test]
fn a_killed_process_keeps_what_it_acknowledged() {
    if let Some(dir) = std::env::var_os(VICTIM_DIR) {
        return write_for_ever(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged: BTreeMap<String, u64> = BTreeMap::new();
    let mut last_revision = 0;
    for round in 0..ROUNDS {
        // Between the first acknowledgement and some hundreds: other moments in each round.
        let lines = read_then_kill(dir.path(), 1 + (round * 37) % 400);
        for line in &lines {
            let (writer, number_and_revision) = line.split_once('=').unwrap();
            let (number, revision) = number_and_revision.split_once('@').unwrap();
            let (number, revision): (u64, u64) = (number.parse().unwrap(), revision.parse().unwrap());
            let previous = acknowledged.insert(writer.to_owned(), number);
            assert!(previous.unwrap_or(0) < number, "{writer} went from {previous:?} to {number}");
            last_revision = revision.max(last_revision);
        }
        check(dir.path(), &acknowledged, last_revision);
    }
    let total: u64 = acknowledged.values().sum();
    println!("killed {ROUNDS} times after {total} acknowledged writes, none lost");
}

fn read_then_kill(dir: &Path, count: u32) -> Vec<String> {
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "killed::a_killed_process_keeps_what_it_acknowledged", "--nocapture"])
        .env(VICTIM_DIR, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(victim.stdout.take().unwrap()).lines();
    let mut lines = Vec::new();
    while lines.len() < count as usize {
        let line = output.next().expect("the victim writes for ever").unwrap();
        lines.extend(line.split_once("ack ").map(|(_, ack)| ack.to_owned()));
    }
    victim.kill().unwrap();
    victim.wait().unwrap();
    // What was acknowledged between our last look and the kill counts as well. A line is one write to the pipe, so
    // none is cut short.
    lines
        .extend(output.map_while(Result::ok).filter_map(|line| line.split_once("ack ").map(|(_, ack)| ack.to_owned())));
    lines
}

fn check(dir: &Path, acknowledged: &BTreeMap<String, u64>, last_revision: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Embedded::open(dir, Options::default()).unwrap();
        assert!(store.revision().await.unwrap() >= last_revision, "the revision went back");
        for (writer, number) in acknowledged {
            let stored = store.get(writer.as_bytes()).await.unwrap().unwrap();
            assert!(parse(&stored.value) >= *number, "{writer}: acknowledged {number}, found {}", parse(&stored.value));
        }
    });
}

fn parse(value: &[u8]) -> u64 {
    std::str::from_utf8(value).unwrap().parse().unwrap()
}

/// The victim: each writer counts on from what is stored, and prints each number once it is acknowledged.
fn write_for_ever(dir: &Path) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Embedded::open(dir, Options::default()).unwrap();
        join_all((0..WRITERS).map(|writer| tokio::spawn(count_up(Arc::clone(&store), writer)))).await;
    });
}

async fn count_up(store: Arc<Embedded>, writer: u32) {
    let key = format!("/writer/{writer}");
    let stored = store.get(key.as_bytes()).await.unwrap();
    let mut number = stored.map_or(0, |kv| parse(&kv.value));
    loop {
        number += 1;
        let put = Operation::Put { key: Bytes::from(key.clone()), value: Bytes::from(number.to_string()) };
        let transaction = Transaction { compares: vec![], operations: vec![put] };
        let TransactionResult::Committed { revision } = store.commit(transaction).await.unwrap() else { return };
        let line = format!("ack {key}={number}@{revision}\n");
        std::io::stdout().write_all(line.as_bytes()).unwrap();
    }
}
