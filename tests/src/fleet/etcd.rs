//! Three etcd members as processes that can be killed, paused and started again.

use std::{path::PathBuf, process::Stdio};

use anyhow::{Context, Result};
use hyper::Method;
use serde_json::Value;
use tokio::process::{Child, Command};

use super::process::Victim;
use crate::{eventually, free_port, request};

/// Members of the quorum under test.
const MEMBERS: usize = 3;

/// A quorum of three; ends with this value.
#[derive(Debug)]
pub struct EtcdTrio {
    dir: PathBuf,
    ports: Vec<(u16, u16)>,
    members: Vec<Victim>,
}

impl EtcdTrio {
    /// Starts three members with their data below `dir` and waits until they have a leader.
    ///
    /// # Errors
    /// When etcd is not installed or does not come up.
    pub async fn start(dir: PathBuf) -> Result<Self> {
        let ports = (0..MEMBERS).map(|_| Ok((free_port()?, free_port()?))).collect::<Result<Vec<_>>>()?;
        let mut trio = Self { dir, ports, members: Vec::new() };
        for member in 0..MEMBERS {
            let child = trio.spawn(member)?;
            trio.members.push(Victim::new(child));
        }
        eventually("etcd having a leader", async || Ok(trio.leader().await.map_err(|error| format!("{error:#}"))))
            .await?;
        Ok(trio)
    }

    /// `etcd://a,b,c`.
    pub fn url(&self) -> String {
        let endpoints: Vec<String> = self.ports.iter().map(|(client, _)| format!("127.0.0.1:{client}")).collect();
        format!("etcd://{}", endpoints.join(","))
    }

    /// Returns which member leads, by the word of the first that answers.
    ///
    /// # Errors
    /// When no member knows of a leader.
    pub async fn leader(&self) -> Result<usize> {
        let mut ids = Vec::new();
        let mut leader = None;
        for (client, _) in &self.ports {
            let status = status(*client).await.unwrap_or_default();
            ids.push(status["header"]["member_id"].as_str().unwrap_or_default().to_owned());
            leader = leader.or_else(|| status["leader"].as_str().filter(|id| *id != "0").map(str::to_owned));
        }
        let leader = leader.context("no member knows of a leader")?;
        ids.iter().position(|id| *id == leader).context("the leader is not among those that answer")
    }

    /// The process of a member.
    pub fn member(&mut self, member: usize) -> &mut Victim {
        &mut self.members[member]
    }

    /// Starts a member again after it was killed.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn restart(&mut self, member: usize) -> Result<()> {
        let child = self.spawn(member)?;
        self.members[member] = Victim::new(child);
        Ok(())
    }

    fn spawn(&self, member: usize) -> Result<Child> {
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let (client, peer) = self.ports[member];
        let peers: Vec<String> =
            self.ports.iter().enumerate().map(|(n, (_, peer))| format!("m{n}={}", url(*peer))).collect();
        Command::new("etcd")
            .args(["--name", &format!("m{member}"), "--data-dir"])
            .arg(self.dir.join(format!("etcd-{member}")))
            .args(["--listen-client-urls", &url(client), "--advertise-client-urls", &url(client)])
            .args(["--listen-peer-urls", &url(peer), "--initial-advertise-peer-urls", &url(peer)])
            .args([
                "--initial-cluster",
                &peers.join(","),
                "--initial-cluster-token",
                "drover-ha",
                "--log-level",
                "error",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start etcd: is etcd-server installed?")
    }
}

async fn status(port: u16) -> Result<Value> {
    let url = format!("http://127.0.0.1:{port}/v3/maintenance/status");
    let answer = tokio::time::timeout(std::time::Duration::from_secs(1), request(Method::POST, &url, "{}")).await??;
    Ok(serde_json::from_str(&answer.1)?)
}
