//! A host joins a cluster elsewhere, stays in it while its certificates end, and leaves it when its key is revoked.

use std::{fs, time::Duration};

use anyhow::{Result, ensure};
use drover_tests::{Pool, engine_tests_enabled, eventually};

const MANIFEST: &str = "
apiVersion: v1
kind: Pod
metadata: {name: hello}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: hello
    image: drover/busybox:1
    imagePullPolicy: IfNotPresent
    command: [/busybox, sh, -c, 'echo started; exec /busybox sleep 3600']
";

/// Far shorter than any real one: several end within the test.
const LIFE: Duration = Duration::from_secs(6);

#[tokio::test]
async fn a_host_joins_by_a_token_comes_back_after_its_certificate_has_ended_and_goes_with_its_key() -> Result<()> {
    if !engine_tests_enabled("a_host_joins_by_a_token") {
        return Ok(());
    }
    let mut pool = Pool::start(&["--node-certificate-life", &format!("{}s", LIFE.as_secs())]).await?;
    let invitation = pool.invite(&["--description", "first"]).await?;
    ensure!(invitation[..2] == ["drover", "agent"], "{invitation:?}");
    let node = pool.join(&invitation, &["drover/busybox:1"]).await?.name.clone();
    pool.node_is(&node, "True").await?;
    pool.kubectl(&["apply", "-f", "-"], MANIFEST).await?.success()?;
    pool.kubectl(&["wait", "--for=condition=Ready", "pod/hello", "--timeout=60s"], "").await?.success()?;
    reached(&pool).await?;
    let before = pool.agents[0].engine.containers().await?;

    // The token was for one; who else comes with it is told so, and ends.
    let agent = pool.join(&invitation, &[]).await?;
    ensure!(agent.end().await? != Some(0), "a second host got in");
    ensure!(agent.log().contains("is used up: it has let in pool0"), "{}", agent.log());
    pool.agents.pop();

    // New certificates for the same key, again and again.
    let certificate = pool.agents[0].data_dir().join("pki/node.crt");
    for _ in 0..2 {
        let old = fs::read(&certificate)?;
        eventually("another certificate", async || {
            Ok((fs::read(&certificate)? != old).then_some(()).ok_or("the same"))
        })
        .await?;
    }
    reached(&pool).await?;

    // Everything is off until the certificate has ended, and comes back by the key, without a token.
    ensure!(pool.agents[0].stop().await? == Some(0), "{}", pool.agents[0].log());
    pool.stop_server().await?;
    let ended = || Ok::<bool, anyhow::Error>(fs::metadata(&certificate)?.modified()?.elapsed()? > LIFE);
    eventually("the end of the certificate", async || Ok(ended()?.then_some(()).ok_or("it is good"))).await?;
    pool.start_server().await?;
    pool.agents[0].start(&[])?;
    pool.node_is(&node, "True").await?;
    reached(&pool).await?;
    ensure!(pool.agents[0].engine.containers().await? == before, "a container was made anew");

    // Revoked: the node's word counts no more, its workloads stay; taken back: it is a node again.
    let revoke = |yes: bool| format!("{{\"spec\":{{\"revoked\":{yes}}}}}");
    pool.kubectl(&["patch", "nodekey", &node, "--type=merge", "-p", &revoke(true)], "").await?.success()?;
    pool.node_is(&node, "Unknown").await?;
    ensure!(pool.agents[0].engine.containers().await? == before, "a revoked node lost its containers");
    pool.kubectl(&["patch", "nodekey", &node, "--type=merge", "-p", &revoke(false)], "").await?.success()?;
    pool.node_is(&node, "True").await?;
    Ok(())
}

/// Logs and exec go through the tunnel that the agent has dialled.
async fn reached(pool: &Pool) -> Result<()> {
    eventually("logs and exec through the tunnel", async || {
        let logs = pool.kubectl(&["logs", "hello"], "").await?;
        let exec = pool.kubectl(&["exec", "hello", "--", "/busybox", "true"], "").await?;
        Ok(if logs.code == 0 && exec.code == 0 { Ok(()) } else { Err(format!("{logs:?} {exec:?}")) })
    })
    .await
}
