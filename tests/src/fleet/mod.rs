//! A cluster of several servers: three etcd members, and `drover up` three times, each on a real engine of its own.
//!
//! Owns every process, folder and network it makes and removes them again. Faults are done to it by the test.

mod engine;
mod etcd;
mod host;
mod observe;
mod pool;
mod process;
mod swarm;
mod tables;
mod web;
mod writer;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, Result};
use kube::config::{KubeConfigOptions, Kubeconfig};
use tempfile::TempDir;
use tokio::process::Command;

pub use engine::{Engine, EngineContainer};
pub use etcd::EtcdTrio;
pub use host::{Host, Lan};
pub use pool::{Agent, Pool};
pub use process::Victim;
pub use swarm::Swarm;
pub use web::Web;
pub use writer::{Writer, Written};

use crate::{
    Finished, binary,
    daemon::{forget_serving, serving, tail, uninstall},
    eventually, run,
};

/// Addresses of the tests' own, as in [`crate::Cluster`].
const NETWORK: [&str; 4] = ["--cluster-cidr", "10.64.0.0/12", "--service-cidr", "10.80.0.0/16"];
/// What an operator copies to a new server.
const SHARED_KEYS: [&str; 4] = ["ca.crt", "ca.key", "service-account.key", "sealing.keys"];

/// The cluster. Dropping it ends everything.
#[derive(Debug)]
pub struct Fleet {
    /// The servers with their agents.
    pub servers: Vec<Server>,
    /// The store.
    pub etcd: EtcdTrio,
    dir: TempDir,
    /// Tests share this host's networks: one at a time, across all test processes.
    _turn: File,
}

/// One `drover up` and its engine.
#[derive(Debug)]
pub struct Server {
    /// The engine of its agent; outlives the server.
    pub engine: Engine,
    /// The process; `None` while it is down.
    pub process: Option<Victim>,
    number: usize,
    port: u16,
    dir: PathBuf,
    starts: u32,
    /// The flags that name the store.
    store: String,
}

impl Fleet {
    /// Starts three of each, and waits until all servers serve and all nodes are ready.
    ///
    /// # Errors
    /// When any of it does not come up, with the end of its log.
    pub async fn start(images: &[&str]) -> Result<Self> {
        let turn = File::create(std::env::temp_dir().join("drover-tests.lock"))?;
        let turn = tokio::task::spawn_blocking(move || turn.lock().map(|()| turn)).await??;
        let dir = tempfile::Builder::new().prefix("drover-ha-").tempdir()?;
        let etcd = EtcdTrio::start(dir.path().to_owned()).await?;
        let mut fleet = Self { servers: Vec::new(), etcd, dir, _turn: turn };
        for number in 0..3 {
            let own = fleet.dir.path().join(format!("host-{number}"));
            let engine = Engine::start(own.join("engine"), &format!("drover-ha{number}"), images).await?;
            let (port, store) = (crate::free_port()?, fleet.etcd.url());
            let mut server = Server { engine, process: None, number, port, dir: own, starts: 0, store };
            if let Some(first) = fleet.servers.first() {
                copy_keys(&first.data_dir(), &server.data_dir())?;
            }
            server.start()?;
            server.serving().await?;
            fleet.servers.push(server);
        }
        fleet.nodes_ready().await?;
        Ok(fleet)
    }

    /// Waits until all three nodes are ready.
    ///
    /// # Errors
    /// When they are not within two minutes.
    pub async fn nodes_ready(&self) -> Result<()> {
        let jsonpath = "jsonpath={range .items[*]}{.status.conditions[?(@.type==\"Ready\")].status} {end}";
        eventually("three ready nodes", async || {
            let listed = self.servers[0].kubectl(&["get", "nodes", "-o", jsonpath]).await?;
            let ready = listed.stdout.split_whitespace().filter(|status| *status == "True").count();
            Ok(if ready == 3 { Ok(()) } else { Err(format!("{listed:?}")) })
        })
        .await
    }

    /// Returns which server leads the controllers, by its Lease.
    ///
    /// # Errors
    /// When no server can tell.
    pub async fn leader(&self) -> Result<usize> {
        eventually("a leader of the controllers", async || {
            for server in &self.servers {
                let lease = [
                    "get",
                    "lease",
                    "-n",
                    "kube-system",
                    "drover-controllers",
                    "-o",
                    "jsonpath={.spec.holderIdentity}",
                ];
                let holder = server.kubectl(&lease).await?.stdout;
                let ids = self.servers.iter().map(|server| fs::read_to_string(server.data_dir().join("server-id")));
                let ids = ids.collect::<std::io::Result<Vec<_>>>()?;
                if let Some(found) = ids.iter().position(|id| id.trim() == holder.trim()) {
                    return Ok(Ok(found));
                }
            }
            Ok(Err("no server names one of us"))
        })
        .await
    }
}

impl Server {
    /// Starts `drover up` on the same data directory and engine as before.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&mut self) -> Result<()> {
        self.starts += 1;
        fs::create_dir_all(self.data_dir())?;
        forget_serving(&self.data_dir())?;
        let log = File::create(self.log_path())?;
        let (listen, node, bridge) = (format!("127.0.0.1:{}", self.port), self.node(), self.bridge());
        let mut command = Command::new(binary("drover")?);
        command.arg("up").arg("--data-dir").arg(self.data_dir()).args(["--listen", &listen, "--store", &self.store]);
        command.args(["--docker", &self.engine.url(), "--node-name", &node, "--bridge", &bridge]).args(NETWORK);
        // Each node has an address of its own, as on a host of its own.
        command.args(["--node-ip", self.engine.address()]);
        command.env("RUST_LOG", std::env::var("DROVER_TEST_LOG").unwrap_or_else(|_| "info".to_owned()));
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true).spawn()?;
        self.process = Some(Victim::new(child));
        Ok(())
    }

    /// Waits until it serves.
    ///
    /// # Errors
    /// When it ends instead, with the end of its log.
    pub async fn serving(&mut self) -> Result<()> {
        let (data, log) = (self.data_dir(), self.log_path());
        let process = self.process.as_mut().context("the server was started")?;
        serving(&data, &log, || process.ended()).await
    }

    /// Ends it with SIGKILL.
    ///
    /// # Errors
    /// When it is not running.
    pub async fn kill(&mut self) -> Result<()> {
        self.process.take().context("the server is not running")?.kill().await
    }

    /// The name of its node.
    pub fn node(&self) -> String {
        format!("ha{}", self.number)
    }

    /// Its data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Runs kubectl against this server.
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
        let (config, home) = (self.data_dir().join("admin.kubeconfig"), self.dir.join("home"));
        let timely: Vec<&str> = ["--request-timeout=150s"].into_iter().chain(args.iter().copied()).collect();
        run("kubectl".as_ref(), &timely, input, &[("KUBECONFIG", &config), ("HOME", &home)]).await
    }

    /// Runs our own client against this server.
    ///
    /// # Errors
    /// When it has not been built.
    pub async fn droverctl(&self, args: &[&str]) -> Result<Finished> {
        run(&binary("droverctl")?, args, "", &[("KUBECONFIG", &self.data_dir().join("admin.kubeconfig"))]).await
    }

    /// Returns a typed client with the administrator's credentials.
    ///
    /// # Errors
    /// When the kubeconfig cannot be read.
    pub async fn client(&self) -> Result<kube::Client> {
        let kubeconfig = Kubeconfig::read_from(self.data_dir().join("admin.kubeconfig"))?;
        let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        // A refusal is what the test looks at; the client would try again for minutes.
        config.default_retry = false;
        Ok(kube::Client::try_from(config)?)
    }

    /// The end of what it logged since its last start.
    pub fn log(&self) -> String {
        tail(&self.log_path())
    }

    fn bridge(&self) -> String {
        format!("drvha{}", self.number)
    }

    fn log_path(&self) -> PathBuf {
        self.dir.join(format!("server-{}.log", self.starts))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The runner shows this only for a test that failed.
        eprintln!("--- end of {}\n{}", self.log_path().display(), self.log());
        if let Some(mut process) = self.process.take() {
            process.end();
        }
        let flags = ["--docker", &self.engine.url(), "--node-name", &self.node(), "--bridge", &self.bridge()];
        uninstall(binary("drover").map(std::process::Command::new), &self.data_dir(), &flags);
    }
}

fn copy_keys(from: &Path, to: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(to.join("pki"))?;
    for file in SHARED_KEYS {
        fs::copy(from.join("pki").join(file), to.join("pki").join(file))?;
    }
    Ok(())
}
