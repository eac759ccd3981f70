//! The peer: Docker's swarm mode on hosts of the same kind. Its tasks count as replaced when they run; nothing is asked
//! of them.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use drover_tests::{Engine, Swarm, eventually};

/// The longest wait for a replacement.
const PATIENCE: Duration = Duration::from_secs(120);

/// Loses a worker's link and engine again and again; returns how long it took until all tasks ran elsewhere.
pub(crate) async fn lose_hosts(hosts: usize, kills: usize) -> Result<Vec<Duration>> {
    let mut swarm = Swarm::start(hosts, &["drover/busybox:1"]).await?;
    let replicas = 2 * hosts;
    let count = replicas.to_string();
    let service = ["service", "create", "--detach", "--name", "web", "--replicas", &count, "--network", "host"];
    let task = ["--stop-grace-period", "1s", "drover/busybox:1", "sleep", "36000"];
    swarm.docker(&[&service[..], &task[..]].concat()).await?;
    let Swarm { manager, workers, .. } = &mut swarm;
    let mut times = Vec::new();
    for _ in 0..kills {
        eventually("all tasks running", async || {
            let running = running(manager).await?;
            Ok(if running.values().sum::<usize>() == replicas { Ok(()) } else { Err(running) })
        })
        .await?;
        times.push(lose_one(manager, workers, replicas).await?);
    }
    Ok(times)
}

async fn lose_one(manager: &Engine, workers: &mut [Engine], replicas: usize) -> Result<Duration> {
    let running = running(manager).await?;
    let mut counts = Vec::new();
    for worker in &*workers {
        let id = worker.docker(&["info", "--format", "{{.Swarm.NodeID}}"]).await?.success()?.trim().to_owned();
        counts.push((running.get(&id).copied().unwrap_or_default(), id));
    }
    let (victim, (_, id)) =
        counts.into_iter().enumerate().max_by_key(|(_, (count, _))| *count).context("there are workers")?;
    let killed = Instant::now();
    workers[victim].host().context("a host of its own")?.connect(false).await?;
    workers[victim].kill().await?;
    let took = loop {
        let running = self::running(manager).await?;
        let elsewhere: usize = running.iter().filter(|(node, _)| **node != id).map(|(_, tasks)| tasks).sum();
        if elsewhere >= replicas {
            break killed.elapsed();
        }
        anyhow::ensure!(killed.elapsed() < PATIENCE, "swarm mode has not replaced the tasks: {running:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    workers[victim].host().context("a host of its own")?.connect(true).await?;
    workers[victim].restart().await?;
    eventually("the worker is back", async || {
        let state = manager.docker(&["node", "inspect", "--format", "{{.Status.State}}", &id]).await?.success()?;
        Ok(if state.trim() == "ready" { Ok(()) } else { Err(state) })
    })
    .await?;
    Ok(took)
}

/// Tasks that run and shall, by the id of their node.
async fn running(manager: &Engine) -> Result<BTreeMap<String, usize>> {
    let ids =
        manager.docker(&["service", "ps", "--quiet", "--filter", "desired-state=running", "web"]).await?.success()?;
    let mut arguments = vec!["inspect", "--format", "{{.NodeID}} {{.Status.State}}"];
    arguments.extend(ids.split_whitespace());
    let mut counts = BTreeMap::new();
    if arguments.len() > 3 {
        let states = manager.docker(&arguments).await?.success()?;
        for node in states.lines().filter_map(|line| line.strip_suffix(" running")) {
            *counts.entry(node.to_owned()).or_insert(0) += 1;
        }
    }
    Ok(counts)
}
