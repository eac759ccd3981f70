//! What the figures depend on and this program does not choose: disclosed in every report.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::Result;
use drover_tests::fdatasync_p50_us;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{engine::Engine, options::Options, peer, usage::Cpu};

/// Describes machine, engine and settings.
///
/// # Errors
/// When the engine or `/proc` does not answer.
pub(crate) async fn describe(options: &Options, engine: &Engine) -> Result<Value> {
    let (info, version) = (engine.docker.info().await?, engine.docker.version().await?);
    let load = fs::read_to_string("/proc/loadavg")?;
    Ok(json!({
        "run": engine.run,
        "cores": std::thread::available_parallelism()?.get(),
        "kernel": info.kernel_version,
        "memory_bytes": info.mem_total,
        "engine": version.version,
        "storage_driver": info.driver,
        "cgroup_version": info.cgroup_version,
        "load_average": load.split_whitespace().next(),
        "fdatasync_p50_us": fdatasync_p50_us()?,
        "image": options.image,
        "env": format!("{}={}", peer::ENV.0, peer::ENV.1),
        "replicas": options.replicas,
        "sweep_count": options.sweep_count,
        "repeat": options.repeat,
        "grace_secs": options.grace_secs,
    }))
}

/// Returns how many processors others kept busy during one quiet second of ours.
///
/// # Errors
/// When `/proc` cannot be read.
pub(crate) async fn background_cores() -> Result<f64> {
    let (started, before) = (Instant::now(), Cpu::now(None)?);
    sleep(Duration::from_secs(1)).await;
    let used = Cpu::now(None)?.since(before);
    Ok((used.machine - used.client).max(0.0) / started.elapsed().as_secs_f64())
}
