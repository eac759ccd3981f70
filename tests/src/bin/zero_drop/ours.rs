//! Our hosts.

use std::time::Instant;

use anyhow::{Context, Result};
use drover_tests::{Load, LoadReport, Web, eventually, get};

use super::{KEEP_ALIVE_MAX, Options, UNBOUNDED};

/// Time for a connection that carries 200 requests to do so.
const GRACE_SECS: u32 = 30;

const INGRESS: &str = "
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web}
spec: {defaultBackend: {service: {name: web, port: {number: 80}}}}
";

/// Returns what was done, and what became of the requests.
pub(crate) async fn run(options: &Options) -> Result<(String, Vec<(&'static str, LoadReport)>)> {
    let mut web = Web::start_patient(options.hosts, GRACE_SECS).await?;
    web.pool.kubectl(&["apply", "-f", "-"], INGRESS).await?.success()?;
    web.pool.kubectl(&["label", "node", "--all", "node-role.kubernetes.io/ingress="], "").await?.success()?;
    for agent in &web.pool.agents {
        let url = format!("http://{}:80/", agent.engine.address());
        eventually("the Ingress", async || Ok(get(&url).await.map(drop).map_err(|error| error.to_string()))).await?;
    }
    let address = ["get", "service", "web", "-o", "jsonpath={.spec.clusterIP}"];
    let service = format!("http://{}/", web.pool.kubectl(&address, "").await?.success()?.trim());
    let ingress = format!("http://{}:80/", web.pool.agents[0].engine.address());
    let (rate, requests) = (options.rate / 2, options.requests / 2);
    let client = web.pool.agents[options.hosts - 1].engine.host().context("a host of its own")?;
    let loads = [
        Load::start_on(client, &service, rate, requests, &["--keep-alive-max", KEEP_ALIVE_MAX])?,
        Load::start_with(&ingress, rate, requests, &["--keep-alive-max", UNBOUNDED])?,
    ];
    let done = change(&mut web, options).await?;
    let mut reports = Vec::new();
    for (what, load) in ["ClusterIP, new and kept for 200 requests", "Ingress, new and kept for ever"].iter().zip(loads)
    {
        reports.push((*what, load.finish().await?));
    }
    web.settled().await?;
    web.pool.keep_quiet();
    Ok((done, reports))
}

/// Does everything that nobody may notice.
async fn change(web: &mut Web, options: &Options) -> Result<String> {
    let began = Instant::now();
    let (mut drains, mut kills, mut restarts) = (0, 0, 0);
    let mut roll = 0;
    while options.goes_on(roll + 1, began) {
        roll += 1;
        web.roll(roll).await?;
        let turn = usize::try_from(roll / 4)? % options.hosts;
        match roll % 4 {
            1 => {
                web.pool.kill_server().await?;
                web.pool.start_server().await?;
                web.client = web.pool.client().await?;
                kills += 1;
            }
            2 => {
                web.pool.agents[turn].kill().await?;
                web.pool.agents[turn].start(&[])?;
                restarts += 1;
            }
            _ => {}
        }
        web.rolled_out().await.with_context(|| format!("roll {roll}"))?;
        if roll % 4 == 0 {
            let name = web.pool.agents[turn].name.clone();
            let drain = ["drain", &name, "--ignore-daemonsets", "--force", "--timeout=120s"];
            web.pool.kubectl(&drain, "").await?.success()?;
            web.pool.kubectl(&["uncordon", &name], "").await?.success()?;
            drains += 1;
        }
    }
    let secs = began.elapsed().as_secs_f64();
    Ok(format!("{roll} rolls, {drains} drains, {kills} control-plane kills, {restarts} agent restarts in {secs:.0} s"))
}
