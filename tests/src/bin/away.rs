//! The control plane is away: what its users notice. `make away SECS=600`.
//!
//! Hosts with an engine each, on one machine, run a Deployment behind a Service. The server is killed and stays away;
//! meanwhile requests go to the Service from outside through a host's node port, half of them on new connections, and from
//! a pod of every host by its name. Printed are requests and failures of both, and containers that were not the same at
//! the end; anything but zeros ends with 1.

use std::{
    collections::BTreeSet,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use clap::Parser as _;
use drover_tests::{Load, Web, unless_told_to_end};

/// Requests a second from outside.
const RATE: u64 = 500;
/// Between two rounds of requests by name, one from each host.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, clap::Parser)]
struct Options {
    /// How many hosts there are
    #[arg(long, default_value_t = 3, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=20))]
    hosts: usize,
    /// For how many seconds the control plane is away
    #[arg(long = "secs", default_value = "600", value_parser = |text: &str| text.parse().map(Duration::from_secs))]
    span: Duration,
}

#[tokio::main]
async fn main() -> Result<()> {
    unless_told_to_end(measure(&Options::parse())).await
}

#[expect(clippy::print_stdout, reason = "its output is its purpose")]
async fn measure(options: &Options) -> Result<()> {
    let mut web = Web::start(options.hosts).await?;
    let before = containers(&web).await?;
    let callers = callers(&web).await?;
    let load = Load::start(&web.url(0), RATE, 1)?;
    web.pool.kill_server().await?;
    let (started, mut asked, mut unanswered) = (Instant::now(), 0_u64, 0_u64);
    while started.elapsed() < options.span {
        for caller in &callers {
            asked += 1;
            if let Err(error) = caller.ask(&web).await {
                unanswered += 1;
                eprintln!("by name from {}: {error:#}", caller.host);
            }
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
    let away = started.elapsed();
    web.pool.start_server().await?;
    web.client = web.pool.client().await?;
    web.settled().await?;
    let report = load.finish().await?;
    let after = containers(&web).await?;
    let changed = before.symmetric_difference(&after).count();
    println!("control plane away for {:.0} s, {} hosts", away.as_secs_f64(), options.hosts);
    println!("  from outside: {} requests, {} failed", report.sent, report.failed);
    println!("  by name from a pod of each host: {asked} requests, {unanswered} failed");
    println!("  containers that are not the same: {changed} of {}", before.len());
    ensure!(report.failed == 0 && unanswered == 0 && changed == 0, "somebody noticed");
    web.pool.keep_quiet();
    Ok(())
}

/// All containers that run, by host.
async fn containers(web: &Web) -> Result<BTreeSet<(String, String)>> {
    let mut found = BTreeSet::new();
    for agent in &web.pool.agents {
        for container in agent.engine.containers().await?.into_iter().filter(|one| one.state == "running") {
            found.insert((agent.name.clone(), container.id));
        }
    }
    Ok(found)
}

/// A pod that asks.
struct Caller {
    host: usize,
    uid: String,
    address: Ipv4Addr,
}

/// One pod of each host.
async fn callers(web: &Web) -> Result<Vec<Caller>> {
    let pods = web.pods().await?;
    let caller = |(host, agent): (usize, &drover_tests::Agent)| {
        let here = |spec: &k8s_openapi::api::core::v1::PodSpec| spec.node_name.as_ref() == Some(&agent.name);
        let pod = pods.iter().find(|pod| pod.spec.as_ref().is_some_and(here));
        let pod = pod.with_context(|| format!("no pod on {}", agent.name))?;
        let address = pod.status.as_ref().and_then(|status| status.pod_ip.as_ref()).context("it has an address")?;
        Ok(Caller { host, uid: pod.metadata.uid.clone().unwrap_or_default(), address: address.parse()? })
    };
    web.pool.agents.iter().enumerate().map(caller).collect()
}

impl Caller {
    async fn ask(&self, web: &Web) -> Result<()> {
        let url = "http://web.default.svc.cluster.local/";
        web.pool.agents[self.host].curl(&self.uid, self.address, url).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_seconds_are_numbers_within_reason() {
        let parse = |words: &[&str]| Options::try_parse_from([&["away"], words].concat());
        assert_eq!(parse(&[]).unwrap(), Options { hosts: 3, span: Duration::from_secs(600) });
        assert_eq!(parse(&["--secs", "7", "--hosts", "4"]).unwrap().hosts, 4);
        for wrong in [&["--hosts", "0"][..], &["--secs", "-1"], &["--secs"], &["--what", "1"]] {
            parse(wrong).unwrap_err();
        }
    }
}
