//! Whether anybody notices a change: `make zero-drop REQUESTS=1000000`.
//!
//! Hosts with an engine each, on one machine. An application that exits at once on SIGTERM is rolled again and again,
//! while hosts are drained, the control plane and agents are killed. Requests go at a fixed rate, without a retry, to its
//! ClusterIP (half on new connections, half on such as carry 200) and through an Ingress (half on new connections, half
//! on such as never end). Then the same load and rolls in Docker's swarm mode with HAProxy in front. Printed are requests,
//! failures and latencies of both; a failure of ours ends with 1.

mod ours;
mod swarm;

use std::time::Instant;

use anyhow::{Result, ensure};
use clap::Parser as _;
use drover_tests::{LoadReport, unless_told_to_end};

/// Requests on a connection to the ClusterIP.
const KEEP_ALIVE_MAX: &str = "200";
/// Requests on a connection through the Ingress: more than there are.
const UNBOUNDED: &str = "4000000000";

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, clap::Parser)]
struct Options {
    /// How many hosts there are
    #[arg(long, default_value_t = 3, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(2..=20))]
    hosts: usize,
    /// Requests at least, half of them each way
    #[arg(long, default_value_t = 1_000_000)]
    requests: u64,
    /// Requests a second, half of them each way
    #[arg(long, default_value_t = 1_600)]
    rate: u64,
    /// Rolling updates at least, and as many more as fit into the time of the requests; after every fourth a host is
    /// drained, in two others the control plane and an agent are killed
    #[arg(long, default_value_t = 20)]
    rolls: u32,
    /// Leave swarm mode out
    #[arg(long)]
    no_swarm: bool,
}

impl Options {
    /// Whether there is another roll to do, so long after the first request.
    fn goes_on(&self, roll: u32, since: Instant) -> bool {
        roll <= self.rolls || since.elapsed().as_secs() < self.requests / self.rate.max(1)
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    unless_told_to_end(measure(&Options::parse())).await
}

#[expect(clippy::print_stdout, reason = "its output is its purpose")]
async fn measure(options: &Options) -> Result<()> {
    let (done, reports) = ours::run(options).await?;
    println!("Drover, {} hosts: {done}", options.hosts);
    show(&reports);
    let failed: u64 = reports.iter().map(|(_, report)| report.failed).sum();
    if !options.no_swarm {
        let (done, reports) = swarm::run(options).await?;
        println!("Docker swarm mode with HAProxy, {} hosts: {done}", options.hosts);
        show(&reports);
    }
    ensure!(failed == 0, "{failed} requests failed");
    Ok(())
}

#[expect(clippy::print_stdout, reason = "its output is its purpose")]
fn show(reports: &[(&str, LoadReport)]) {
    for (what, report) in reports {
        let millis = |key: &str| report.json[key].as_f64().unwrap_or_default() / 1000.0;
        println!(
            "  {what:50} {:>9} requests {:>6} failed   p50 {:.2} ms  p99 {:.2} ms",
            report.sent,
            report.failed,
            millis("p50_us"),
            millis("p99_us")
        );
        for (error, count) in report.json["errors"].as_object().into_iter().flatten() {
            println!("    {count} times: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_named() {
        let parse = |words: &[&str]| Options::try_parse_from([&["zero_drop"], words].concat());
        assert_eq!(parse(&["--rolls", "4", "--no-swarm"]).unwrap().rolls, 4);
        for wrong in [&["--hosts", "1"][..], &["--rolls", "many"], &["--what", "1"]] {
            parse(wrong).unwrap_err();
        }
    }
}
