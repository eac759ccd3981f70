//! The peer: a service of swarm mode, one address a task by DNS, and HAProxy in front that watches its tasks.

use std::time::Instant;

use anyhow::Result;
use drover_tests::{Load, LoadReport, Swarm, eventually, get};

use super::{KEEP_ALIVE_MAX, Options, UNBOUNDED};

/// As its users have it: the tasks by DNS, looked up every second, checked every second.
const CONFIG: &str = "
defaults
  mode http
  timeout connect 2s
  timeout client 60s
  timeout server 60s
  option redispatch 1
  retries 3
  retry-on conn-failure empty-response
resolvers docker
  nameserver dns 127.0.0.11:53
  resolve_retries 3
  timeout resolve 1s
  timeout retry 1s
  hold valid 1s
frontend web
  bind *:80
  default_backend web
backend web
  balance roundrobin
  server-template task 20 web:8080 check inter 1s fall 1 rise 1 resolvers docker init-addr libc,none
";

/// Returns what was done, and what became of the requests.
pub(crate) async fn run(options: &Options) -> Result<(String, Vec<(&'static str, LoadReport)>)> {
    let swarm = Swarm::start(options.hosts, &["drover/hello:1", "drover/haproxy:1"]).await?;
    swarm.docker(&["network", "create", "--driver", "overlay", "--attachable", "front"]).await?;
    let replicas = (2 * options.hosts).to_string();
    let service =
        ["service", "create", "--name", "web", "--replicas", &replicas, "--network", "front", "--detach=false"];
    let update = ["--endpoint-mode", "dnsrr", "--update-order", "start-first", "--update-parallelism", "2"];
    let task = ["--stop-grace-period", "30s", "--env", "VERSION=1", "--env", "ON_SIGTERM=exit", "drover/hello:1"];
    swarm.docker(&[&service[..], &update, &task].concat()).await?;
    std::fs::write(swarm.dir().join("haproxy.cfg"), CONFIG)?;
    let volume = format!("{}:/etc/haproxy", swarm.dir().display());
    let run = ["run", "--detach", "--name", "front", "--network", "front", "--publish", "80:80", "--volume", &volume];
    swarm.docker(&[&run[..], &["drover/haproxy:1", "-W", "-f", "/etc/haproxy/haproxy.cfg"]].concat()).await?;
    let url = format!("http://{}:80/", swarm.manager.address());
    eventually("HAProxy", async || Ok(get(&url).await.map(drop).map_err(|error| error.to_string()))).await?;
    let (rate, requests) = (options.rate / 2, options.requests / 2);
    let loads = [
        Load::start_with(&url, rate, requests, &["--keep-alive-max", KEEP_ALIVE_MAX])?,
        Load::start_with(&url, rate, requests, &["--keep-alive-max", UNBOUNDED])?,
    ];
    let began = Instant::now();
    let mut roll = 0;
    while options.goes_on(roll + 1, began) {
        roll += 1;
        let version = format!("VERSION={}", roll + 1);
        swarm.docker(&["service", "update", "--detach=false", "--quiet", "--env-add", &version, "web"]).await?;
    }
    let done = format!("{roll} rolls in {:.0} s", began.elapsed().as_secs_f64());
    let mut reports = Vec::new();
    for (what, load) in ["HAProxy, new and kept for 200 requests", "HAProxy, new and kept for ever"].iter().zip(loads) {
        reports.push((*what, load.finish().await?));
    }
    Ok((done, reports))
}
