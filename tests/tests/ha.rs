//! Three servers, three etcd members, three real engines, and faults at random while Deployments roll.
//!
//! `DROVER_HA_KILLS` says how many faults; `make ha-proof` asks for many.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use drover_invariants::check_invariants;
use drover_tests::{Fleet, Writer, Written, eventually};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::{
    Api, ResourceExt,
    api::{ListParams, PostParams},
};
use tokio::time::{Instant, sleep, timeout};

const MANIFEST: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: ha}
spec:
  replicas: 6
  selector: {matchLabels: {app: ha}}
  strategy: {rollingUpdate: {maxSurge: 50%, maxUnavailable: 0}}
  template:
    metadata: {labels: {app: ha}}
    spec:
      terminationGracePeriodSeconds: 2
      containers:
      - name: hello
        image: drover/hello:1
        imagePullPolicy: IfNotPresent
        env: [{name: VERSION, value: '1'}]
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 1}
";
const REPLICAS: usize = 6;
/// Faults in `make test`; one of each kind.
const KILLS_SHORT: usize = 5;
/// Logs that are not there by then hang.
const LOGS_MAX: Duration = Duration::from_secs(10);

/// What is done to the cluster while it rolls.
#[derive(Debug, Clone, Copy)]
enum Fault {
    KillLeader,
    KillServer,
    PauseLeader,
    KillEtcdLeader,
    PauseEtcdLeader,
}

const FAULTS: [Fault; 5] =
    [Fault::KillLeader, Fault::KillEtcdLeader, Fault::PauseLeader, Fault::KillServer, Fault::PauseEtcdLeader];

#[tokio::test]
async fn rolls_survive_the_death_and_the_sleep_of_any_server_and_of_etcds_leader() -> Result<()> {
    if !drover_tests::engine_tests_enabled("rolls_survive_the_death_and_the_sleep_of_any_server_and_of_etcds_leader") {
        return Ok(());
    }
    let kills = std::env::var("DROVER_HA_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(KILLS_SHORT);
    let mut fleet = Fleet::start(&["drover/hello:1"]).await?;
    fleet.servers[0].kubectl_with(&["apply", "-f", "-"], MANIFEST).await?.success()?;
    rolled_out(&fleet).await?;
    every_server_reaches_every_agent(&fleet).await?;
    let (mut acknowledged, mut longest_gap) = (BTreeSet::new(), Duration::ZERO);
    for round in 0..kills {
        let fault = FAULTS[if round < FAULTS.len() { round } else { rand::random_range(0..FAULTS.len()) }];
        let version = format!("VERSION={}", round + 2);
        let before = running(&fleet).await?;
        fleet.servers[0].kubectl(&["set", "env", "deployment/ha", &version]).await?.success()?;
        let written = under_fault(&mut fleet, round, fault).await?;
        println!(
            "fault {round}: {fault:?}: write gap {:.2} s, {} acknowledged, {} refused",
            written.longest_gap.as_secs_f64(),
            written.acknowledged.len(),
            written.failed
        );
        acknowledged.extend(written.acknowledged);
        rolled_out(&fleet).await?;
        nothing_healthy_was_replaced(&fleet, &before).await?;
        nothing_acknowledged_is_lost(&fleet, &acknowledged).await?;
        one_container_a_pod(&fleet).await?;
        longest_gap = longest_gap.max(written.longest_gap);
    }
    println!("{kills} faults, {} writes acknowledged, longest write gap {longest_gap:.2?}", acknowledged.len());
    fleet.nodes_ready().await?;
    all_invariants_hold(&fleet).await
}

#[tokio::test]
async fn without_a_quorum_people_read_writes_are_refused_with_the_reason_and_workloads_run() -> Result<()> {
    if !drover_tests::engine_tests_enabled("without_a_quorum") {
        return Ok(());
    }
    let mut fleet = Fleet::start(&["drover/hello:1"]).await?;
    fleet.servers[0].kubectl_with(&["apply", "-f", "-"], MANIFEST).await?.success()?;
    rolled_out(&fleet).await?;
    let before = running(&fleet).await?;
    for member in [0, 1] {
        fleet.etcd.member(member).pause().await?;
    }
    // Not kubectl, which tries again by itself for as long as the server says `Retry-After`.
    let api = Api::<ConfigMap>::default_namespaced(fleet.servers[1].client().await?);
    let late: ConfigMap = serde_json::from_value(serde_json::json!({"metadata": {"name": "late"}}))?;
    let mut longest = Duration::ZERO;
    eventually("a write refused with the reason", async || {
        let begun = Instant::now();
        let answer = api.create(&PostParams::default(), &late).await;
        longest = longest.max(begun.elapsed());
        Ok(match answer {
            Err(kube::Error::Api(status)) if status.code == 503 && status.message.contains("has not answered") => {
                Ok(())
            }
            other => Err(format!("{other:?}")),
        })
    })
    .await?;
    println!("without a quorum the slowest write was refused after {:.2} s", longest.as_secs_f64());
    let read = fleet.servers[0].kubectl(&["get", "pods", "-l", "app=ha", "--no-headers"]).await?;
    ensure!(read.stdout.lines().count() == REPLICAS && read.stderr.contains("Warning"), "{read:?}");
    let ready = fleet.servers[0].kubectl(&["get", "--raw", "/readyz?verbose"]).await?;
    ensure!(format!("{ready:?}").contains("[-]store failed"), "{ready:?}");
    ensure!(running(&fleet).await? == before, "a container changed while there was no quorum");
    for member in [0, 1] {
        fleet.etcd.member(member).resume().await?;
    }
    eventually("writes accepted again", async || {
        Ok(match api.create(&PostParams::default(), &late).await {
            Ok(_) => Ok(()),
            // One of those that were under way when the quorum was lost.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            Err(error) => Err(error.to_string()),
        })
    })
    .await?;
    ensure!(running(&fleet).await? == before, "a container changed when the quorum was back");
    Ok(())
}

/// Does one thing to the cluster at a random point of a roll, undoes it, and writes all the while.
async fn under_fault(fleet: &mut Fleet, round: usize, fault: Fault) -> Result<Written> {
    let mut clients = Vec::new();
    for server in &fleet.servers {
        clients.push(server.client().await?);
    }
    let leader = fleet.leader().await?;
    let etcd_leader = fleet.etcd.leader().await?;
    // A random point of the roll, and a random length of the fault; a pause is longer than any lease.
    let (delay, length) = (rand::random_range(0..2_000), rand::random_range(4_000..10_000));
    let length = if std::env::var_os("DROVER_HA_KILLS").is_some() && round % 7 == 2 { 60_000 } else { length };
    let writer = Writer::start(clients, &format!("round-{round}"));
    sleep(Duration::from_millis(delay)).await;
    let victim = match fault {
        Fault::KillServer => rand::random_range(0..fleet.servers.len()),
        Fault::KillLeader | Fault::PauseLeader | Fault::KillEtcdLeader | Fault::PauseEtcdLeader => leader,
    };
    match fault {
        Fault::KillLeader | Fault::KillServer => fleet.servers[victim].kill().await?,
        Fault::PauseLeader => fleet.servers[victim].process.as_ref().context("it runs")?.pause().await?,
        Fault::KillEtcdLeader => fleet.etcd.member(etcd_leader).kill().await?,
        Fault::PauseEtcdLeader => fleet.etcd.member(etcd_leader).pause().await?,
    }
    sleep(Duration::from_millis(length)).await;
    match fault {
        Fault::KillLeader | Fault::KillServer => {
            fleet.servers[victim].start()?;
            fleet.servers[victim].serving().await?;
        }
        Fault::PauseLeader => fleet.servers[victim].process.as_ref().context("it runs")?.resume().await?,
        Fault::KillEtcdLeader => fleet.etcd.restart(etcd_leader)?,
        Fault::PauseEtcdLeader => fleet.etcd.member(etcd_leader).resume().await?,
    }
    writer.finish().await
}

async fn rolled_out(fleet: &Fleet) -> Result<()> {
    eventually("the roll complete, by every server's word", async || {
        for server in &fleet.servers {
            let status = server.kubectl(&["rollout", "status", "deployment/ha", "--timeout=110s"]).await?;
            if status.code != 0 {
                return Ok(Err(format!("{}\n{}\n{}", status.stdout, status.stderr, server.log())));
            }
        }
        Ok(Ok(()))
    })
    .await
}

/// Returns the running container of each pod, as the engines see it.
async fn running(fleet: &Fleet) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for server in &fleet.servers {
        let containers = server.engine.containers().await?;
        let running = containers.into_iter().filter(|container| container.state == "running");
        found.extend(running.map(|container| (container.pod_uid, container.id)));
    }
    Ok(found)
}

/// A pod that is still there has the container that it had, and none was started twice.
async fn nothing_healthy_was_replaced(fleet: &Fleet, before: &BTreeMap<String, String>) -> Result<()> {
    let now = running(fleet).await?;
    for pod in fleet.pods("app=ha").await? {
        let (uid, name) = (pod.uid().unwrap_or_default(), pod.name_any());
        if let (Some(before), Some(now)) = (before.get(&uid), now.get(&uid)) {
            ensure!(before == now, "the container of {name} was replaced: {before} by {now}");
        }
        let statuses = pod.status.and_then(|status| status.container_statuses).unwrap_or_default();
        ensure!(statuses.iter().all(|status| status.restart_count == 0), "{name} was restarted");
    }
    Ok(())
}

async fn nothing_acknowledged_is_lost(fleet: &Fleet, acknowledged: &BTreeSet<String>) -> Result<()> {
    for server in &fleet.servers {
        let api = Api::<ConfigMap>::default_namespaced(server.client().await?);
        let found = api.list(&ListParams::default()).await?.items;
        let found: BTreeSet<String> = found.iter().map(ResourceExt::name_any).collect();
        let lost: Vec<&String> = acknowledged.difference(&found).collect();
        ensure!(lost.is_empty(), "{} does not show acknowledged writes: {lost:?}", server.node());
    }
    Ok(())
}

/// Old pods go in their own time; in the end the engines hold exactly one container for each pod there is.
async fn one_container_a_pod(fleet: &Fleet) -> Result<()> {
    eventually("exactly one container a pod", async || {
        let mut wanted: Vec<String> = fleet.pods("app=ha").await?.iter().filter_map(Pod::uid).collect();
        let mut held = Vec::new();
        for server in &fleet.servers {
            held.extend(server.engine.containers().await?.into_iter().map(|container| container.pod_uid));
        }
        wanted.sort();
        held.sort();
        Ok(if wanted == held && wanted.len() == REPLICAS { Ok(()) } else { Err((wanted, held)) })
    })
    .await
}

/// Logs and exec work through any server, wherever the pod is.
async fn every_server_reaches_every_agent(fleet: &Fleet) -> Result<()> {
    for pod in fleet.pods("app=ha").await? {
        for server in &fleet.servers {
            let name = pod.name_any();
            let logs = timeout(LOGS_MAX, server.droverctl(&["logs", &name])).await.context("logs hang")??;
            ensure!(logs.code == 0, "logs of {name} through {}: {logs:?}", server.node());
        }
    }
    Ok(())
}

async fn all_invariants_hold(fleet: &Fleet) -> Result<()> {
    let quiet = Instant::now();
    eventually("every invariant", async || {
        let violations = check_invariants(&fleet.world(quiet.elapsed()).await?);
        let violations: Vec<String> = violations.iter().map(ToString::to_string).collect();
        Ok(if violations.is_empty() { Ok(()) } else { Err(violations) })
    })
    .await?;
    if fleet.servers.iter().any(|server| server.process.is_none()) {
        bail!("a server is down at the end");
    }
    Ok(())
}
