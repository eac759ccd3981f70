//! The processes that are measured: etcd, the server and the hollow nodes.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result, bail};
use drover_tests::{Etcd, Store, client_of, eventually, measured_drover, spawn_measured};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::options::Options;

/// `USER_HZ`: the unit of every time in `/proc`.
const TICKS_PER_SECOND: f64 = 100.0;

/// A control plane with its nodes. Dropping it ends all of its processes, then removes its files.
#[derive(Debug)]
pub(crate) struct Processes {
    server: Child,
    hollow: Option<Child>,
    etcd: Option<Etcd>,
    dir: TempDir,
}

/// CPU seconds used by each process so far, or between two moments.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cpu {
    pub(crate) server: f64,
    pub(crate) hollow: f64,
    pub(crate) etcd: f64,
    pub(crate) watcher: f64,
}

impl Cpu {
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            server: self.server - before.server,
            hollow: self.hollow - before.hollow,
            etcd: self.etcd - before.etcd,
            watcher: self.watcher - before.watcher,
        }
    }
}

impl Processes {
    /// Starts the server on a store of its own and waits until it serves.
    ///
    /// # Errors
    /// When it does not, with the end of its log.
    pub(crate) async fn start(store: Store) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("drover-bench-hollow-").tempdir()?;
        let etcd = match store {
            Store::Embedded => None,
            Store::Etcd => Some(Etcd::start()?),
        };
        let mut command = Command::new(measured_drover()?);
        command.arg("server").arg("--data-dir").arg(dir.path().join("data")).args(["--listen", "127.0.0.1:0"]);
        if let Some(etcd) = &etcd {
            command.args(["--store", &format!("etcd://{}", etcd.endpoint)]);
        }
        let log = dir.path().join("server.log");
        let mut server = spawn_measured(&mut command, &log)?;
        let ready = dir.path().join("data/server.json");
        eventually("the server serving", async || {
            if let Some(status) = server.try_wait()? {
                bail!("drover server ended with {status}:\n{}", fs::read_to_string(&log).unwrap_or_default());
            }
            Ok(if ready.is_file() { Ok(()) } else { Err("not yet") })
        })
        .await?;
        Ok(Self { server, hollow: None, etcd, dir })
    }

    /// Starts the hollow nodes.
    ///
    /// # Errors
    /// When they have not been built.
    pub(crate) fn start_hollow(&mut self, options: &Options, images: &[&str]) -> Result<()> {
        let mut command = Command::new(measured_drover()?);
        command.arg("hollow").arg("--kubeconfig").arg(self.kubeconfig());
        command.args(["--nodes", &options.nodes.to_string()]);
        command.args(images.iter().flat_map(|image| ["--image", *image]));
        self.hollow = Some(spawn_measured(&mut command, &self.dir.path().join("hollow.log"))?);
        Ok(())
    }

    /// Returns a client with the administrator's credentials and a connection of its own.
    ///
    /// # Errors
    /// When the kubeconfig cannot be read.
    pub(crate) async fn client(&self) -> Result<kube::Client> {
        client_of(&self.kubeconfig()).await
    }

    fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("data/admin.kubeconfig")
    }

    /// CPU seconds so far.
    ///
    /// # Errors
    /// When a process has ended.
    pub(crate) fn cpu(&self) -> Result<Cpu> {
        let of = |pid: Option<u32>| pid.map_or(Ok(0.0), cpu_seconds);
        Ok(Cpu {
            server: of(self.server.id())?,
            hollow: of(self.hollow.as_ref().and_then(Child::id))?,
            etcd: of(self.etcd.as_ref().and_then(Etcd::pid))?,
            watcher: cpu_seconds(std::process::id())?,
        })
    }

    /// Resident memory of the server and of the hollow nodes, in bytes.
    ///
    /// # Errors
    /// When a process has ended.
    pub(crate) fn resident_bytes(&self) -> Result<(u64, u64)> {
        let of = |pid: Option<u32>| pid.map_or(Ok(0), resident_bytes);
        Ok((of(self.server.id())?, of(self.hollow.as_ref().and_then(Child::id))?))
    }
}

fn cpu_seconds(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| path.clone())?;
    // The name stands in parentheses and may hold anything; utime and stime are fields 14 and 15.
    let (_, fields) = stat.rsplit_once(')').with_context(|| path.clone())?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<f64>().unwrap_or_default());
    Ok(ticks.sum::<f64>() / TICKS_PER_SECOND)
}

fn resident_bytes(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| path.clone())?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).with_context(|| path.clone())?;
    Ok(kib.trim().trim_end_matches("kB").trim().parse::<u64>()? * 1024)
}
