//! Where the runtime wrapper cannot be used: pods in the engine's own bridge network roll, restart and go all the same.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use drover_tests::{Cluster, Load, Store, engine_tests_enabled};
use k8s_openapi::api::core::v1::Node;
use kube::{Api, ResourceExt, api::ListParams};

/// Enough for requests to be under way at every step of the roll.
const REQUESTS_MIN: u64 = 4_000;

/// An init container, and two containers that must share one address without sharing a port.
const MANIFEST: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: fallback}
spec:
  replicas: 4
  selector: {matchLabels: {app: fallback}}
  template:
    metadata: {labels: {app: fallback}}
    spec:
      initContainers:
      - {name: init, image: 'drover/busybox:1', command: [/busybox, 'true']}
      containers:
      - name: hello
        image: drover/hello:1
        env:
        - {name: VERSION, value: '1'}
        - {name: ON_SIGTERM, value: exit}
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 1}
      - name: side
        image: drover/hello:1
        env:
        - {name: PORT, value: '9090'}
        - {name: ON_SIGTERM, value: exit}
---
apiVersion: v1
kind: Service
metadata: {name: fallback}
spec:
  selector: {app: fallback}
  ports: [{port: 80, targetPort: http}]
";

#[tokio::test]
async fn a_roll_on_the_engines_bridge_drops_no_request_and_a_new_server_adopts_its_pods() -> Result<()> {
    if !engine_tests_enabled("a_roll_on_the_engines_bridge_drops_no_request_and_a_new_server_adopts_its_pods") {
        return Ok(());
    }
    let mut cluster = Cluster::start_with(Store::Embedded, &["--network-mode", "bridge"]).await?;
    cluster.apply(MANIFEST).await?;
    cluster.rolled_out("fallback").await?;
    let nodes = Api::<Node>::all(cluster.client().await?).list(&ListParams::default()).await?;
    let node = nodes.items.first().context("there is a node")?;
    let mode = node.annotations().get("drover.dev/network-mode").map(String::as_str);
    ensure!(mode == Some("bridge"), "the node says {mode:?}");

    let load = Load::start(&cluster.service_url("fallback").await?, 200, REQUESTS_MIN)?;
    cluster.kubectl(&["set", "env", "deployment/fallback", "--containers=hello", "VERSION=2"]).await?.success()?;
    cluster.rolled_out("fallback").await?;
    cluster.answers("fallback", "version 2").await?;
    let before = addresses(&cluster).await?;
    cluster.kill().await?;
    cluster.restart().await?;
    cluster.rolled_out("fallback").await?;
    ensure!(addresses(&cluster).await? == before, "pods changed over a restart of the server: {before:?}");
    let report = load.finish().await?;
    ensure!(report.failed == 0 && report.sent >= REQUESTS_MIN, "requests failed: {}", report.json);

    cluster.kubectl(&["delete", "deployment", "fallback", "--timeout=60s"]).await?.success()?;
    cluster.no_pods("app=fallback").await?;
    let left = cluster.containers().await?;
    ensure!(left.is_empty(), "containers are left on the engine: {left:?}");
    Ok(())
}

/// Name, address and restarts of each pod.
async fn addresses(cluster: &Cluster) -> Result<BTreeMap<String, (Option<String>, i32)>> {
    let pods = cluster.pods("app=fallback").await?.into_iter();
    let live = pods.filter(|pod| pod.metadata.deletion_timestamp.is_none());
    Ok(live
        .map(|pod| {
            let status = pod.status.clone().unwrap_or_default();
            let restarts = status.container_statuses.iter().flatten().map(|container| container.restart_count).sum();
            (pod.name_any(), (status.pod_ip, restarts))
        })
        .collect())
}
