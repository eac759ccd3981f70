//! A roll of twenty replicas under a thousand requests a second drops none, for an application that exits at once.

use anyhow::{Result, ensure};
use drover_tests::{Cluster, Load, Store, on_both_stores};

/// The number.
const REQUESTS_MIN: u64 = 100_000;

const MANIFEST: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: roll}
spec:
  replicas: 20
  selector: {matchLabels: {app: roll}}
  strategy: {rollingUpdate: {maxSurge: 25%, maxUnavailable: 25%}}
  template:
    metadata: {labels: {app: roll}}
    spec:
      containers:
      - name: hello
        image: drover/hello:1
        env:
        - {name: VERSION, value: '1'}
        - {name: ON_SIGTERM, value: exit}
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: roll}
spec:
  selector: {app: roll}
  ports: [{port: 80, targetPort: http}]
";

on_both_stores! {
    a_roll_of_twenty_replicas_under_load_drops_no_request,
}

async fn a_roll_of_twenty_replicas_under_load_drops_no_request(store: Store) -> Result<()> {
    let cluster = Cluster::start(store).await?;
    cluster.apply(MANIFEST).await?;
    cluster.rolled_out("roll").await?;
    let load = Load::start(&cluster.service_url("roll").await?, 1_000, REQUESTS_MIN)?;
    cluster.kubectl(&["set", "env", "deployment/roll", "VERSION=2"]).await?.success()?;
    cluster.rolled_out("roll").await?;
    cluster.answers("roll", "version 2").await?;
    cluster.check().await?;
    let report = load.finish().await?;
    eprintln!("{}", report.json);
    ensure!(report.failed == 0, "requests failed: {}", report.json);
    ensure!(report.sent >= REQUESTS_MIN, "too few requests: {}", report.json);
    ensure!(report.json["answers"]["1"].is_u64() && report.json["answers"]["2"].is_u64(), "{}", report.json);
    Ok(())
}
