//! `drover up` as a process that is measured: its start, its process id, its end.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use drover_tests::{client_of, measured_drover, run};
use http::Request;
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time::{sleep, timeout},
};

use crate::{engine::Engine, options::Options};

/// Longest wait for a start or an end; each is far shorter unless something is wrong.
const DEADLINE: Duration = Duration::from_secs(60);

/// A data directory of this run's cluster, removed with all that the cluster made on this host.
#[derive(Debug)]
pub(crate) struct Home {
    dir: TempDir,
    drover: PathBuf,
    cluster: String,
    docker: String,
}

/// A running `drover up`.
#[derive(Debug)]
pub(crate) struct Plane {
    child: Child,
    kubeconfig: PathBuf,
    log: PathBuf,
}

/// How long a start took, from just before the process was made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Start {
    /// Until `server.json` was there.
    pub(crate) server_json: Duration,
    /// Until a client's `/readyz` was answered with 200.
    pub(crate) ready: Duration,
}

impl Home {
    /// Makes an empty data directory.
    ///
    /// # Errors
    /// When `drover` has not been built, or another one runs on this host: two would share pod addresses.
    pub(crate) fn new(options: &Options, engine: &Engine) -> Result<Self> {
        ensure_alone()?;
        let drover = measured_drover()?;
        let docker = format!("unix://{}", options.socket.display());
        let dir = tempfile::Builder::new().prefix("drover-bench-").tempdir()?;
        Ok(Self { dir, drover, cluster: engine.run.clone(), docker })
    }

    /// Starts `drover up` and waits until its API is ready.
    ///
    /// # Errors
    /// When it is not, with the end of its log, or another `drover` has appeared on this host.
    pub(crate) async fn start(&self) -> Result<(Plane, Start)> {
        ensure_alone()?;
        let log = self.dir.path().join("log");
        let output = File::create(&log)?;
        let mut command = Command::new(&self.drover);
        command.arg("up").arg("--data-dir").arg(self.data_dir()).args(["--listen", "127.0.0.1:0"]);
        command.args(["--cluster-name", &self.cluster, "--docker", &self.docker]);
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).kill_on_drop(true);
        let started = Instant::now();
        let child = command.spawn().with_context(|| format!("cannot start {}", self.drover.display()))?;
        let mut plane = Plane { child, kubeconfig: self.data_dir().join("admin.kubeconfig"), log };
        let ready = timeout(DEADLINE, plane.wait_until_ready(&self.data_dir().join("server.json"), started)).await;
        match ready {
            Ok(start) => Ok((plane, start?)),
            Err(_) => bail!("drover up is not ready after {DEADLINE:?}:\n{}", plane.log_end()),
        }
    }

    fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if !self.data_dir().exists() {
            return;
        }
        let mut uninstall = std::process::Command::new(&self.drover);
        uninstall.arg("uninstall").arg("--data-dir").arg(self.data_dir()).args(["--docker", &self.docker]);
        match uninstall.stdin(Stdio::null()).output() {
            Ok(output) if output.status.success() => {}
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr);
                eprintln!("drover uninstall failed: {}", said.lines().next().unwrap_or_default());
            }
            Err(error) => eprintln!("drover uninstall failed: {error}"),
        }
    }
}

impl Plane {
    /// Returns the process id.
    ///
    /// # Errors
    /// When it has ended.
    pub(crate) fn pid(&self) -> Result<u32> {
        self.child.id().context("drover up has ended")
    }

    /// Returns a client with the administrator's credentials.
    ///
    /// # Errors
    /// When the kubeconfig cannot be read.
    pub(crate) async fn client(&self) -> Result<kube::Client> {
        client_of(&self.kubeconfig).await
    }

    /// Ends it with SIGTERM.
    ///
    /// # Errors
    /// When it does not end.
    pub(crate) async fn stop(mut self) -> Result<()> {
        let pid = self.pid()?.to_string();
        run("kill".as_ref(), &["-TERM", &pid], "", &[]).await?.success()?;
        let ended = timeout(DEADLINE, self.child.wait()).await.context("drover up does not end")??;
        ensure!(ended.success(), "drover up ended with {ended}:\n{}", self.log_end());
        Ok(())
    }

    /// Returns the last lines of its log.
    pub(crate) fn log_end(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    async fn wait_until_ready(&mut self, server_json: &Path, started: Instant) -> Result<Start> {
        while !server_json.is_file() {
            if let Some(status) = self.child.try_wait()? {
                bail!("drover up ended with {status}:\n{}", self.log_end());
            }
            sleep(Duration::from_millis(1)).await;
        }
        let server_json = started.elapsed();
        let client = self.client().await?;
        while client.request_text(Request::get("/readyz").body(Vec::new())?).await.is_err() {
            sleep(Duration::from_millis(1)).await;
        }
        Ok(Start { server_json, ready: started.elapsed() })
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        // Its home is uninstalled next, and that needs the server to be down.
        let _ = self.child.start_kill();
        while matches!(self.child.try_wait(), Ok(None)) {
            std::thread::yield_now();
        }
    }
}

fn ensure_alone() -> Result<()> {
    for process in fs::read_dir("/proc")?.flatten() {
        // Most entries are no processes, and those that are may end meanwhile.
        let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
        let pid = process.file_name();
        ensure!(name.trim_end() != "drover", "another drover runs as process {}: end it first", pid.display());
    }
    Ok(())
}
