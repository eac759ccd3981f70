//! Bad input gets Kubernetes' error with the field path, or the condition on the object, and nothing else suffers.

use anyhow::{Result, ensure};
use drover_tests::{Cluster, Store, eventually, on_both_stores, run};

/// What is applied, and what the refusal must say.
const REFUSED: [(&str, &str, &str); 9] = [
    ("unknown field", r#"{"spec":{"replicaz":1}}"#, r#"unknown field "spec.replicaz""#),
    ("wrong type", r#"{"spec":{"replicas":"three"}}"#, "replicas"),
    ("negative count", r#"{"spec":{"replicas":-1}}"#, "spec.replicas: Invalid value: -1"),
    (
        "selector mismatch",
        r#"{"spec":{"selector":{"matchLabels":{"app":"other"}}}}"#,
        "`selector` does not match template `labels`",
    ),
    (
        "no containers",
        r#"{"spec":{"template":{"spec":{"containers":[]}}}}"#,
        "spec.template.spec.containers: Required value",
    ),
    (
        "port out of range",
        r#"{"spec":{"template":{"spec":{"containers":[{"name":"c","image":"i","ports":[{"containerPort":70000}]}]}}}}"#,
        "spec.template.spec.containers[0].ports[0].containerPort: Invalid value: 70000",
    ),
    ("bad name", r#"{"metadata":{"name":"Not_A_Name"}}"#, "metadata.name: Invalid value"),
    (
        "no surge and no room",
        r#"{"spec":{"strategy":{"rollingUpdate":{"maxSurge":0,"maxUnavailable":0}}}}"#,
        "maxUnavailable: Invalid value",
    ),
    (
        "deadline before readiness",
        r#"{"spec":{"minReadySeconds":600,"progressDeadlineSeconds":10}}"#,
        "progressDeadlineSeconds: Invalid value: 10: must be greater than minReadySeconds",
    ),
];

fn deployment(change: &str) -> Result<String> {
    let mut object = serde_json::json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "bad"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "bad"}},
            "template": {"metadata": {"labels": {"app": "bad"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}},
    });
    merge(&mut object, serde_json::from_str(change)?);
    Ok(object.to_string())
}

fn merge(target: &mut serde_json::Value, change: serde_json::Value) {
    match (target, change) {
        (serde_json::Value::Object(target), serde_json::Value::Object(change)) => {
            for (key, value) in change {
                merge(target.entry(key).or_insert(serde_json::Value::Null), value);
            }
        }
        (target, change) => *target = change,
    }
}

on_both_stores! {
    malformed_objects_are_refused_with_their_field_and_nothing_is_stored,
    what_cannot_run_says_why_on_the_object,
    containers_that_are_not_ours_are_never_touched,
    an_engine_that_is_down_is_said_on_the_node_and_the_api_serves,
}

async fn malformed_objects_are_refused_with_their_field_and_nothing_is_stored(store: Store) -> Result<()> {
    let cluster = Cluster::start(store).await?;
    for (what, change, said) in REFUSED {
        let refused = cluster.kubectl_with(&["create", "-f", "-"], &deployment(change)?).await?;
        let text = refused.failure()?;
        ensure!(text.contains(said), "{what}: {text}");
    }
    let left = cluster.kubectl(&["get", "deployments,replicasets,pods", "-o", "name"]).await?.success()?;
    ensure!(left.is_empty(), "stored: {left}");
    Ok(())
}

async fn what_cannot_run_says_why_on_the_object(store: Store) -> Result<()> {
    let cluster = Cluster::start(store).await?;
    let pod = |name: &str, container: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 0\n  containers:\n  - {{name: c, {container}}}\n"
        )
    };
    cluster.apply(&pod("no-image", "image: 'drover/missing:1', imagePullPolicy: Never")).await?;
    cluster.apply(&pod("bad-image", "image: 'Not A Reference'")).await?;
    cluster.apply(&pod("too-big", "image: 'drover/hello:1', resources: {requests: {cpu: '9999'}}")).await?;
    cluster.apply(&pod("crashes", "image: 'drover/busybox:1', command: [/busybox, 'false']")).await?;
    cluster
        .apply(&pod(
            "never-ready",
            "image: 'drover/hello:1', readinessProbe: {httpGet: {path: /nothing, port: 8080}, periodSeconds: 1}",
        ))
        .await?;
    let waiting = "{.status.containerStatuses[0].state.waiting.reason}";
    for (pod, path, expected) in [
        ("no-image", waiting, "ErrImageNeverPull"),
        ("bad-image", waiting, "InvalidImageName"),
        ("too-big", "{.status.conditions[?(@.type=='PodScheduled')].message}", "Insufficient cpu"),
        ("crashes", waiting, "CrashLoopBackOff"),
        ("never-ready", "{.status.conditions[?(@.type=='Ready')].reason}", "ContainersNotReady"),
    ] {
        eventually(&format!("{pod} saying {expected}"), async || {
            let args = ["get", "pod", pod, "-o", &format!("jsonpath={path}")];
            let said = cluster.kubectl(&args).await?.success()?;
            Ok(if said.contains(expected) { Ok(()) } else { Err(said) })
        })
        .await?;
    }
    eventually("the failing probe in the pod's events", async || {
        let described = cluster.kubectl(&["describe", "pod", "never-ready"]).await?.success()?;
        let said = described.contains("Readiness probe failed: HTTP probe failed with statuscode: 404");
        Ok(if said { Ok(()) } else { Err(described) })
    })
    .await
}

async fn an_engine_that_is_down_is_said_on_the_node_and_the_api_serves(store: Store) -> Result<()> {
    let cluster = Cluster::start_with(store, &["--docker", "unix:///nonexistent.sock"]).await?;
    let path = "jsonpath={.items[*].status.conditions[?(@.type=='Ready')].reason}";
    eventually("the node saying that its engine is down", async || {
        let said = cluster.kubectl(&["get", "nodes", "-o", path]).await?.success()?;
        Ok(if said == "RuntimeUnhealthy" { Ok(()) } else { Err(said) })
    })
    .await
}

async fn containers_that_are_not_ours_are_never_touched(store: Store) -> Result<()> {
    let mut cluster = Cluster::start(store).await?;
    let label = format!("dev.drover.cluster={}", cluster.name()?);
    // Our labels and our way of naming, but not in our ledger.
    let name = format!("drover_c_lookalike_default_{:08x}_0", rand::random::<u32>());
    let args = [
        "run",
        "--detach",
        "--name",
        &name,
        "--label",
        &label,
        "--label",
        "dev.drover.pod.uid=0-0",
        "--label",
        "dev.drover.pod.name=lookalike",
        "--label",
        "dev.drover.container=c",
        "drover/busybox:1",
        "sleep",
        "86400",
    ];
    let id = docker(&args).await?.trim().to_owned();
    let outcome = async {
        cluster.kill().await?;
        cluster.restart().await?;
        cluster.apply(include_str!("../../manifests/hello.yaml")).await?;
        cluster.rolled_out("hello").await?;
        cluster.kubectl(&["delete", "deployment", "hello", "--wait"]).await?.success()?;
        cluster.no_pods("app=hello").await?;
        let running = docker(&["inspect", "--format", "{{.State.Running}} {{.RestartCount}}", &id]).await?;
        ensure!(running == "true 0\n", "the foreign container was touched: {running}");
        Ok(())
    };
    let outcome = outcome.await;
    docker(&["rm", "--force", &id]).await?;
    outcome
}

async fn docker(args: &[&str]) -> Result<String> {
    run("docker".as_ref(), args, "", &[]).await?.success()
}
