//! What classic Swarm's users had, on three engines: rows SW-02 to SW-10 of the acceptance list, by their ids.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use drover_tests::{Pool, engine_tests_enabled, eventually};
use serde_json::{Value, json};

const HOSTS: usize = 3;

#[tokio::test]
async fn what_classic_swarm_did_is_done_by_id() -> Result<()> {
    if !engine_tests_enabled("what_classic_swarm_did") {
        return Ok(());
    }
    let mut pool = Pool::of_hosts(HOSTS, &["drover/hello:1"]).await?;
    for (node, labels) in [("pool0", ["storage=ssd", "region=us-east"]), ("pool1", ["storage=hdd", "region=us-west"])] {
        pool.kubectl(&[&["label", "node", node][..], &labels].concat(), "").await?.success()?;
    }
    pool.kubectl(&["label", "node", "pool2", "region=eu"], "").await?.success()?;
    // An image that one host has.
    pool.agents[1].engine.docker(&["tag", "drover/hello:1", "redis:1"]).await?.success()?;
    strategies(&pool).await.context("SW-02")?;
    constraints(&pool).await.context("SW-03 and SW-04")?;
    affinities(&pool).await.context("SW-05 and SW-06")?;
    host_ports(&pool).await.context("SW-07")?;
    slots(&pool).await.context("SW-10")?;
    node_failure(&mut pool).await.context("SW-09")?;
    pool.keep_quiet();
    Ok(())
}

/// SW-02.
async fn strategies(pool: &Pool) -> Result<()> {
    for (strategy, expected) in [("spread", vec![3, 3, 3]), ("binpack", vec![9])] {
        let annotations = json!({"drover.dev/placement-strategy": strategy});
        let pods: Vec<_> = (0..9).map(|number| pod(&format!("{strategy}{number}"), &annotations, &json!([]))).collect();
        let mut counts = BTreeMap::new();
        for node in place(pool, &pods).await?.into_values() {
            *counts.entry(node).or_insert(0) += 1;
        }
        let found: Vec<i32> = counts.values().copied().collect();
        ensure!(found == expected, "{strategy}: {counts:?}");
    }
    let annotations = json!({"drover.dev/placement-strategy": "random"});
    let pods: Vec<_> = (0..9).map(|number| pod(&format!("random{number}"), &annotations, &json!([]))).collect();
    ensure!(place(pool, &pods).await?.len() == 9, "random places all");
    Ok(())
}

/// SW-03, and SW-04: a label that is not there is not `hdd`.
async fn constraints(pool: &Pool) -> Result<()> {
    for (name, value, allowed) in [
        ("constraint:storage", "=ssd", &["pool0"][..]),
        ("constraint:region!", "us*", &["pool2"]),
        ("constraint:node", "=/pool[12]/", &["pool1", "pool2"]),
        ("constraint:node", "=/(?i)POOL1/", &["pool1"]),
        ("constraint:region", "=~us-w*", &["pool1"]),
        ("constraint:region", "=~asia", &["pool0", "pool1", "pool2"]),
        ("constraint:storage!", "hdd", &["pool0", "pool2"]),
    ] {
        let env = json!([{"name": name, "value": value}]);
        let placed = place(pool, &[pod("constrained", &json!({}), &env)]).await?;
        ensure!(placed.values().all(|node| allowed.contains(&node.as_str())), "{name}={value}: {placed:?}");
    }
    let env = json!([{"name": "constraint:storage", "value": "=tape"}]);
    refused(pool, &pod("nowhere", &json!({}), &env), "storage==tape").await
}

/// SW-05; SW-06 in native mode: of two soft expressions the one that can be had counts.
async fn affinities(pool: &Pool) -> Result<()> {
    let env = json!([{"name": "constraint:node", "value": "=pool2"}]);
    let mut front = pod("frontend", &json!({}), &env);
    front["metadata"]["labels"] = json!({"com.example.type": "frontend"});
    create(pool, &[front]).await?;
    bound(pool, &["frontend".to_owned()]).await?;
    for (entries, allowed) in [
        (json!([{"name": "affinity:container", "value": "=frontend"}]), &["pool2"][..]),
        (json!([{"name": "affinity:com.example.type", "value": "=frontend"}]), &["pool2"]),
        (json!([{"name": "affinity:image", "value": "=redis"}]), &["pool1"]),
        (json!([{"name": "affinity:container!", "value": "~frontend"}]), &["pool0", "pool1"]),
        (
            json!([{"name": "constraint:region", "value": "=~us-east"}, {"name": "constraint:storage", "value": "=~tape"}]),
            &["pool0"],
        ),
    ] {
        let placed = place(pool, &[pod("beside", &json!({}), &entries)]).await?;
        ensure!(placed.values().all(|node| allowed.contains(&node.as_str())), "{entries}: {placed:?}");
    }
    remove(pool, &["frontend".to_owned()]).await
}

/// SW-07: a port is held by whoever has it, whatever becomes of its container.
async fn host_ports(pool: &Pool) -> Result<()> {
    let with_port = |number: usize| {
        let mut pod = pod(&format!("port{number}"), &json!({}), &json!([]));
        pod["spec"]["containers"][0]["ports"] = json!([{"containerPort": 8080, "hostPort": 8088}]);
        pod
    };
    let pods: Vec<_> = (0..HOSTS).map(with_port).collect();
    create(pool, &pods).await?;
    let names: Vec<_> = (0..HOSTS).map(|number| format!("port{number}")).collect();
    let nodes: BTreeSet<_> = bound(pool, &names).await?.into_values().collect();
    ensure!(nodes.len() == HOSTS, "one on each: {nodes:?}");
    refused(pool, &with_port(HOSTS), "port0").await?;
    remove(pool, &names).await
}

/// SW-10.
async fn slots(pool: &Pool) -> Result<()> {
    pool.kubectl(&["label", "node", "pool0", "containerslots=3"], "").await?.success()?;
    let env = json!([{"name": "constraint:node", "value": "=pool0"}]);
    let pods: Vec<_> = (0..3).map(|number| pod(&format!("slot{number}"), &json!({}), &env)).collect();
    let names: Vec<_> = (0..3).map(|number| format!("slot{number}")).collect();
    create(pool, &pods).await?;
    bound(pool, &names).await?;
    refused(pool, &pod("slot3", &json!({}), &env), "slots").await?;
    pool.kubectl(&["label", "node", "pool0", "containerslots-"], "").await?.success()?;
    remove(pool, &names).await
}

/// SW-09: with the policy a pod goes elsewhere, without it stays; of each exactly one is left when the host is back.
async fn node_failure(pool: &mut Pool) -> Result<()> {
    let policy = json!({"com.docker.swarm.reschedule-policies": "[\"on-node-failure\"]"});
    // Only wished for: it must be able to leave.
    let env = json!([{"name": "constraint:node", "value": "=~pool2"}]);
    create(pool, &[pod("moves", &policy, &env), pod("stays", &json!({}), &env)]).await?;
    let placed = bound(pool, &["moves".to_owned(), "stays".to_owned()]).await?;
    ensure!(placed.values().all(|node| node == "pool2"), "{placed:?}");
    for pod in ["pod/moves", "pod/stays"] {
        pool.kubectl(&["wait", pod, "--for=condition=Ready", "--timeout=60s"], "").await?.success()?;
    }
    let agent = &mut pool.agents[2];
    agent.engine.host().context("a host of its own")?.connect(false).await?;
    agent.kill().await?;
    agent.engine.kill().await?;
    eventually("it runs elsewhere", async || {
        let found = pods(pool).await?;
        let moved = found.iter().any(|(name, (node, ready))| name.starts_with("moves-") && node != "pool2" && *ready);
        Ok(if moved { Ok(()) } else { Err(found) })
    })
    .await?;
    let agent = &mut pool.agents[2];
    agent.engine.host().context("a host of its own")?.connect(true).await?;
    agent.engine.restart().await?;
    agent.start(&[])?;
    eventually("exactly one of each is left", async || {
        let found = pods(pool).await?;
        let of = |start: &str| found.iter().filter(|(name, _)| name.starts_with(start)).collect::<Vec<_>>();
        let settled = matches!(of("moves")[..], [(_, (node, true))] if node != "pool2")
            && matches!(of("stays")[..], [(name, (node, true))] if name == "stays" && node == "pool2");
        let containers = pool.agents[2].engine.containers().await?;
        let containers: BTreeSet<_> = containers.into_iter().map(|container| container.pod_uid).collect();
        Ok(if settled && containers.len() == 1 { Ok(()) } else { Err((found, containers)) })
    })
    .await
}

fn pod(name: &str, annotations: &Value, env: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "annotations": annotations},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [
            {"name": "hello", "image": "drover/hello:1", "imagePullPolicy": "IfNotPresent", "env": env}]},
    })
}

async fn create(pool: &Pool, pods: &[Value]) -> Result<()> {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": pods});
    pool.kubectl(&["create", "--validate=false", "-f", "-"], &list.to_string()).await?.success().map(drop)
}

async fn remove(pool: &Pool, names: &[String]) -> Result<()> {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    pool.kubectl(&[&["delete", "pod", "--wait=true"][..], &names].concat(), "").await?.success().map(drop)
}

/// Creates pods, says where they went, and removes them again.
async fn place(pool: &Pool, pods: &[Value]) -> Result<BTreeMap<String, String>> {
    create(pool, pods).await?;
    let name = |pod: &Value| pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let names: Vec<_> = pods.iter().map(name).collect();
    let placed = bound(pool, &names).await?;
    remove(pool, &names).await?;
    Ok(placed)
}

/// Waits until these pods have nodes.
async fn bound(pool: &Pool, names: &[String]) -> Result<BTreeMap<String, String>> {
    eventually("all are placed", async || {
        let mut found = pods(pool).await?;
        found.retain(|name, (node, _)| names.contains(name) && !node.is_empty());
        let placed: BTreeMap<_, _> = found.into_iter().map(|(name, (node, _))| (name, node)).collect();
        Ok(if placed.len() == names.len() { Ok(placed) } else { Err(placed) })
    })
    .await
}

/// All pods with their node, and whether they are ready.
async fn pods(pool: &Pool) -> Result<BTreeMap<String, (String, bool)>> {
    let listed = pool.kubectl(&["get", "pods", "-o", "json"], "").await?.success()?;
    let listed: Value = serde_json::from_str(&listed)?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let pods = listed["items"].as_array().into_iter().flatten();
    Ok(pods
        .map(|pod| {
            let mut conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
            let ready = conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
            (text(&pod["metadata"]["name"]), (text(&pod["spec"]["nodeName"]), ready))
        })
        .collect())
}

/// Creates a pod that no node may take, waits until it is said why, and removes it.
async fn refused(pool: &Pool, pod: &Value, why: &str) -> Result<()> {
    create(pool, std::slice::from_ref(pod)).await?;
    let name = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    eventually(&format!("{name} says {why}"), async || {
        let told = pool.droverctl(&["why", &format!("pod/{name}")]).await?;
        Ok(if told.stdout.contains(why) { Ok(()) } else { Err(format!("{told:?}")) })
    })
    .await?;
    let placed = pods(pool).await?.remove(&name).context("it is there")?.0;
    ensure!(placed.is_empty(), "{name} went to {placed}");
    remove(pool, &[name]).await
}
