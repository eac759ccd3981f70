//! Whether tables follow the objects whatever happens: `make upheaval FAULTS=500`.
//!
//! Hosts with an engine each, on one machine, run a Deployment behind a Service with an address, one without, and an
//! Ingress on every host. In each round a few things happen at once, chosen by a seed: rolls, other sizes, pods that move,
//! Services that are made anew, routes and ingress hosts that come and go, agents, engines and control planes that are
//! killed, links that are cut or lose what goes one way. Then all is healed, and every table of every host must become
//! what the objects say: the kernel's for Services and pods' networks, HAProxy's, and the answers of the name server.
//! Once the cluster is at rest nothing may be there that belongs to no object. Printed are the times that took; what
//! takes longer than two minutes ends with 1.

mod harm;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use clap::Parser as _;
use drover_tests::{Web, percentiles, unless_told_to_end};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use self::harm::Harm;

/// The longest wait for tables.
const PATIENCE: Duration = Duration::from_secs(120);
/// What takes longer is shown.
const PROMPT: Duration = Duration::from_secs(2);

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, clap::Parser)]
struct Options {
    /// How many hosts there are
    #[arg(long, default_value_t = 3, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(2..=20))]
    hosts: usize,
    /// How many things happen
    #[arg(long, default_value_t = 500)]
    faults: usize,
    /// Chooses them
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[tokio::main]
async fn main() -> Result<()> {
    unless_told_to_end(measure(&Options::parse())).await
}

#[expect(clippy::print_stdout, reason = "its output is its purpose")]
async fn measure(options: &Options) -> Result<()> {
    let mut web = Web::start(options.hosts).await?;
    harm::prepare(&web).await?;
    agree(&web).await.context("before anything happens")?;
    let mut chance = StdRng::seed_from_u64(options.seed);
    let (mut done, mut lags, mut rounds, mut rests) = (0, Vec::new(), Vec::new(), Vec::new());
    while done < options.faults {
        let round = harm::choose(&mut chance, options.hosts, options.faults - done);
        done += round.len();
        let held = Duration::from_millis(chance.random_range(0..3_000));
        let healed = one_round(&mut web, &round, held).await.with_context(|| format!("after {round:?}"))?;
        web.settled().await.with_context(|| format!("after {round:?}"))?;
        let rest = agree(&web).await.with_context(|| format!("at rest after {round:?}"))?;
        let [took, lag, resting] = [healed.took, healed.lag, rest.took].map(|time| time.as_secs_f64());
        println!(
            "{done:4} {round:?} for {:.1} s: all right after {took:.2} s, wrong for {lag:.2} s at most, at rest after {resting:.2} s",
            held.as_secs_f64()
        );
        if healed.lag > PROMPT {
            println!("     {}", healed.slowest);
        }
        lags.push(healed.lag);
        rounds.push(healed.took);
        rests.push(rest.took);
    }
    println!(
        "\n{done} things in {} rounds, {} hosts, in seconds, from healing    p50    p99    max",
        lags.len(),
        options.hosts
    );
    println!("  the longest that a table was other than one demand on it      {}", percentiles(lags));
    println!("  until all tables were what all objects said at one time       {}", percentiles(rounds));
    println!("  from rest until that held and nothing was left over           {}", percentiles(rests));
    web.pool.keep_quiet();
    Ok(())
}

/// How tables came to be right.
#[derive(Debug, Default)]
struct Healed {
    /// Until all of them were so at one time.
    took: Duration,
    /// The longest that one of them was wrong in the same way: while objects change, tables may be right in turn.
    lag: Duration,
    /// In which way.
    slowest: String,
}

/// Does harm, heals it, and returns how long the tables took from then on.
async fn one_round(web: &mut Web, round: &[Harm], held: Duration) -> Result<Healed> {
    for harm in round {
        harm.begin(web).await?;
    }
    tokio::time::sleep(held).await;
    for harm in round.iter().rev() {
        harm.heal(web).await?;
    }
    follow(web).await
}

/// Waits until all tables are what the objects say at that time, but for what only a cluster at rest can have in order.
async fn follow(web: &Web) -> Result<Healed> {
    until(web, |difference| !["containers", "name spaces"].iter().any(|what| difference.contains(what))).await
}

/// Waits until nothing differs at all.
async fn agree(web: &Web) -> Result<Healed> {
    until(web, |_| true).await
}

async fn until(web: &Web, counts: impl Fn(&str) -> bool) -> Result<Healed> {
    let (started, mut healed) = (Instant::now(), Healed::default());
    let mut since: BTreeMap<String, Duration> = BTreeMap::new();
    loop {
        let looked = started.elapsed();
        // What is being made or removed while it is read cannot be read.
        let found = web.pool.differences(&web.client).await.unwrap_or_else(|error| vec![format!("{error:#}")]);
        let found: BTreeSet<String> = found.into_iter().filter(|difference| counts(difference)).collect();
        since.retain(|difference, _| found.contains(difference));
        for difference in &found {
            let lag = looked - *since.entry(difference.clone()).or_insert(looked);
            if lag > healed.lag {
                (healed.lag, healed.slowest) = (lag, difference.clone());
            }
        }
        if found.is_empty() {
            return Ok(Healed { took: looked, ..healed });
        }
        ensure!(looked < PATIENCE, "after {PATIENCE:?}: {}", found.into_iter().collect::<Vec<_>>().join("\n"));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
