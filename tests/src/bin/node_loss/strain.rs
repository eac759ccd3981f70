//! What must not look like a dead host: no core to spare, one packet in five lost each way, a control plane that comes
//! and goes.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use drover_tests::Web;
use tokio::process::{Child, Command};

/// A burst of loss, and the pause after it.
const BURST: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_secs(2);
const LOSS_PERCENT: u8 = 20;
/// Between two ends of the control plane.
const RESTART_EVERY: Duration = Duration::from_secs(10);

/// Strains the cluster for `span` in each way and returns how many nodes or pods were given up meanwhile.
#[expect(clippy::print_stdout, reason = "the program's output is its purpose")]
pub(crate) async fn strain(web: &mut Web, span: Duration) -> Result<usize> {
    let before = web.uids().await?;
    let mut given_up = BTreeSet::new();
    println!("\n{} s without a core to spare", span.as_secs());
    let spinning = spin()?;
    watch(web, span, &mut given_up).await;
    drop(spinning);
    println!("{} s with {LOSS_PERCENT} % of packets lost each way in bursts", span.as_secs());
    let started = Instant::now();
    while started.elapsed() < span {
        lose(web, LOSS_PERCENT).await?;
        watch(web, BURST, &mut given_up).await;
        lose(web, 0).await?;
        watch(web, PAUSE, &mut given_up).await;
    }
    println!("{} s with the control plane killed every {} s", span.as_secs(), RESTART_EVERY.as_secs());
    let started = Instant::now();
    while started.elapsed() < span {
        web.pool.kill_server().await?;
        web.pool.start_server().await?;
        web.client = web.pool.client().await?;
        watch(web, RESTART_EVERY, &mut given_up).await;
    }
    web.settled().await?;
    let after = web.uids().await?;
    Ok(given_up.len() + before.difference(&after).count())
}

async fn lose(web: &Web, percent: u8) -> Result<()> {
    for agent in &web.pool.agents {
        agent.engine.host().context("a host of its own")?.lose(percent, percent).await?;
    }
    Ok(())
}

/// Notes every node that is taken to be down meanwhile. While the API server is away nobody says so.
async fn watch(web: &Web, span: Duration, given_up: &mut BTreeSet<String>) {
    let started = Instant::now();
    while started.elapsed() < span {
        let nodes = web.not_ready().await.unwrap_or_default();
        let unknown =
            nodes.into_iter().filter(|(_, reason)| ["HostDown", "NodeStatusUnknown"].contains(&reason.as_str()));
        given_up.extend(unknown.map(|(name, reason)| format!("{name}: {reason}")));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Two endless loops for each core; they end with what is returned.
fn spin() -> Result<Vec<Child>> {
    let cores = std::thread::available_parallelism()?.get();
    let spin = || Command::new("sh").args(["-c", "while :; do :; done"]).kill_on_drop(true).spawn();
    Ok((0..2 * cores).map(|_| spin()).collect::<Result<_, _>>()?)
}
