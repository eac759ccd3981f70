//! A restore of an older backup brings back what was, and ends nothing that is newer until an administrator says so.

use std::{
    collections::BTreeSet,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use drover_tests::{Cluster, Store, engine_tests_enabled, eventually, on_both_stores, request, run};
use hyper::Method;

const HELLO: &str = include_str!("../../manifests/hello.yaml");
const HELLO_DATA: &str = include_str!("../../manifests/hello-data.yaml");

on_both_stores! {
    what_is_newer_than_a_restored_backup_stays_until_it_is_confirmed,
}

async fn what_is_newer_than_a_restored_backup_stays_until_it_is_confirmed(store: Store) -> Result<()> {
    let mut cluster = Cluster::start(store).await?;
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("backup");
    cluster.apply(HELLO).await?;
    cluster.rolled_out("hello").await?;
    back_up(&cluster, &file).await?;

    // The cluster goes on: the old is deleted, something new runs and writes.
    cluster.kubectl_with(&["delete", "--wait", "-f", "-"], HELLO).await?.success()?;
    cluster.no_pods("app=hello").await?;
    cluster.apply(HELLO_DATA).await?;
    cluster.rolled_out("hello-data").await?;
    let url = format!("{}data/file", cluster.service_url("hello-data").await?);
    let (status, body) = request(Method::PUT, &url, "precious").await?;
    ensure!(status.is_success(), "{status}: {body}");
    let newer = running(&cluster).await?;
    ensure!(!newer.is_empty(), "nothing runs");

    let tried = restore(&cluster, &["--dry-run"], &file).await?;
    ensure!(tried.contains("would restore") && tried.contains("deployments.apps"), "{tried}");
    cluster.rolled_out("hello-data").await?;
    let restored = restore(&cluster, &[], &file).await?;
    ensure!(restored.contains("not confirmed"), "{restored}");

    cluster.rolled_out("hello").await?;
    cluster.answers("hello", "version").await?;
    ensure!(cluster.pods("app=hello-data").await?.is_empty(), "the backup does not know them");
    newer_runs_on(&cluster, &newer).await?;
    ensure!(data(&cluster)? == ["precious"], "{:?}", data(&cluster)?);
    let node = "jsonpath={.items[?(@.involvedObject.kind=='Node')].reason}";
    eventually("the node saying what it keeps", async || {
        let said = cluster.kubectl(&["get", "events", "-A", "-o", node]).await?.success()?;
        Ok(if said.contains("RestoreNotConfirmed") { Ok(()) } else { Err(said) })
    })
    .await?;

    cluster.kill().await?;
    cluster.restart().await?;
    cluster.rolled_out("hello").await?;
    newer_runs_on(&cluster, &newer).await?;

    confirm(&cluster, &newer).await?;
    cluster.rolled_out("hello").await?;
    ensure!(data(&cluster)? == ["precious"], "data of volumes that nobody deleted stays");
    Ok(())
}

#[tokio::test]
async fn a_lost_store_ends_nothing_and_is_made_good_from_a_backup() -> Result<()> {
    if !engine_tests_enabled("a_lost_store_ends_nothing_and_is_made_good_from_a_backup") {
        return Ok(());
    }
    let mut cluster = Cluster::start(Store::Embedded).await?;
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("backup");
    cluster.apply(HELLO).await?;
    cluster.rolled_out("hello").await?;
    back_up(&cluster, &file).await?;
    let before = running(&cluster).await?;

    cluster.stop().await?;
    std::fs::remove_dir_all(cluster.data_dir().join("store"))?;
    cluster.restart().await?;
    eventually("the node saying what it keeps", async || {
        let args = ["get", "events", "-A", "-o", "jsonpath={.items[?(@.involvedObject.kind=='Node')].message}"];
        let said = cluster.kubectl(&args).await?.success()?;
        Ok(if said.contains("pods of this node") { Ok(()) } else { Err(said) })
    })
    .await?;
    newer_runs_on(&cluster, &before).await?;

    restore(&cluster, &[], &file).await?;
    cluster.rolled_out("hello").await?;
    cluster.answers("hello", "version").await?;
    ensure!(running(&cluster).await? == before, "the pods of the backup were adopted, none was restarted");
    cluster.droverctl(&["restore", "--confirm"]).await?.success()?;
    cluster.answers("hello", "version").await?;
    ensure!(running(&cluster).await? == before, "there is nothing to let go");
    Ok(())
}

async fn back_up(cluster: &Cluster, file: &Path) -> Result<()> {
    let said = cluster.droverctl(&["backup", text(file)?]).await?.success()?;
    ensure!(said.contains("sha256"), "{said}");
    let mode = std::fs::metadata(file)?.permissions().mode() & 0o777;
    ensure!(mode == 0o600, "{mode:o}");
    Ok(())
}

async fn restore(cluster: &Cluster, flags: &[&str], file: &Path) -> Result<String> {
    let args: Vec<&str> = ["restore", text(file)?].into_iter().chain(flags.iter().copied()).collect();
    cluster.droverctl(&args).await?.success()
}

async fn confirm(cluster: &Cluster, newer: &BTreeSet<String>) -> Result<()> {
    let confirmed = cluster.droverctl(&["restore", "--confirm"]).await?.success()?;
    ensure!(confirmed.contains("restored, confirmed"), "{confirmed}");
    eventually("what the backup does not know ended", async || {
        let left: Vec<String> = running(cluster).await?.intersection(newer).cloned().collect();
        Ok(if left.is_empty() { Ok(()) } else { Err(left) })
    })
    .await
}

async fn newer_runs_on(cluster: &Cluster, newer: &BTreeSet<String>) -> Result<()> {
    let now = running(cluster).await?;
    let ended: Vec<&String> = newer.difference(&now).collect();
    ensure!(ended.is_empty(), "ended: {ended:?}");
    Ok(())
}

/// The engine's running containers of the cluster, by id: one that was restarted has another.
async fn running(cluster: &Cluster) -> Result<BTreeSet<String>> {
    let filter = format!("label=dev.drover.cluster={}", cluster.name()?);
    let args = ["ps", "--quiet", "--no-trunc", "--filter", &filter];
    Ok(run("docker".as_ref(), &args, "", &[]).await?.success()?.lines().map(str::to_owned).collect())
}

/// What the volumes of this host hold.
fn data(cluster: &Cluster) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for volume in std::fs::read_dir(cluster.data_dir().join("volumes"))? {
        let file: PathBuf = volume?.path().join("data").join("file");
        if file.is_file() {
            found.push(std::fs::read_to_string(file)?);
        }
    }
    Ok(found)
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path of text")
}
