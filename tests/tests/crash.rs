//! SIGKILL at random points of a roll: the roll completes, nothing healthy restarts, nothing leaks, nothing is lost.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, ensure};
use drover_tests::{Cluster, Store, eventually, on_both_stores};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::{Api, ResourceExt, api::PostParams};
use serde_json::json;

const HELLO: &str = include_str!("../../manifests/hello.yaml");
/// Kills in a row, as the issue asks.
const KILLS: u32 = 20;

on_both_stores! { a_roll_survives_twenty_kills }

async fn a_roll_survives_twenty_kills(store: Store) -> Result<()> {
    let mut cluster = Cluster::start(store).await?;
    cluster.apply(HELLO).await?;
    cluster.rolled_out("hello").await?;
    let mut acknowledged = Vec::new();
    for round in 0..KILLS {
        let version = format!("VERSION={}", round + 2);
        cluster.kubectl(&["set", "env", "deployment/hello", &version]).await?.success()?;
        // A random point of the roll, reached by doing something for a random while: writing what must not be lost.
        let until = tokio::time::Instant::now() + Duration::from_millis(u64::from(rand::random::<u16>() % 3_000));
        write_until(&cluster, round, until, &mut acknowledged).await?;
        cluster.kill().await?;
        let survivors = containers_by_pod(&cluster).await?;
        cluster.restart().await?;
        cluster.rolled_out("hello").await?;
        nothing_acknowledged_is_lost(&cluster, &acknowledged).await?;
        nothing_healthy_was_restarted(&cluster, &survivors).await?;
        one_container_for_each_pod(&cluster).await?;
    }
    let expected = format!("version {}", KILLS + 1);
    cluster.answers("hello", &expected).await?;
    cluster.check().await
}

/// Creates ConfigMaps until the instant, and notes each that the server acknowledged.
async fn write_until(
    cluster: &Cluster,
    round: u32,
    until: tokio::time::Instant,
    acknowledged: &mut Vec<String>,
) -> Result<()> {
    let api = Api::<ConfigMap>::default_namespaced(cluster.client().await?);
    for number in 0.. {
        let name = format!("round-{round}-{number}");
        let object: ConfigMap = serde_json::from_value(json!({"metadata": {"name": name}, "data": {"n": name}}))?;
        api.create(&PostParams::default(), &object).await?;
        acknowledged.push(name);
        if tokio::time::Instant::now() >= until {
            break;
        }
    }
    Ok(())
}

async fn nothing_acknowledged_is_lost(cluster: &Cluster, acknowledged: &[String]) -> Result<()> {
    let api = Api::<ConfigMap>::default_namespaced(cluster.client().await?);
    let found = api.list(&kube::api::ListParams::default()).await?.items;
    let found: std::collections::BTreeSet<String> = found.iter().map(ResourceExt::name_any).collect();
    for name in acknowledged {
        ensure!(found.contains(name), "acknowledged write {name} was lost");
    }
    Ok(())
}

/// Returns the running container of each pod, as the engine sees it.
async fn containers_by_pod(cluster: &Cluster) -> Result<BTreeMap<String, String>> {
    let filter = format!("label=dev.drover.cluster={}", cluster.name()?);
    let format = "{{.Label \"dev.drover.pod.name\"}} {{.ID}}";
    let args = ["ps", "--no-trunc", "--filter", &filter, "--format", format];
    let listed = drover_tests::run("docker".as_ref(), &args, "", &[]).await?.success()?;
    let pairs = listed.lines().filter_map(|line| line.split_once(' '));
    Ok(pairs.map(|(pod, id)| (pod.to_owned(), id.to_owned())).collect())
}

/// A pod that outlived the kill still has the container that it had.
async fn nothing_healthy_was_restarted(cluster: &Cluster, survivors: &BTreeMap<String, String>) -> Result<()> {
    for pod in cluster.pods("app=hello").await? {
        let name = pod.name_any();
        let now = container_of(&pod).with_context(|| format!("{name} has a container"))?;
        if let Some(before) = survivors.get(&name) {
            ensure!(now == format!("docker://{before}"), "the container of {name} was replaced: {before} by {now}");
        }
        let statuses = pod.status.and_then(|status| status.container_statuses).unwrap_or_default();
        ensure!(statuses.iter().all(|status| status.restart_count == 0), "{name} was restarted");
    }
    Ok(())
}

fn container_of(pod: &Pod) -> Option<String> {
    pod.status.as_ref()?.container_statuses.as_ref()?.first()?.container_id.clone()
}

/// Old pods go in their own time; in the end the engine holds exactly the containers of the pods there are.
async fn one_container_for_each_pod(cluster: &Cluster) -> Result<()> {
    eventually("exactly one container a pod", async || {
        let wanted: Vec<String> = cluster.pods("app=hello").await?.iter().filter_map(container_of).collect();
        let mut wanted: Vec<String> = wanted.iter().map(|id| id.replace("docker://", "")).collect();
        let mut held = cluster.containers().await?;
        wanted.sort();
        held.sort();
        Ok(if wanted == held && wanted.len() == 3 { Ok(()) } else { Err((wanted, held)) })
    })
    .await
}
