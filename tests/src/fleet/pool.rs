//! A server without an agent, and agents that have joined it from engines of their own.

use std::{
    fs::{self, File},
    net::Ipv4Addr,
    path::PathBuf,
    process::Stdio,
};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tokio::process::Command;

use super::{Engine, Lan, NETWORK, Victim};
use crate::{
    Finished, binary, client_of,
    daemon::{forget_serving, serving, tail, uninstall},
    eventually, free_port, run,
};

/// The server and its agents. Dropping it ends everything, agents first.
#[derive(Debug)]
pub struct Pool {
    /// The nodes.
    pub agents: Vec<Agent>,
    server: Option<Victim>,
    /// Whether the logs are shown at the end.
    verbose: bool,
    /// The link of the hosts; `None` where agents run on this host, beside each other.
    lan: Option<Lan>,
    port: u16,
    flags: Vec<String>,
    dir: TempDir,
    /// Tests share this host's networks: one at a time, across all test processes.
    _turn: File,
}

/// One `drover agent` and its engine.
#[derive(Debug)]
pub struct Agent {
    /// Its engine; outlives the agent.
    pub engine: Engine,
    /// The node's name.
    pub name: String,
    process: Option<Victim>,
    verbose: bool,
    dir: PathBuf,
    number: usize,
    url: String,
}

impl Pool {
    /// Starts the server, with these flags beside the usual ones, and waits until it serves.
    ///
    /// # Errors
    /// When it does not, with the end of its log.
    pub async fn start(flags: &[&str]) -> Result<Self> {
        Self::start_beside(None, flags).await
    }

    /// The same with this many nodes, each on a host of its own and ready.
    ///
    /// # Errors
    /// As [`Self::start`], and [`Self::join`].
    pub async fn of_hosts(hosts: usize, images: &[&str]) -> Result<Self> {
        let mut pool = Self::start_beside(Some(Lan::make().await?), &[]).await?;
        let invitation = pool.invite(&["--uses", &hosts.to_string()]).await?;
        for _ in 0..hosts {
            pool.join(&invitation, images).await?;
        }
        for agent in &pool.agents {
            pool.node_is(&agent.name, "True").await?;
        }
        Ok(pool)
    }

    async fn start_beside(lan: Option<Lan>, flags: &[&str]) -> Result<Self> {
        let turn = File::create(std::env::temp_dir().join("drover-tests.lock"))?;
        let turn = tokio::task::spawn_blocking(move || turn.lock().map(|()| turn)).await??;
        let dir = tempfile::Builder::new().prefix("drover-pool-").tempdir()?;
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let mut pool =
            Self { agents: Vec::new(), server: None, verbose: true, lan, port: free_port()?, flags, dir, _turn: turn };
        pool.start_server().await?;
        Ok(pool)
    }

    /// Starts the server again where it was.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_server(&mut self) -> Result<()> {
        let (data, log) = (self.data_dir(), self.dir.path().join("server.log"));
        fs::create_dir_all(&data)?;
        forget_serving(&data)?;
        let mut command = Command::new(binary("drover")?);
        command.arg("server").arg("--data-dir").arg(&data).args(["--listen", &self.listen()]);
        command.args(NETWORK).args(&self.flags);
        let output = File::options().create(true).append(true).open(&log)?;
        let child =
            command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).kill_on_drop(true).spawn()?;
        let server = self.server.insert(Victim::new(child));
        serving(&data, &log, || server.ended()).await
    }

    /// Ends the server with SIGKILL.
    ///
    /// # Errors
    /// When it is not running.
    pub async fn kill_server(&mut self) -> Result<()> {
        self.server.take().context("the server is not running")?.kill().await
    }

    /// A client of the administrator.
    ///
    /// # Errors
    /// When the server has not written its configuration.
    pub async fn client(&self) -> Result<kube::Client> {
        client_of(&self.data_dir().join("admin.kubeconfig")).await
    }

    /// Ends the server with SIGTERM.
    ///
    /// # Errors
    /// When it is not running, or ends badly.
    pub async fn stop_server(&mut self) -> Result<()> {
        let code = self.server.take().context("the server is not running")?.terminate().await?;
        ensure!(code == Some(0), "the server ended with {code:?}");
        Ok(())
    }

    /// Makes a token and returns what `droverctl` says to run, as words.
    ///
    /// # Errors
    /// When it cannot be made.
    pub async fn invite(&self, args: &[&str]) -> Result<Vec<String>> {
        let all: Vec<&str> = ["token", "create"].into_iter().chain(args.iter().copied()).collect();
        let printed = self.droverctl(&all).await?.success()?;
        Ok(printed.split_whitespace().map(str::to_owned).collect())
    }

    /// Starts an engine and an agent on it that runs `invitation`, as [`Self::invite`] returns it.
    ///
    /// # Errors
    /// When they do not start.
    pub async fn join(&mut self, invitation: &[String], images: &[&str]) -> Result<&mut Agent> {
        let number = self.agents.len();
        let dir = self.dir.path().join(format!("host-{number}"));
        let (place, namespace) = (dir.join("engine"), format!("drover-pool{number}"));
        let engine = match &self.lan {
            None => Engine::start(place, &namespace, images).await?,
            Some(lan) => Engine::start_on(lan.host(number).await?, place, &namespace, images).await?,
        };
        let name = format!("pool{number}");
        let mut agent = Agent {
            engine,
            name,
            process: None,
            verbose: true,
            dir,
            number,
            url: format!("https://{}", self.listen()),
        };
        agent.start(&invitation[2..])?;
        self.agents.push(agent);
        self.agents.last_mut().context("it was pushed")
    }

    fn listen(&self) -> String {
        format!("{}:{}", self.lan.as_ref().map_or("127.0.0.1", Lan::address), self.port)
    }

    /// The data directory of the server.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Runs kubectl as the administrator.
    ///
    /// # Errors
    /// When there is none.
    pub async fn kubectl(&self, args: &[&str], input: &str) -> Result<Finished> {
        let (config, home) = (self.data_dir().join("admin.kubeconfig"), self.dir.path().join("home"));
        run("kubectl".as_ref(), args, input, &[("KUBECONFIG", &config), ("HOME", &home)]).await
    }

    /// Runs our own client as the administrator.
    ///
    /// # Errors
    /// When it has not been built.
    pub async fn droverctl(&self, args: &[&str]) -> Result<Finished> {
        run(&binary("droverctl")?, args, "", &[("KUBECONFIG", &self.data_dir().join("admin.kubeconfig"))]).await
    }

    /// Ends without showing logs.
    pub fn keep_quiet(mut self) {
        self.verbose = false;
        for agent in &mut self.agents {
            agent.verbose = false;
        }
    }

    /// Waits until a node's condition Ready is `status`.
    ///
    /// # Errors
    /// When it is not within two minutes.
    pub async fn node_is(&self, node: &str, status: &str) -> Result<()> {
        let jsonpath = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
        eventually(&format!("node {node}: Ready={status}"), async || {
            let seen = self.kubectl(&["get", "node", node, "-o", jsonpath], "").await?;
            Ok(if seen.stdout == status { Ok(()) } else { Err(format!("{seen:?}")) })
        })
        .await
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.agents.clear();
        if self.verbose {
            // The runner shows this only for a test that failed.
            eprintln!("--- end of the server's log\n{}", tail(&self.dir.path().join("server.log")));
        }
        if let Some(mut server) = self.server.take() {
            server.end();
        }
    }
}

impl Agent {
    /// Starts the agent: with how to join the first time, without later.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&mut self, joining: &[String]) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.log_path())?;
        let mut command = self.engine.command(binary("drover")?.as_os_str());
        command.arg("agent").arg("--data-dir").arg(self.data_dir());
        command.args(["--node-name", &self.name, "--bridge", &self.bridge(), "--docker", &self.engine.url()]);
        command.args(["--node-ip", self.engine.address()]);
        match joining {
            [] => command.args(["--server", &self.url]),
            joining => command.args(joining),
        };
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true).spawn()?;
        self.process = Some(Victim::new(child));
        Ok(())
    }

    /// Ends the agent with SIGTERM and returns its exit code.
    ///
    /// # Errors
    /// When it is not running.
    pub async fn stop(&mut self) -> Result<Option<i32>> {
        self.process.take().context("the agent is not running")?.terminate().await
    }

    /// Ends the agent with SIGKILL.
    ///
    /// # Errors
    /// When it is not running.
    pub async fn kill(&mut self) -> Result<()> {
        self.process.take().context("the agent is not running")?.kill().await
    }

    /// Waits until the agent has ended by itself, and returns its exit code.
    ///
    /// # Errors
    /// When it goes on.
    pub async fn end(&mut self) -> Result<Option<i32>> {
        let process = self.process.as_mut().context("the agent was started")?;
        eventually("the agent's end", async || Ok(process.ended()?.ok_or("it runs").map(|status| status.code()))).await
    }

    /// Its data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Runs curl as a process of the pod at `address` would: in its name space, with its name server.
    ///
    /// # Errors
    /// When it does not succeed.
    pub async fn curl(&self, pod_uid: &str, address: Ipv4Addr, url: &str) -> Result<String> {
        // The first address of the node's /22 is the name server of its pods.
        let name_server = Ipv4Addr::from_bits((address.to_bits() & !0x3ff) + 1);
        let resolver = self.dir.join("resolv.conf");
        fs::write(&resolver, format!("nameserver {name_server}\n"))?;
        let namespace = format!("--net=/run/drover/{}/netns/{pod_uid}", self.bridge());
        let script =
            format!("mount --bind {} /etc/resolv.conf && exec curl -sSf --max-time 5 {url}", resolver.display());
        let arguments = [namespace.as_str(), "--", "unshare", "--mount", "sh", "-c", &script];
        run("nsenter".as_ref(), &arguments, "", &[]).await?.success()
    }

    fn log_path(&self) -> PathBuf {
        self.dir.join("agent.log")
    }

    pub(super) fn bridge(&self) -> String {
        format!("drvpool{}", self.number)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if self.verbose {
            // The runner shows this only for a test that failed.
            eprintln!("--- end of {}\n{}", self.log_path().display(), tail(&self.log_path()));
        }
        if let Some(mut process) = self.process.take() {
            process.end();
        }
        if !self.data_dir().join("cluster-name").is_file() {
            return; // It has never been a node.
        }
        let flags = ["--docker", &self.engine.url(), "--node-name", &self.name, "--bridge", &self.bridge()];
        let drover = binary("drover").map(|drover| self.engine.command(drover.as_os_str()).into_std());
        uninstall(drover, &self.data_dir(), &flags);
    }
}
