//! A cluster of N hosts with an engine each, on this machine, for trying things out: `make cluster N=3`.
//!
//! Prints how long it took from nothing to a Service that answers through every host, and how to use it; ends, and takes
//! everything away again, at Ctrl-C (or at once with `--once`).

use std::{
    pin::pin,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use drover_tests::{Web, eventually, get, told_to_end};

const HOSTS_MAX: usize = 20;

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
struct Options {
    hosts: usize,
    once: bool,
}

fn options(arguments: impl Iterator<Item = String>) -> Result<Options> {
    let mut options = Options { hosts: 3, once: false };
    for argument in arguments {
        match argument.as_str() {
            "--once" => options.once = true,
            number => options.hosts = number.parse().with_context(|| format!("{number:?} is no number of hosts"))?,
        }
    }
    ensure!((1..=HOSTS_MAX).contains(&options.hosts), "1 to {HOSTS_MAX} hosts, not {}", options.hosts);
    Ok(options)
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "its output is its purpose")]
async fn main() -> Result<()> {
    let Options { hosts, once } = options(std::env::args().skip(1))?;
    let mut told = pin!(told_to_end());
    let started = Instant::now();
    // Dropping what was begun takes it away again.
    let web = tokio::select! {
        web = start(hosts) => web?,
        told = &mut told => bail!(told?),
    };
    say(&web, started.elapsed());
    if !once {
        told.await?;
    }
    println!("taking it away");
    web.pool.keep_quiet();
    Ok(())
}

async fn start(hosts: usize) -> Result<Web> {
    let web = Web::start(hosts).await?;
    for number in 0..hosts {
        let url = web.url(number);
        eventually(&format!("an answer at {url}"), async || Ok(get(&url).await.map_err(|error| format!("{error:#}"))))
            .await?;
    }
    Ok(web)
}

#[expect(clippy::print_stdout, reason = "its output is its purpose")]
fn say(web: &Web, took: Duration) {
    let pool = &web.pool;
    println!(
        "{} hosts from nothing to a Service that answers through each: {:.1} s\n",
        pool.agents.len(),
        took.as_secs_f64()
    );
    println!("  export KUBECONFIG={}", pool.data_dir().join("admin.kubeconfig").display());
    println!("  kubectl get nodes,pods -o wide");
    for (number, agent) in pool.agents.iter().enumerate() {
        let namespace = agent.engine.host().map(|host| host.namespace().display().to_string()).unwrap_or_default();
        let (url, engine) = (web.url(number), agent.engine.url());
        println!("  {}: curl {url}    docker -H {engine} ps    nsenter --net={namespace} sh", agent.name);
    }
    println!("\nCtrl-C takes it away.");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_a_number_within_reason() {
        let parse = |words: &[&str]| options(words.iter().map(|word| (*word).to_owned()));
        assert_eq!(parse(&[]).unwrap(), Options { hosts: 3, once: false });
        assert_eq!(parse(&["5", "--once"]).unwrap(), Options { hosts: 5, once: true });
        for wrong in ["0", "21", "many", "-1"] {
            parse(&[wrong]).unwrap_err();
        }
    }
}
