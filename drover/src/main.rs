//! The daemon binary: flags and wiring, nothing else.
//!
//! Reads the command line, opens the store, and starts the API server, the controllers and the agent that were asked
//! for, each with its own client. SIGTERM or SIGINT ends all of them and leaves every container running.

mod agent;
mod cli;
mod data_dir;
mod hollow;
mod server;
mod store;

use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Parser;
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::cli::{Cli, Command};

/// Objects are many small pieces, made on one thread and dropped on another (docs/adr/0023-jemalloc.md).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> Result<()> {
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    // One crypto provider in the whole process, chosen before anything can pick another.
    let chosen = rustls::crypto::ring::default_provider().install_default();
    anyhow::ensure!(chosen.is_ok(), "another TLS provider is installed already");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    runtime.block_on(run(cli.command))
}

async fn run(command: Command) -> Result<()> {
    match command {
        Command::Up(options) => up(options).await,
        Command::Server(options) => serve(options, true).await,
        Command::Apiserver(options) => serve(options, false).await,
        Command::Agent(options) => agent::run(options, shutdown_on_signal()?).await,
        Command::Hollow(options) => hollow::run(options, shutdown_on_signal()?).await,
        Command::Controllers(options) => server::controllers_alone(&options, shutdown_on_signal()?).await,
        Command::Uninstall(options) => agent::uninstall(&options).await,
    }
}

/// Runs everything on this host.
async fn up(options: cli::Up) -> Result<()> {
    let shutdown = shutdown_on_signal()?;
    let mut tasks = JoinSet::new();
    let running = server::start(&options.server, "127.0.0.1:6443", &shutdown).await?;
    server::spawn_controllers(&running, &options.server, &mut tasks, &shutdown);
    agent::spawn(&running, &options, &mut tasks, &shutdown)?;
    finish(running, &options.server, tasks, &shutdown).await
}

/// Runs the API server, with the controllers unless they run elsewhere.
async fn serve(options: cli::Server, controllers: bool) -> Result<()> {
    let shutdown = shutdown_on_signal()?;
    let mut tasks = JoinSet::new();
    let running = server::start(&options, "0.0.0.0:6443", &shutdown).await?;
    if controllers {
        server::spawn_controllers(&running, &options, &mut tasks, &shutdown);
    }
    finish(running, &options, tasks, &shutdown).await
}

/// Says that the server serves, and waits for the end: a signal, or a part that failed.
async fn finish(
    running: server::Running,
    options: &cli::Server,
    mut tasks: JoinSet<Result<()>>,
    shutdown: &CancellationToken,
) -> Result<()> {
    data_dir::write_server_json(&options.data_dir, &running.handle.url)?;
    let mut outcome = Ok(());
    loop {
        // Cancel-safe: neither arm takes anything that a dropped wait would lose.
        let ended = tokio::select! {
            () = shutdown.cancelled(), if !shutdown.is_cancelled() => continue,
            ended = tasks.join_next() => ended,
        };
        match ended {
            Some(Ok(Ok(()))) if shutdown.is_cancelled() => {}
            Some(Ok(Ok(()))) => outcome = Err(anyhow::anyhow!("a part of the server ended by itself")),
            Some(Ok(Err(error))) => outcome = Err(error),
            Some(Err(error)) => outcome = Err(error.into()),
            None => break,
        }
        // One part without the others would serve half the truth: all end together, and whoever supervises restarts.
        shutdown.cancel();
    }
    shutdown.cancelled().await;
    if let Some(handle) = Arc::into_inner(running.handle) {
        handle.join().await;
    }
    data_dir::remove_server_json(&options.data_dir);
    outcome
}

fn shutdown_on_signal() -> Result<CancellationToken> {
    let shutdown = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).context("cannot handle SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot handle SIGINT")?;
    let cancelled = shutdown.clone();
    tokio::spawn(async move {
        // Cancel-safe: signals stay pending in their streams.
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("ending; containers keep running");
        cancelled.cancel();
    });
    Ok(shutdown)
}
