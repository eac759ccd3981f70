//! Our rates beside those of a direct API client on the same engine, in the same run; `docs/benchmarks.md` says what
//! each figure means.
//!
//! Prints a table and, as its last line, the same as JSON. There are no thresholds in here: the goals stand beside the
//! figures. Every container carries a label of this run and is removed at the end, also after an error or Ctrl-C.

mod arms;
mod engine;
mod machine;
mod options;
mod ours;
mod peer;
mod plane;
mod report;
mod startup;
mod usage;
mod watcher;

use anyhow::{Result, bail};
use tokio::signal::unix::{SignalKind, signal};

use crate::{engine::Engine, options::Options, report::Report};

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::from_args(std::env::args().skip(1))?;
    let engine = Engine::connect(&options).await?;
    let mut report = Report::new(machine::describe(&options, &engine).await?);
    // Dropping the run, as an interrupt does, ends `drover up` and uninstalls it; then the rest is removed.
    let outcome = tokio::select! {
        outcome = arms::run(&options, &engine, &mut report) => outcome,
        outcome = interrupted() => outcome,
    };
    let cleaned = engine.remove_all_of_this_run().await;
    report.print();
    outcome.and(cleaned)
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
