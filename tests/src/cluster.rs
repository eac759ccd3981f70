//! A cluster of one host: `drover up` as a process, on either store.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, Result};
use kube::config::{KubeConfigOptions, Kubeconfig};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::{
    Etcd, Finished, binary,
    daemon::{forget_serving, serving, tail, uninstall},
    run,
};

/// Where the cluster under test keeps its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// The embedded store in the data directory.
    Embedded,
    /// A real etcd that the test starts.
    Etcd,
}

/// The bridge, and by its name the agent's folder and nftables table.
pub(crate) const BRIDGE: &str = "drovertest0";
/// A network of the tests' own, so that a cluster that runs on this host already is not disturbed.
const NETWORK: [&str; 6] = ["--bridge", BRIDGE, "--cluster-cidr", "10.64.0.0/12", "--service-cidr", "10.80.0.0/16"];

/// A running cluster. Dropping it stops the server, removes what it made on the engine, and then its folder.
#[derive(Debug)]
pub struct Cluster {
    dir: TempDir,
    etcd: Option<Etcd>,
    server: Option<Child>,
    starts: u32,
    flags: Vec<String>,
    /// Clusters share the tests' network and this host's engine: one at a time, across all test processes.
    _turn: File,
}

/// Returns a typed client with the credentials of a kubeconfig, on a connection of its own.
///
/// # Errors
/// When the kubeconfig cannot be read.
pub async fn client_of(kubeconfig: &Path) -> Result<kube::Client> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(kube::Client::try_from(config)?)
}

impl Cluster {
    /// Starts `drover up` on a fresh data directory and waits until it serves.
    ///
    /// # Errors
    /// When it does not, with the end of its log.
    pub async fn start(store: Store) -> Result<Self> {
        Self::start_with(store, &[]).await
    }

    /// Like [`Self::start`], with more flags for `drover up`.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_with(store: Store, flags: &[&str]) -> Result<Self> {
        let turn = File::create(std::env::temp_dir().join("drover-tests.lock"))?;
        let turn = tokio::task::spawn_blocking(move || turn.lock().map(|()| turn)).await??;
        let etcd = match store {
            Store::Embedded => None,
            Store::Etcd => Some(Etcd::start()?),
        };
        let dir = tempfile::Builder::new().prefix("drover-e2e-").tempdir()?;
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let mut cluster = Self { dir, etcd, server: None, starts: 0, flags, _turn: turn };
        cluster.restart().await?;
        Ok(cluster)
    }

    /// Starts the server again on the same data directory, after [`Self::kill`] or [`Self::stop`].
    ///
    /// # Errors
    /// When it does not serve, with the end of its log.
    pub async fn restart(&mut self) -> Result<()> {
        self.starts += 1;
        // The port is a new one each time.
        forget_serving(&self.data_dir())?;
        let log = File::create(self.log_path())?;
        let mut command = Command::new(binary("drover")?);
        command.arg("up").arg("--data-dir").arg(self.data_dir()).args(["--listen", "127.0.0.1:0"]).args(NETWORK);
        command.args(&self.flags);
        if let Some(etcd) = &self.etcd {
            command.args(["--store", &format!("etcd://{}", etcd.endpoint)]);
        }
        command.env("RUST_LOG", std::env::var("DROVER_TEST_LOG").unwrap_or_else(|_| "info".to_owned()));
        let server = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true).spawn()?;
        self.server = Some(server);
        self.wait_until_serving().await
    }

    /// Ends the server with SIGKILL.
    ///
    /// # Errors
    /// When it is not running.
    pub async fn kill(&mut self) -> Result<()> {
        self.server.take().context("the server is not running")?.kill().await?;
        Ok(())
    }

    /// Ends the server with SIGTERM and returns its exit code.
    ///
    /// # Errors
    /// When it is not running.
    pub async fn stop(&mut self) -> Result<Option<i32>> {
        let mut server = self.server.take().context("the server is not running")?;
        let pid = server.id().context("the server has ended already")?.to_string();
        run("kill".as_ref(), &["-TERM", &pid], "", &[]).await?.success()?;
        Ok(server.wait().await?.code())
    }

    /// Runs the kubectl that is first on the PATH.
    ///
    /// # Errors
    /// When there is none.
    pub async fn kubectl(&self, args: &[&str]) -> Result<Finished> {
        self.kubectl_with(args, "").await
    }

    /// Runs kubectl with `input` on its standard input.
    ///
    /// # Errors
    /// When there is none.
    pub async fn kubectl_with(&self, args: &[&str], input: &str) -> Result<Finished> {
        let (config, home) = (self.kubeconfig(), self.dir.path().join("home"));
        run("kubectl".as_ref(), args, input, &[("KUBECONFIG", &config), ("HOME", &home)]).await
    }

    /// Runs our own client.
    ///
    /// # Errors
    /// When it has not been built.
    pub async fn droverctl(&self, args: &[&str]) -> Result<Finished> {
        run(&binary("droverctl")?, args, "", &[("KUBECONFIG", &self.kubeconfig())]).await
    }

    /// Applies manifests with kubectl.
    ///
    /// # Errors
    /// When kubectl refuses.
    pub async fn apply(&self, manifest: &str) -> Result<String> {
        self.kubectl_with(&["apply", "-f", "-"], manifest).await?.success()
    }

    /// Returns a typed client with the administrator's credentials.
    ///
    /// # Errors
    /// When the kubeconfig cannot be read.
    pub async fn client(&self) -> Result<kube::Client> {
        client_of(&self.kubeconfig()).await
    }

    /// Returns the ids of the engine's containers of this cluster, running or not.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn containers(&self) -> Result<Vec<String>> {
        let filter = format!("label=dev.drover.cluster={}", self.name()?);
        let args = ["ps", "--all", "--quiet", "--no-trunc", "--filter", &filter];
        Ok(run("docker".as_ref(), &args, "", &[]).await?.success()?.lines().map(str::to_owned).collect())
    }

    /// Returns the cluster's name, which labels everything it makes on an engine.
    ///
    /// # Errors
    /// When the kubeconfig cannot be read.
    pub fn name(&self) -> Result<String> {
        let kubeconfig = Kubeconfig::read_from(self.kubeconfig())?;
        kubeconfig.current_context.context("the kubeconfig has a current context")
    }

    /// Returns the data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Returns the administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.data_dir().join("admin.kubeconfig")
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join(format!("server-{}.log", self.starts))
    }

    async fn wait_until_serving(&mut self) -> Result<()> {
        let (data, log) = (self.data_dir(), self.log_path());
        let server = self.server.as_mut().context("the server was just started")?;
        serving(&data, &log, || Ok(server.try_wait()?)).await
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The runner shows this only for a test that failed.
        eprintln!("--- end of {}\n{}", self.log_path().display(), tail(&self.log_path()));
        if let Some(mut server) = self.server.take() {
            // The runtime may be gone already, so this is the blocking way; uninstall needs the server to be down.
            let _ = server.start_kill();
            while matches!(server.try_wait(), Ok(None)) {
                std::thread::yield_now();
            }
        }
        uninstall(binary("drover").map(std::process::Command::new), &self.data_dir(), &NETWORK[..2]);
    }
}
