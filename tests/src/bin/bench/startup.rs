//! How long `drover up` takes to be ready, and what it costs when nothing happens.

use std::time::Instant;

use anyhow::Result;
use tokio::time::sleep;

use crate::{
    engine::Engine,
    options::Options,
    plane::{Home, Plane, Start},
    usage,
};

/// The starts on each kind of data directory.
#[derive(Debug, Clone, Default)]
pub(crate) struct Starts {
    /// On an empty one.
    pub(crate) fresh: Vec<Start>,
    /// On one that has been used before.
    pub(crate) used: Vec<Start>,
}

/// What an idle `drover up` uses.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Idle {
    /// Proportional set size.
    pub(crate) pss_bytes: u64,
    /// Share of one processor.
    pub(crate) cpu_share: f64,
}

/// Starts and stops `drover up` again and again.
///
/// # Errors
/// When it does not start or stop.
pub(crate) async fn measure_starts(options: &Options, engine: &Engine) -> Result<Starts> {
    let mut starts = Starts::default();
    for _ in 0..options.starts {
        starts.fresh.push(start_and_stop(&Home::new(options, engine)?).await?);
    }
    let home = Home::new(options, engine)?;
    start_and_stop(&home).await?;
    for _ in 0..options.starts {
        starts.used.push(start_and_stop(&home).await?);
    }
    Ok(starts)
}

/// Lets a plane without work settle, and measures it.
///
/// # Errors
/// When it ends.
pub(crate) async fn measure_idle(options: &Options, plane: &Plane) -> Result<Idle> {
    let pid = plane.pid()?;
    sleep(options.settle).await;
    let (began, before) = (Instant::now(), usage::of_process(pid)?);
    sleep(options.idle).await;
    let used = usage::of_process(pid)? - before;
    let cpu_share = used / began.elapsed().as_secs_f64();
    Ok(Idle { pss_bytes: usage::pss_bytes(pid)?, cpu_share })
}

async fn start_and_stop(home: &Home) -> Result<Start> {
    let (plane, start) = home.start().await?;
    plane.stop().await?;
    Ok(start)
}
