//! The main job: from a manifest to an answered request, rolled, undone, restarted, on either store.

use anyhow::{Result, ensure};
use drover_tests::{Cluster, Load, Store, eventually, on_both_stores};

const HELLO: &str = include_str!("../../manifests/hello.yaml");

on_both_stores! {
    a_manifest_becomes_an_answered_request_is_rolled_and_undone,
    a_stopped_server_leaves_containers_running_and_adopts_them,
    a_second_server_on_the_same_data_directory_is_refused,
}

async fn a_manifest_becomes_an_answered_request_is_rolled_and_undone(store: Store) -> Result<()> {
    let cluster = Cluster::start(store).await?;
    cluster.apply(HELLO).await?;
    cluster.rolled_out("hello").await?;
    cluster.answers("hello", "version 1").await?;

    let load = Load::start(&cluster.service_url("hello").await?, 200, 1)?;
    cluster.kubectl(&["set", "env", "deployment/hello", "VERSION=2"]).await?.success()?;
    cluster.rolled_out("hello").await?;
    cluster.answers("hello", "version 2").await?;
    cluster.kubectl(&["rollout", "undo", "deployment/hello"]).await?.success()?;
    cluster.rolled_out("hello").await?;
    let report = load.finish().await?;
    ensure!(report.failed == 0, "requests failed: {}", report.json);
    ensure!(report.json["answers"]["1"].is_u64() && report.json["answers"]["2"].is_u64(), "{}", report.json);

    cluster.kubectl_with(&["delete", "--wait", "-f", "-"], HELLO).await?.success()?;
    cluster.no_pods("app=hello").await?;
    nothing_is_left(&cluster).await
}

async fn nothing_is_left(cluster: &Cluster) -> Result<()> {
    eventually("no container left", async || {
        let left = cluster.containers().await?;
        Ok(if left.is_empty() { Ok(()) } else { Err(left) })
    })
    .await
}

async fn a_stopped_server_leaves_containers_running_and_adopts_them(store: Store) -> Result<()> {
    let mut cluster = Cluster::start(store).await?;
    cluster.apply(HELLO).await?;
    cluster.rolled_out("hello").await?;
    let before = cluster.containers().await?;
    let url = cluster.service_url("hello").await?;

    let code = cluster.stop().await?;
    ensure!(code == Some(0), "SIGTERM ended the server in {code:?}");
    ensure!(drover_tests::get(&url).await?.contains("version 1"), "the data plane needs no server");
    cluster.restart().await?;
    cluster.rolled_out("hello").await?;
    ensure!(cluster.containers().await? == before, "containers were restarted");
    cluster.check().await?;
    for pod in cluster.pods("app=hello").await? {
        let statuses = pod.status.and_then(|status| status.container_statuses).unwrap_or_default();
        ensure!(statuses.iter().all(|status| status.restart_count == 0), "{statuses:?}");
    }
    Ok(())
}

async fn a_second_server_on_the_same_data_directory_is_refused(store: Store) -> Result<()> {
    let cluster = Cluster::start(store).await?;
    let data_dir = cluster.data_dir();
    let args = ["up", "--listen", "127.0.0.1:0", "--data-dir", data_dir.to_str().unwrap_or_default()];
    let second = drover_tests::run(&drover_tests::binary("drover")?, &args, "", &[]).await?;
    let said = second.failure()?;
    ensure!(said.contains("another process") || said.contains("in use"), "the reason is missing: {said}");
    cluster.kubectl(&["get", "namespaces"]).await?.success()?;
    Ok(())
}
