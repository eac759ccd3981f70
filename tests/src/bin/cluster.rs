//! A cluster of N hosts with an engine each, on this machine, for trying things out: `make cluster N=3`.
//!
//! Prints how long it took from nothing to a Service that answers through every host, and how to use it; ends, and takes
//! everything away again, at Ctrl-C (or at once with `--once`).

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use drover_tests::{Pool, eventually, get};
use tokio::signal::unix::{SignalKind, signal};

const NODE_PORT: u16 = 30_080;
const HOSTS_MAX: usize = 20;

const MANIFEST: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: REPLICAS
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: hello
        image: drover/hello:1
        imagePullPolicy: IfNotPresent
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: http, nodePort: 30080}]
";

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
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let started = Instant::now();
    // Dropping what was begun takes it away again.
    let pool = tokio::select! {
        pool = start(hosts) => pool?,
        _ = interrupt.recv() => bail!("interrupted"),
        _ = terminate.recv() => bail!("terminated"),
    };
    say(&pool, started.elapsed());
    if !once {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }
    println!("taking it away");
    pool.keep_quiet();
    Ok(())
}

async fn start(hosts: usize) -> Result<Pool> {
    let pool = Pool::of_hosts(hosts, &["drover/hello:1", "drover/busybox:1"]).await?;
    let manifest = MANIFEST.replace("REPLICAS", &(2 * hosts).to_string());
    pool.kubectl(&["apply", "-f", "-"], &manifest).await?.success()?;
    pool.kubectl(&["rollout", "status", "deployment/web", "--timeout=120s"], "").await?.success()?;
    for agent in &pool.agents {
        let url = format!("http://{}:{NODE_PORT}/", agent.engine.address());
        eventually(&format!("an answer at {url}"), async || Ok(get(&url).await.map_err(|error| format!("{error:#}"))))
            .await?;
    }
    Ok(pool)
}

#[expect(clippy::print_stdout, reason = "its output is its purpose")]
fn say(pool: &Pool, took: Duration) {
    println!(
        "{} hosts from nothing to a Service that answers through each: {:.1} s\n",
        pool.agents.len(),
        took.as_secs_f64()
    );
    println!("  export KUBECONFIG={}", pool.data_dir().join("admin.kubeconfig").display());
    println!("  kubectl get nodes,pods -o wide");
    for agent in &pool.agents {
        let namespace = agent.engine.host().map(|host| host.namespace().display().to_string()).unwrap_or_default();
        let (address, url) = (agent.engine.address(), agent.engine.url());
        println!(
            "  {}: curl http://{address}:{NODE_PORT}/    docker -H {url} ps    nsenter --net={namespace} sh",
            agent.name
        );
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
