//! Measures the store's durable writes: `cargo run --release -p drover-store --example puts -- [DIR | etcd://HOST:PORT]`.
//!
//! Prints the disk's own sync time first, then puts a second at several concurrencies, and what it takes to open a
//! store of 100,000 objects, also after a kill. A program for people: it judges nothing.

#![expect(clippy::print_stdout, reason = "its output is its purpose")]

use std::error::Error;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use drover_store::embedded::{Embedded, Options};
use drover_store::{Backend, Etcd, Operation, Range, Transaction, etcd};
use futures::future::try_join_all;

const VALUE_BYTES: usize = 1024;
const MEASURE: Duration = Duration::from_secs(3);
const OBJECTS: u64 = 100_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let target = std::env::args().nth(1).unwrap_or_else(|| "target/puts".to_owned());
    if let Some(endpoint) = target.strip_prefix("etcd://") {
        let store = Etcd::connect(&[endpoint], etcd::Options::default()).await?;
        return measure_puts(store).await;
    }
    let dir = PathBuf::from(target).join(std::process::id().to_string());
    std::fs::create_dir_all(&dir)?;
    print_sync_time(&dir)?;
    let store = Embedded::open(&dir.join("puts"), Options::default())?;
    measure_puts(Arc::clone(&store) as Arc<dyn Backend>).await?;
    let health = store.health();
    println!("{} transactions in {} commits, {} syncs", health.transactions, health.commits, health.syncs);
    store.close();
    measure_opening(&dir.join("many")).await?;
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}

fn print_sync_time(dir: &Path) -> Result<(), Box<dyn Error>> {
    let file = File::create(dir.join("sync"))?;
    let mut times = Vec::new();
    for n in 0..500 {
        file.write_all_at(&[7; 4096], n % 64 * 4096)?;
        let begun = Instant::now();
        file.sync_data()?;
        times.push(begun.elapsed());
    }
    times.sort();
    println!("fdatasync of 4 KiB: p50 {:?}, p99 {:?}", times[250], times[495]);
    Ok(())
}

async fn measure_puts(store: Arc<dyn Backend>) -> Result<(), Box<dyn Error>> {
    for concurrency in [1, 8, 64, 1000] {
        let begun = Instant::now();
        let writers =
            (0..concurrency).map(|writer| tokio::spawn(put_until(Arc::clone(&store), writer, begun + MEASURE)));
        let mut times = Vec::new();
        for writer in try_join_all(writers).await? {
            times.extend(writer?);
        }
        let rate = times.len() as f64 / begun.elapsed().as_secs_f64();
        times.sort();
        let (p50, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
        println!("{concurrency:5} writers: {rate:8.0} durable puts/s of {VALUE_BYTES} bytes, p50 {p50:?}, p99 {p99:?}");
    }
    Ok(())
}

async fn put_until(store: Arc<dyn Backend>, writer: u64, until: Instant) -> Result<Vec<Duration>, drover_store::Error> {
    let mut times = Vec::new();
    while Instant::now() < until {
        let begun = Instant::now();
        store.commit(put(writer * 64 + times.len() as u64 % 64)).await?;
        times.push(begun.elapsed());
    }
    Ok(times)
}

fn put(key: u64) -> Transaction {
    let operation = Operation::Put {
        key: Bytes::from(format!("/registry/core/pods/default/pod-{key:06}")),
        value: Bytes::from(vec![b'x'; VALUE_BYTES]),
    };
    Transaction { compares: vec![], operations: vec![operation] }
}

async fn measure_opening(dir: &Path) -> Result<(), Box<dyn Error>> {
    let store = Embedded::open(dir, Options::default())?;
    for chunk in 0..OBJECTS / 1000 {
        try_join_all((0..1000).map(|n| store.commit(put(chunk * 1000 + n)))).await?;
    }
    // What a kill would leave behind: the files as they are, without a clean end.
    let killed = dir.with_extension("killed");
    std::fs::create_dir_all(&killed)?;
    std::fs::copy(dir.join("store.redb"), killed.join("store.redb"))?;
    store.close();
    for (what, dir) in [("after a clean end", dir), ("after a kill", &killed)] {
        let begun = Instant::now();
        let store = Embedded::open(dir, Options::default())?;
        let opened = begun.elapsed();
        let listed = store.range(Range::default()).await?.items.len();
        println!("{OBJECTS} objects {what}: open {opened:?}, with a list of all {listed} {:?}", begun.elapsed());
    }
    Ok(())
}
