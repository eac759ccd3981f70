//! How fast the control plane is when nodes cost nothing: apply, roll and delete a Deployment on hollow nodes, on both
//! stores; `docs/benchmarks.md` says what each figure means.
//!
//! Starts release binaries as processes, watches from a process of its own, and prints a table and, as its last line, the
//! same as JSON. There are no thresholds in here.

mod measure;
mod options;
mod processes;
mod report;
mod watcher;

use anyhow::{Result, bail};
use drover_tests::Store;
use tokio::signal::unix::{SignalKind, signal};

use crate::{options::Options, report::Report};

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::from_args(std::env::args().skip(1))?;
    let mut report = Report::new(&options)?;
    // Dropping a run, as an interrupt does, ends its processes.
    let outcome = tokio::select! {
        outcome = all(&options, &mut report) => outcome,
        outcome = interrupted() => outcome,
    };
    report.print();
    outcome
}

async fn all(options: &Options, report: &mut Report) -> Result<()> {
    for store in [Store::Embedded, Store::Etcd] {
        if options.stores.contains(&store) {
            measure::run(options, store, report).await?;
        }
    }
    Ok(())
}

async fn interrupted() -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    // Cancel-safe: both only wait for a signal.
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
    bail!("interrupted")
}
