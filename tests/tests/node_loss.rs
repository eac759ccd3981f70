//! A host that dies is replaced at once, and one that only does not answer its neighbours is left alone.

use anyhow::{Context as _, Result, ensure};
use drover_tests::{Web, engine_tests_enabled, eventually};

const HOSTS: usize = 3;

/// Nobody but the user made it, so nobody replaces it (SW-09).
const BARE: &str = "
apiVersion: v1
kind: Pod
metadata: {name: bare}
spec:
  nodeSelector: {kubernetes.io/hostname: NODE}
  containers:
  - {name: hello, image: 'drover/hello:1', imagePullPolicy: IfNotPresent}
";

#[tokio::test]
async fn a_dead_host_is_replaced_and_one_that_drops_echoes_is_left_alone() -> Result<()> {
    if !engine_tests_enabled("a_dead_host_is_replaced") {
        return Ok(());
    }
    let mut web = Web::start(HOSTS).await?;
    let before = web.uids().await?;

    // Once all have heard it,
    let number = web.fullest().await?;
    let victim = web.pool.agents[number].name.clone();
    let witnesses: Vec<String> =
        web.pool.agents.iter().map(|agent| agent.name.clone()).filter(|name| *name != victim).collect();
    for witness in &witnesses {
        annotation(&web, witness, "heard", "the neighbours hear it", |heard| heard.contains(&victim)).await?;
    }

    // a firewall begins to drop echoes: its neighbours lose the host, its agent answers the roll call.
    let rules = "add table ip t; add chain ip t c { type filter hook input priority 0; }; \
                 add rule ip t c icmp type echo-request drop";
    inside(&web, number, rules).await?;
    for witness in &witnesses {
        annotation(&web, witness, "lost", "the neighbours lose it", |lost| lost == victim).await?;
    }
    annotation(&web, "drover-roll-call", "suspects", "the roll call is answered", str::is_empty).await?;
    inside(&web, number, "delete table ip t").await?;
    for witness in &witnesses {
        annotation(&web, witness, "lost", "they hear it again", str::is_empty).await?;
    }
    ensure!(web.not_ready().await?.is_empty() && web.uids().await? == before, "somebody was given up");

    // It dies.
    web.pool.kubectl(&["apply", "-f", "-"], &BARE.replace("NODE", &victim)).await?.success()?;
    web.pool.kubectl(&["wait", "pod/bare", "--for=condition=Ready", "--timeout=60s"], "").await?.success()?;
    let bare = web.pool.kubectl(&["get", "pod", "bare", "-o", "jsonpath={.metadata.uid}"], "").await?.success()?;
    let lost = web.ready().await?.get(&victim).copied().unwrap_or_default();
    ensure!(lost > 0, "there is something to lose");
    web.kill(number).await?;
    eventually("the node is down", async || {
        let nodes = web.not_ready().await?;
        Ok(if nodes.get(&victim).is_some_and(|reason| reason == "HostDown") { Ok(()) } else { Err(nodes) })
    })
    .await?;
    eventually("all replicas ready on the others", async || {
        let ready = web.ready().await?;
        let elsewhere = !ready.contains_key(&victim) && ready.values().sum::<usize>() == web.replicas;
        Ok(if elsewhere { Ok(()) } else { Err(ready) })
    })
    .await?;
    let reason = "jsonpath={.status.conditions[?(@.type==\"Ready\")].reason}";
    let reason = web.pool.kubectl(&["get", "pod", "bare", "-o", reason], "").await?.success()?;
    ensure!(reason == "HostDown", "the bare pod waits for its host: {reason}");
    web.revive(number).await?;
    web.pool.kubectl(&["wait", "pod/bare", "--for=condition=Ready", "--timeout=60s"], "").await?.success()?;
    let returned = web.pool.kubectl(&["get", "pod", "bare", "-o", "jsonpath={.metadata.uid}"], "").await?.success()?;
    ensure!(returned == bare, "it is the same pod");
    let after = web.uids().await?;
    let kept = before.intersection(&after).count();
    ensure!(kept == web.replicas - lost, "the pods of the other hosts are the same: {kept} of {}", web.replicas);
    web.pool.keep_quiet();
    Ok(())
}

/// Has a host's kernel take these rules.
async fn inside(web: &Web, host: usize, rules: &str) -> Result<()> {
    let host = web.pool.agents[host].engine.host().context("a host of its own")?;
    host.run("nft", &["-f", "-"], rules).await.map(drop)
}

/// Waits until an annotation of a node Lease that is there is as wished; one that is not there is empty.
async fn annotation(web: &Web, lease: &str, name: &str, what: &str, wished: impl Fn(&str) -> bool) -> Result<()> {
    let jsonpath = format!("jsonpath={{.metadata.annotations.drover\\.dev/{name}}}");
    eventually(&format!("{what} ({lease})"), async || {
        let shown = web.pool.kubectl(&["get", "lease", "-n", "kube-node-lease", lease, "-o", &jsonpath], "").await?;
        Ok(if shown.code == 0 && wished(shown.stdout.trim()) { Ok(()) } else { Err(format!("{shown:?}")) })
    })
    .await
}
