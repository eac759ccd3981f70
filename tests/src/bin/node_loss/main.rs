//! How long a dead host goes unnoticed, on real engines: `make node-loss KILLS=50`.
//!
//! Hosts of one machine, each a network name space with an engine of its own. Again and again the host with the most
//! pods loses its link, its agent and its engine at once, under requests to the Service through another host; then it
//! comes back. Printed are, from the kill: when the last request was sent that was not answered promptly, when the Node
//! was marked, and when as many pods as asked for were Ready elsewhere. After that the cluster is strained without any host dying, and any
//! node that is given up is counted. Docker's swarm mode loses a host in the same way, in the same run.

mod kill;
mod strain;
mod swarm;

use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser as _;
use drover_tests::{Web, percentiles, unless_told_to_end};

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, clap::Parser)]
struct Options {
    /// How many hosts there are; two cannot tell which of them is dead
    #[arg(long, default_value_t = 3, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(3..=20))]
    hosts: usize,
    /// How many of them die, one after the other
    #[arg(long, default_value_t = 50)]
    kills: usize,
    /// How many die in swarm mode
    #[arg(long, default_value_t = 3)]
    swarm_kills: usize,
    /// For how many seconds the cluster is strained in each way
    #[arg(long = "strain-secs", default_value = "60", value_parser = |text: &str| text.parse().map(Duration::from_secs))]
    strain: Duration,
}

#[tokio::main]
async fn main() -> Result<()> {
    unless_told_to_end(measure(&Options::parse())).await
}

#[expect(clippy::print_stdout, reason = "its output is its purpose")]
async fn measure(options: &Options) -> Result<()> {
    let mut web = Web::start(options.hosts).await?;
    let mut losses = Vec::new();
    for number in 1..=options.kills {
        let loss = kill::lose_a_host(&mut web).await.with_context(|| format!("kill {number}"))?;
        println!("kill {number:2}: {loss}");
        losses.push(loss);
    }
    println!("\nof {} kills, in seconds from the kill       p50    p99    max", losses.len());
    let row = |what: &str, times: Vec<Duration>| println!("  {what:38} {}", percentiles(times));
    let requests = losses.iter().map(|loss| loss.requests);
    let (sent, late, failed) = requests.fold((0, 0, 0), |all, one| (all.0 + one.0, all.1 + one.1, all.2 + one.2));
    row("last request that was answered late", losses.iter().map(|loss| loss.traffic_away).collect());
    row("Node marked", losses.iter().map(|loss| loss.marked).collect());
    row("replacements Ready", losses.iter().map(|loss| loss.replaced).collect());
    println!("  of {sent} requests {late} answered late, {failed} not at all");
    if !options.strain.is_zero() {
        let evicted = strain::strain(&mut web, options.strain).await?;
        println!("\nnodes given up without a cause: {evicted}");
    }
    web.pool.keep_quiet();
    if options.swarm_kills > 0 {
        let times = swarm::lose_hosts(options.hosts, options.swarm_kills).await?;
        println!("\nDocker swarm mode, {} kills:                 p50    p99    max", times.len());
        row("replacement tasks running", times);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_named() {
        let parse = |words: &[&str]| Options::try_parse_from([&["node_loss"], words].concat());
        assert_eq!(parse(&["--kills", "7", "--hosts", "4"]).unwrap().kills, 7);
        for wrong in [["--hosts", "2"], ["--kills", "many"], ["--what", "1"]] {
            parse(&wrong).unwrap_err();
        }
        parse(&["--kills"]).unwrap_err();
    }
}
