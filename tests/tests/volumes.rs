//! A claim keeps its data through everything but its own deletion.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use drover_tests::{Cluster, Store, eventually, on_both_stores, request};
use hyper::Method;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::Api;

const HELLO_DATA: &str = include_str!("../../manifests/hello-data.yaml");
const DOCKER_VOLUME: &str = include_str!("../../manifests/docker-volume.yaml");

on_both_stores! {
    a_claim_keeps_its_data_until_it_is_deleted,
    a_retained_volume_outlives_its_claim,
    a_class_of_a_docker_driver_gives_a_docker_volume,
}

async fn put(cluster: &Cluster, content: &str) -> Result<()> {
    let url = format!("{}data/file", cluster.service_url("hello-data").await?);
    let (status, body) = request(Method::PUT, &url, content).await?;
    ensure!(status.is_success(), "{status}: {body}");
    Ok(())
}

async fn data_is(cluster: &Cluster, content: &str) -> Result<()> {
    let url = format!("{}data/file", cluster.service_url("hello-data").await?);
    let found =
        eventually("the data answered", async || Ok(drover_tests::get(&url).await.map_err(|error| error.to_string())));
    let found = found.await?;
    ensure!(found == content, "the claim holds {found:?}, not {content:?}");
    Ok(())
}

/// Returns the folder on this host that holds the claim's data.
async fn folder(cluster: &Cluster) -> Result<(PathBuf, PersistentVolume)> {
    let client = cluster.client().await?;
    let claim = Api::<PersistentVolumeClaim>::default_namespaced(client.clone()).get("hello-data").await?;
    let name = claim.spec.and_then(|spec| spec.volume_name).context("the claim is bound")?;
    let volume = Api::<PersistentVolume>::all(client).get(&name).await?;
    let handle =
        volume.spec.as_ref().and_then(|spec| spec.csi.as_ref()).context("a volume of ours")?.volume_handle.clone();
    Ok((cluster.data_dir().join("volumes").join(handle), volume))
}

async fn a_claim_keeps_its_data_until_it_is_deleted(store: Store) -> Result<()> {
    let mut cluster = Cluster::start(store).await?;
    cluster.apply(HELLO_DATA).await?;
    cluster.rolled_out("hello-data").await?;
    put(&cluster, "precious").await?;
    let (folder, _) = folder(&cluster).await?;
    ensure!(folder.is_dir(), "{} is missing", folder.display());

    cluster.kubectl(&["delete", "pod", "-l", "app=hello-data", "--wait"]).await?.success()?;
    cluster.rolled_out("hello-data").await?;
    data_is(&cluster, "precious").await?;

    cluster.kubectl(&["scale", "deployment/hello-data", "--replicas=0"]).await?.success()?;
    cluster.no_pods("app=hello-data").await?;
    cluster.kubectl(&["scale", "deployment/hello-data", "--replicas=1"]).await?.success()?;
    cluster.rolled_out("hello-data").await?;
    data_is(&cluster, "precious").await?;

    cluster.kill().await?;
    cluster.restart().await?;
    cluster.kubectl(&["delete", "pod", "-l", "app=hello-data", "--wait"]).await?.success()?;
    cluster.rolled_out("hello-data").await?;
    data_is(&cluster, "precious").await?;

    cluster.kubectl_with(&["delete", "--wait", "-f", "-"], HELLO_DATA).await?.success()?;
    eventually("the data removed", async || Ok(if folder.exists() { Err("still there") } else { Ok(()) })).await
}

async fn a_retained_volume_outlives_its_claim(store: Store) -> Result<()> {
    let cluster = Cluster::start(store).await?;
    cluster.apply(HELLO_DATA).await?;
    cluster.rolled_out("hello-data").await?;
    put(&cluster, "kept").await?;
    let (folder, volume) = folder(&cluster).await?;
    let name = volume.metadata.name.context("a volume has a name")?;
    let retain = r#"{"spec":{"persistentVolumeReclaimPolicy":"Retain"}}"#;
    cluster.kubectl(&["patch", "pv", &name, "-p", retain]).await?.success()?;
    cluster.kubectl_with(&["delete", "--wait", "-f", "-"], HELLO_DATA).await?.success()?;
    eventually("the volume released", async || {
        let phase = cluster.kubectl(&["get", "pv", &name, "-o", "jsonpath={.status.phase}"]).await?.success()?;
        Ok(if phase == "Released" { Ok(()) } else { Err(phase) })
    })
    .await?;
    let kept = std::fs::read_to_string(folder.join("data").join("file")).context("the data is gone")?;
    ensure!(kept == "kept", "{kept:?}");
    Ok(())
}

async fn a_class_of_a_docker_driver_gives_a_docker_volume(store: Store) -> Result<()> {
    let cluster = Cluster::start(store).await?;
    cluster.apply(DOCKER_VOLUME).await?;
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/docker-volume", "--timeout=120s"]).await?.success()?;
    let read = cluster.kubectl(&["exec", "docker-volume", "--", "/busybox", "cat", "/data/file"]).await?.success()?;
    ensure!(read == "kept\n", "{read:?}");
    let volumes = drover_volumes(&cluster).await?;
    ensure!(volumes.len() == 1, "{volumes:?}");
    cluster.kubectl_with(&["delete", "--wait", "-f", "-"], DOCKER_VOLUME).await?.success()?;
    eventually("the Docker volume removed", async || {
        let left = drover_volumes(&cluster).await?;
        Ok(if left.is_empty() { Ok(()) } else { Err(left) })
    })
    .await
}

async fn drover_volumes(cluster: &Cluster) -> Result<Vec<String>> {
    let filter = format!("label=dev.drover.cluster={}", cluster.name()?);
    let listed = drover_tests::run("docker".as_ref(), &["volume", "ls", "-q", "--filter", &filter], "", &[]).await?;
    Ok(listed.success()?.lines().map(str::to_owned).collect())
}
