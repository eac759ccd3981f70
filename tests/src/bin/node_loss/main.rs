//! How long a dead host goes unnoticed, on real engines: `make node-loss KILLS=50`.
//!
//! Hosts of one machine, each a network name space with an engine of its own. Again and again the host with the most
//! pods loses its link, its agent and its engine at once, under requests to the Service through another host; then it
//! comes back. Printed are, from the kill: when the last request was sent that was not answered promptly, when the Node was marked, and when
//! as many pods as asked for were Ready elsewhere. After that the cluster is strained without any host dying, and any
//! node that is given up is counted. Docker's swarm mode loses a host in the same way, in the same run.

mod kill;
mod strain;
mod swarm;

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use drover_tests::Web;
use tokio::signal::unix::{SignalKind, signal};

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Options {
    hosts: usize,
    kills: usize,
    swarm_kills: usize,
    strain: Duration,
}

fn options(arguments: impl Iterator<Item = String>) -> Result<Options> {
    let mut options = Options { hosts: 3, kills: 50, swarm_kills: 3, strain: Duration::from_secs(60) };
    let mut arguments = arguments;
    while let Some(name) = arguments.next() {
        let value = arguments.next().with_context(|| format!("{name} needs a number"))?;
        let number: usize = value.parse().with_context(|| format!("{name}: {value:?} is no number"))?;
        match name.as_str() {
            "--hosts" => options.hosts = number,
            "--kills" => options.kills = number,
            "--swarm-kills" => options.swarm_kills = number,
            "--strain-secs" => options.strain = Duration::from_secs(number.try_into()?),
            _ => bail!("{name}: --hosts, --kills, --swarm-kills or --strain-secs"),
        }
    }
    ensure!((3..=20).contains(&options.hosts), "3 to 20 hosts, not {}: fewer cannot tell a dead host", options.hosts);
    Ok(options)
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = options(std::env::args().skip(1))?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    // Dropping what was begun takes it away again.
    tokio::select! {
        outcome = measure(&options) => outcome,
        _ = interrupt.recv() => bail!("interrupted"),
        _ = terminate.recv() => bail!("terminated"),
    }
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

/// Three columns of seconds.
fn percentiles(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    // The nearest rank: the smallest that so many percent do not exceed.
    let at = |percent: usize| times.get((times.len() * percent).div_ceil(100).max(1) - 1).copied().unwrap_or_default();
    [50, 99, 100].map(|percent| format!("{:6.2}", at(percent).as_secs_f64())).join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let times = |count: u64| (1..=count).rev().map(Duration::from_secs).collect();
        assert_eq!(percentiles(times(100)), " 50.00  99.00 100.00");
        assert_eq!(percentiles(times(1)), "  1.00   1.00   1.00");
        assert_eq!(percentiles(Vec::new()), "  0.00   0.00   0.00");
    }

    #[test]
    fn what_is_asked_for_is_named() {
        let parse = |words: &[&str]| options(words.iter().map(|word| (*word).to_owned()));
        assert_eq!(parse(&["--kills", "7", "--hosts", "4"]).unwrap().kills, 7);
        for wrong in [["--hosts", "2"], ["--kills", "many"], ["--what", "1"]] {
            parse(&wrong).unwrap_err();
        }
        parse(&["--kills"]).unwrap_err();
    }
}
