//! The peer: a direct API client that does nothing but create, start, stop and remove, at a given concurrency.
//!
//! It knows everything beforehand and reports to nobody, so it is the best that a client can get from this engine.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use bollard::{
    models::{ContainerCreateBody, HostConfig, HostConfigLogConfig},
    query_parameters::{
        CreateContainerOptions, RemoveContainerOptionsBuilder, StartContainerOptions, StopContainerOptionsBuilder,
    },
};
use futures::{StreamExt, TryStreamExt, stream};

use crate::{
    engine::{Engine, LABEL},
    options::Options,
};

/// The environment of the workload in every arm: port 0 is any free port, so that N servers fit on one host network.
pub(crate) const ENV: (&str, &str) = ("PORT", "0");

/// How the containers of the direct client reach the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Network {
    /// Docker's default bridge: the engine makes a name space, a link, an address and rules for each container.
    Bridge,
    /// The host's own network: the engine makes nothing.
    Host,
}

impl Network {
    /// Both, in the order of the report.
    pub(crate) const ALL: [Self; 2] = [Self::Bridge, Self::Host];

    /// Returns Docker's name of it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Host => "host",
        }
    }
}

/// How the direct client removes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removal {
    /// SIGTERM, wait for the exit within the grace period, remove: what Drover does with a pod.
    Stop,
    /// `rm -f`: SIGKILL and remove.
    Force,
}

/// Calls in flight and the containers a second that they got.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Point {
    /// Calls in flight.
    pub(crate) concurrency: usize,
    /// Containers a second to create and start.
    pub(crate) create: f64,
    /// Containers a second to stop and remove.
    pub(crate) stop: f64,
    /// Containers a second to `rm -f`.
    pub(crate) force: f64,
}

/// The concurrency at which each of the three is fastest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Best {
    /// For creating and starting.
    pub(crate) create: usize,
    /// For stopping and removing.
    pub(crate) stop: usize,
    /// For `rm -f`.
    pub(crate) force: usize,
}

/// Picks the best of a sweep; the lower concurrency when two are equal.
pub(crate) fn best(sweep: &[Point]) -> Option<Best> {
    let fastest = |rate: fn(&Point) -> f64| {
        let mut points = sweep.iter();
        let first = points.next()?;
        let better = |best, point| if rate(point) > rate(best) { point } else { best };
        Some(points.fold(first, better).concurrency)
    };
    Some(Best {
        create: fastest(|point| point.create)?,
        stop: fastest(|point| point.stop)?,
        force: fastest(|point| point.force)?,
    })
}

/// Measures one concurrency with two batches: one is stopped, one is forced.
///
/// # Errors
/// When a call fails.
pub(crate) async fn measure(engine: &Engine, options: &Options, network: Network, concurrency: usize) -> Result<Point> {
    let count = options.sweep_count;
    let first = create(engine, options, network, count, concurrency).await?;
    let stop = remove(engine, options, Removal::Stop, concurrency).await?;
    let second = create(engine, options, network, count, concurrency).await?;
    let force = remove(engine, options, Removal::Force, concurrency).await?;
    let rate = |count: usize, took: Duration| count as f64 / took.as_secs_f64();
    Ok(Point {
        concurrency,
        create: rate(2 * count, first + second),
        stop: rate(count, stop),
        force: rate(count, force),
    })
}

/// Creates and starts `count` containers and returns how long that took, first call to last answer.
///
/// # Errors
/// When a call fails, or fewer run afterwards.
pub(crate) async fn create(
    engine: &Engine,
    options: &Options,
    network: Network,
    count: usize,
    concurrency: usize,
) -> Result<Duration> {
    let body = body(engine, options, network);
    let started = Instant::now();
    let starts = (0..count).map(|_| create_and_start(engine, body.clone()));
    stream::iter(starts).buffer_unordered(concurrency).try_collect::<()>().await?;
    let took = started.elapsed();
    let running = engine.direct(Some("running")).await?.len();
    ensure!(running == count, "{running} of {count} containers run");
    Ok(took)
}

/// Removes all containers of this run and returns how long that took, first call to last answer.
///
/// # Errors
/// When a call fails, or a container stays.
pub(crate) async fn remove(
    engine: &Engine,
    options: &Options,
    removal: Removal,
    concurrency: usize,
) -> Result<Duration> {
    let ids = engine.direct(None).await?;
    let grace_secs = i32::try_from(options.grace_secs)?;
    let started = Instant::now();
    let removals = ids.iter().map(|id| remove_one(engine, id, removal, grace_secs));
    stream::iter(removals).buffer_unordered(concurrency).try_collect::<()>().await?;
    let took = started.elapsed();
    let left = engine.direct(None).await?.len();
    ensure!(left == 0, "{left} containers are left");
    Ok(took)
}

async fn create_and_start(engine: &Engine, body: ContainerCreateBody) -> Result<()> {
    let made = engine.docker.create_container(None::<CreateContainerOptions>, body).await?;
    engine.docker.start_container(&made.id, None::<StartContainerOptions>).await?;
    Ok(())
}

async fn remove_one(engine: &Engine, id: &str, removal: Removal, grace_secs: i32) -> Result<()> {
    if removal == Removal::Stop {
        let grace = StopContainerOptionsBuilder::default().t(grace_secs).build();
        engine.docker.stop_container(id, Some(grace)).await?;
    }
    let force = RemoveContainerOptionsBuilder::default().force(removal == Removal::Force).build();
    engine.docker.remove_container(id, Some(force)).await?;
    Ok(())
}

fn body(engine: &Engine, options: &Options, network: Network) -> ContainerCreateBody {
    // The log settings of the agent, so that no arm writes more than another.
    let log_options =
        HashMap::from([("max-size", "10m"), ("max-file", "3")].map(|(key, value)| (key.to_owned(), value.to_owned())));
    ContainerCreateBody {
        image: Some(options.image.clone()),
        env: Some(vec![format!("{}={}", ENV.0, ENV.1)]),
        labels: Some(HashMap::from([(LABEL.to_owned(), engine.run.clone())])),
        host_config: Some(HostConfig {
            network_mode: Some(network.name().to_owned()),
            log_config: Some(HostConfigLogConfig { typ: Some("json-file".to_owned()), config: Some(log_options) }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_call_has_its_own_best_concurrency() {
        let point = |concurrency, create, stop, force| Point { concurrency, create, stop, force };
        let sweep = [point(1, 4.0, 9.0, 5.0), point(8, 8.5, 7.0, 17.0), point(16, 8.0, 9.0, 17.0)];
        assert_eq!(best(&sweep), Some(Best { create: 8, stop: 1, force: 8 }));
        assert_eq!(best(&[]), None);
    }
}
