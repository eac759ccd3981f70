//! Plain kubectl drives Drover with nothing but the kubeconfig that the server wrote.

use std::{process::Stdio, time::Duration};

use anyhow::{Context, Result, ensure};
use drover_tests::{Cluster, Store, eventually, on_both_stores};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};

const HELLO: &str = include_str!("../../manifests/hello.yaml");

on_both_stores! {
    kubectl_reads_and_changes_a_workload,
    kubectl_watches_follows_logs_and_runs_commands,
    kubectl_rolls_undoes_and_restarts,
}

async fn ok(cluster: &Cluster, args: &[&str]) -> Result<String> {
    cluster.kubectl(args).await?.success()
}

async fn kubectl_reads_and_changes_a_workload(store: Store) -> Result<()> {
    let cluster = Cluster::start(store).await?;
    cluster.apply(HELLO).await?;
    cluster.rolled_out("hello").await?;

    let table = ok(&cluster, &["get", "deployment", "hello"]).await?;
    ensure!(
        table.starts_with("NAME    READY   UP-TO-DATE   AVAILABLE   AGE\nhello   3/3     3            3"),
        "{table}"
    );
    let wide = ok(&cluster, &["get", "pods", "-o", "wide"]).await?;
    ensure!(wide.contains("NOMINATED NODE") && wide.matches("Running").count() == 3, "{wide}");
    let described = ok(&cluster, &["describe", "deployment/hello"]).await?;
    ensure!(described.contains("NewReplicaSetAvailable") && described.contains("ScalingReplicaSet"), "{described}");
    let described = ok(&cluster, &["describe", "pods", "-l", "app=hello"]).await?;
    ensure!(described.contains("Successfully assigned") && described.contains("Started container"), "{described}");
    let nodes = ok(&cluster, &["get", "nodes", "-o", "wide"]).await?;
    ensure!(nodes.contains("Ready") && nodes.contains("docker://"), "{nodes}");

    ok(&cluster, &["scale", "deployment/hello", "--replicas=5"]).await?;
    cluster.rolled_out("hello").await?;
    ensure!(cluster.pods("app=hello").await?.len() == 5, "five replicas");
    ok(&cluster, &["scale", "deployment/hello", "--replicas=1", "--current-replicas=5"]).await?;
    cluster.rolled_out("hello").await?;
    ok(&cluster, &["wait", "--for=condition=Available", "deployment/hello", "--timeout=60s"]).await?;

    ok(&cluster, &["label", "deployment/hello", "team=blue"]).await?;
    ok(&cluster, &["annotate", "deployment/hello", "note=kept"]).await?;
    let selected = ok(&cluster, &["get", "deployments", "-l", "team=blue", "-o", "name"]).await?;
    ensure!(selected == "deployment.apps/hello\n", "{selected}");
    let unchanged = cluster.apply(HELLO).await?;
    ensure!(unchanged.contains("service/hello unchanged"), "{unchanged}");
    let note = ok(&cluster, &["get", "deployment/hello", "-o", "jsonpath={.metadata.annotations.note}"]).await?;
    ensure!(note == "kept", "apply removed what it does not own");

    ok(&cluster, &["delete", "deployment/hello", "service/hello", "--wait"]).await?;
    cluster.no_pods("app=hello").await
}

async fn kubectl_watches_follows_logs_and_runs_commands(store: Store) -> Result<()> {
    let cluster = Cluster::start(store).await?;
    let mut watch = Command::new("kubectl")
        .args(["get", "pods", "-w", "--no-headers"])
        .env("KUBECONFIG", cluster.kubeconfig())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let mut lines = BufReader::new(watch.stdout.take().context("stdout is piped")?).lines();
    let manifest = "
apiVersion: v1
kind: Pod
metadata: {name: talker}
spec:
  terminationGracePeriodSeconds: 0
  restartPolicy: Never
  containers:
  - name: main
    image: drover/busybox:1
    command: [/busybox, sh, -c, 'i=0; while [ $i -lt 5 ]; do echo line $i; i=$((i+1)); done; exec /busybox sleep 86400']
";
    // The watch is open before the pod exists only when it lists first: give it the pod until it shows it running.
    cluster.apply(manifest).await?;
    let seen = async {
        while let Some(line) = lines.next_line().await? {
            if line.contains("talker") && line.contains("Running") {
                return Ok(());
            }
        }
        anyhow::bail!("the watch ended")
    };
    tokio::time::timeout(Duration::from_secs(120), seen).await.context("the watch never showed the pod running")??;

    let logs = eventually("five lines of log", async || {
        let logs = ok(&cluster, &["logs", "talker"]).await?;
        Ok(if logs.lines().count() == 5 { Ok(logs) } else { Err(logs) })
    })
    .await?;
    ensure!(logs == "line 0\nline 1\nline 2\nline 3\nline 4\n", "{logs}");
    ensure!(ok(&cluster, &["logs", "talker", "--tail=2"]).await? == "line 3\nline 4\n", "--tail");

    let echoed = cluster.kubectl_with(&["exec", "-i", "talker", "--", "/busybox", "cat"], "through and back").await?;
    ensure!(echoed.clone().success()? == "through and back", "{echoed:?}");
    let code = cluster.kubectl(&["exec", "talker", "--", "/busybox", "sh", "-c", "exit 7"]).await?.code;
    ensure!(code == 7, "exec passed on {code} instead of 7");

    let mut follow = Command::new("kubectl")
        .args(["logs", "-f", "talker"])
        .env("KUBECONFIG", cluster.kubeconfig())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    ok(&cluster, &["delete", "pod", "talker", "--wait"]).await?;
    // Following ends by itself when the container does.
    follow.wait().await?;
    Ok(())
}

async fn kubectl_rolls_undoes_and_restarts(store: Store) -> Result<()> {
    let cluster = Cluster::start(store).await?;
    cluster.apply(HELLO).await?;
    cluster.rolled_out("hello").await?;
    ok(&cluster, &["set", "env", "deployment/hello", "VERSION=2"]).await?;
    cluster.rolled_out("hello").await?;
    let history = ok(&cluster, &["rollout", "history", "deployment/hello"]).await?;
    ensure!(history.contains("\n1 ") && history.contains("\n2 "), "{history}");
    ok(&cluster, &["rollout", "undo", "deployment/hello"]).await?;
    cluster.rolled_out("hello").await?;
    cluster.answers("hello", "version 1").await?;
    let before: Vec<_> = cluster.pods("app=hello").await?.into_iter().map(|pod| pod.metadata.uid).collect();
    ok(&cluster, &["rollout", "restart", "deployment/hello"]).await?;
    cluster.rolled_out("hello").await?;
    eventually("every pod replaced", async || {
        let now: Vec<_> = cluster.pods("app=hello").await?.into_iter().map(|pod| pod.metadata.uid).collect();
        Ok(if now.len() == 3 && now.iter().all(|uid| !before.contains(uid)) { Ok(()) } else { Err(now) })
    })
    .await?;
    ok(&cluster, &["rollout", "pause", "deployment/hello"]).await?;
    ok(&cluster, &["rollout", "resume", "deployment/hello"]).await?;
    Ok(())
}
