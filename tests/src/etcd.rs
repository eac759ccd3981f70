//! A real etcd of the test's own.

use std::process::Stdio;

use anyhow::{Context, Result};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::free_port;

/// One running etcd; ends with this value.
#[derive(Debug)]
pub struct Etcd {
    /// `127.0.0.1:port`.
    pub endpoint: String,
    _dir: TempDir,
    child: Child,
}

impl Etcd {
    /// Starts etcd on free ports with its data in a folder of its own.
    ///
    /// # Errors
    /// When etcd is not installed or cannot start.
    pub fn start() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let (client, peer) = (free_port()?, free_port()?);
        let endpoint = format!("127.0.0.1:{client}");
        let (client_url, peer_url) = (format!("http://{endpoint}"), format!("http://127.0.0.1:{peer}"));
        let child = Command::new("etcd")
            .args(["--name", "test", "--data-dir"])
            .arg(dir.path())
            .args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url])
            .args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url])
            .args(["--initial-cluster", &format!("test={peer_url}"), "--log-level", "error"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start etcd: is etcd-server installed?")?;
        Ok(Self { endpoint, _dir: dir, child })
    }

    /// The process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }
}
