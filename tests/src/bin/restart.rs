//! How long an API server takes from the start of its process until it answers again, after a kill, with many objects.
//!
//! ```text
//! restart [--objects 100000] [--repeat 5]
//! ```
//!
//! Fills an embedded store with pods by way of the API, kills the server with SIGKILL, starts it again and asks for the
//! pod that was acknowledged last until it answers; says what each start took. Prints times, judges none; a lost pod is an error.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use drover_tests::{client_of, eventually, free_port, measured_drover, spawn_measured};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::{
    Api,
    api::{ListParams, PostParams},
};
use serde_json::json;
use tokio::{
    process::{Child, Command},
    time::Instant,
};

/// Requests in flight while the store is filled.
const WRITERS: usize = 128;

#[tokio::main]
async fn main() -> Result<()> {
    let (mut objects, mut repeat) = (100_000, 5);
    let mut args = std::env::args().skip(1);
    while let Some(flag) = args.next() {
        let value = args.next().with_context(|| format!("{flag} needs a value"))?;
        match flag.as_str() {
            "--objects" => objects = value.parse().context("--objects")?,
            "--repeat" => repeat = value.parse().context("--repeat")?,
            _ => bail!("unknown flag {flag}"),
        }
    }
    measure(objects, repeat).await
}

#[expect(clippy::print_stdout, reason = "its output is its purpose")]
async fn measure(objects: usize, repeat: usize) -> Result<()> {
    let dir = tempfile::Builder::new().prefix("drover-restart-").tempdir()?;
    // The same for every start: clients must find the server again.
    let listen = format!("127.0.0.1:{}", free_port()?);
    let mut server = start(dir.path(), &listen)?;
    eventually("the server serving", async || {
        Ok(if dir.path().join("data/server.json").is_file() { Ok(()) } else { Err("not yet") })
    })
    .await?;
    let client = client_of(&dir.path().join("data/admin.kubeconfig")).await?;
    // No controllers run here that would make it.
    let account = serde_json::from_value(json!({"metadata": {"name": "default"}}))?;
    Api::<ServiceAccount>::namespaced(client.clone(), "default").create(&PostParams::default(), &account).await?;
    let pods: Api<Pod> = Api::namespaced(client, "default");
    let begun = Instant::now();
    fill(&pods, objects).await?;
    let last = pods.create(&PostParams::default(), &pod(objects)?).await?;
    println!("{objects} pods made in {:.1} s", begun.elapsed().as_secs_f64());
    for _ in 0..repeat {
        server.kill().await?;
        let begun = Instant::now();
        server = start(dir.path(), &listen)?;
        let found = loop {
            match pods.get(&pod_name(objects)).await {
                Ok(found) => break found,
                Err(kube::Error::Api(status)) if status.code == 404 => bail!("the pod acknowledged last is lost"),
                Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
            }
            if let Some(status) = server.try_wait()? {
                bail!("the server ended with {status}:\n{}", fs::read_to_string(dir.path().join("log"))?);
            }
        };
        println!("answers {:.3} s after the start of its process", begun.elapsed().as_secs_f64());
        ensure!(found.metadata == last.metadata, "the pod acknowledged last is another one");
    }
    let page = pods.list(&ListParams::default().limit(1)).await?;
    let listed = 1 + page.metadata.remaining_item_count.unwrap_or_default();
    ensure!(listed == objects as i64 + 1, "{listed} pods are left");
    server.kill().await?;
    Ok(())
}

async fn fill(pods: &Api<Pod>, objects: usize) -> Result<()> {
    let writes = stream::iter(0..objects)
        .map(async |number| anyhow::Ok(pods.create(&PostParams::default(), &pod(number)?).await?));
    writes.buffer_unordered(WRITERS).try_for_each(|_| async { Ok(()) }).await
}

fn pod_name(number: usize) -> String {
    format!("web-7d4b9c6f5d-{number:06}")
}

fn pod(number: usize) -> Result<Pod> {
    Ok(serde_json::from_value(json!({
        "metadata": {"name": pod_name(number), "labels": {"app": "web", "pod-template-hash": "7d4b9c6f5d"}},
        "spec": {"containers": [{
            "name": "web",
            "image": "registry.example/team/web:1.24",
            "ports": [{"containerPort": 8080, "name": "http"}],
            "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
            "readinessProbe": {"httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 5},
        }]},
    }))?)
}

fn start(dir: &Path, listen: &str) -> Result<Child> {
    let mut command = Command::new(measured_drover()?);
    command.arg("apiserver").arg("--data-dir").arg(dir.join("data")).args(["--listen", listen]);
    spawn_measured(&mut command, &dir.join("log"))
}
