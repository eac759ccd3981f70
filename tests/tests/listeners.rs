//! What listens: the API's own address, and in `drover up` what pods need on their gateway. The agent: nothing.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use drover_tests::{Cluster, Store, attack::Server, engine_tests_enabled, eventually, listeners};
use serde_json::Value;

#[tokio::test]
async fn an_api_server_listens_on_its_address_and_nowhere_else() -> Result<()> {
    let server = Server::start().await?;
    let found = listeners(server.pid()?)?;
    ensure!(found == BTreeSet::from([format!("tcp {}", server.address)]), "{found:?}");
    Ok(())
}

/// The agent runs inside the server's process here: whatever it listened on would be found.
#[tokio::test]
async fn everything_on_one_host_listens_for_the_api_and_for_pods_only() -> Result<()> {
    if !engine_tests_enabled("everything_on_one_host_listens_for_the_api_and_for_pods_only") {
        return Ok(());
    }
    let cluster = Cluster::start(Store::Embedded).await?;
    cluster.apply(include_str!("../../manifests/hello.yaml")).await?;
    cluster.rolled_out("hello").await?;
    let told: Value = serde_json::from_slice(&std::fs::read(cluster.data_dir().join("server.json"))?)?;
    let pid = u32::try_from(told["pid"].as_u64().context("pid")?)?;
    let api = format!("tcp {}", told["url"].as_str().context("url")?.trim_start_matches("https://"));
    // An answer that DNS waits for from upstream has a socket of its own for a moment.
    eventually("nothing but the known sockets", async || {
        let found = listeners(pid)?;
        let gateway =
            found.iter().find_map(|socket| socket.strip_prefix("udp ")?.strip_suffix(":53").map(str::to_owned));
        let Some(gateway) = gateway else { return Ok(Err(found)) };
        let dns = [format!("udp {gateway}:53"), format!("tcp {gateway}:53")];
        let mut rest = found.clone();
        rest.retain(|socket| *socket != api && !dns.contains(socket));
        let for_pods = rest.len() == 1 && rest.iter().all(|socket| socket.starts_with(&format!("tcp {gateway}:")));
        let all = found.contains(&api) && dns.iter().all(|socket| found.contains(socket)) && for_pods;
        Ok(if all { Ok(()) } else { Err(found) })
    })
    .await
}
