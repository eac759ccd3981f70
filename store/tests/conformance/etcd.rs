//! A real etcd for one test: its own process, directory and ports, stopped by its own handle.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use drover_store::etcd::{Etcd, Options};
use drover_store::{Backend, Retention};
use tempfile::TempDir;

use crate::harness::{Harness, PATIENCE};

/// A running etcd and a store on it.
pub(crate) struct Server {
    dir: TempDir,
    ports: (u16, u16),
    /// `http` or `https`.
    scheme: &'static str,
    extra_args: Vec<String>,
    options: Options,
    process: Child,
    store: Option<Arc<Etcd>>,
}

impl Server {
    /// Starts etcd; `None`, loudly, where there is no etcd to start.
    pub(crate) async fn start() -> Option<Self> {
        Self::start_with(tempfile::tempdir().unwrap(), "http", vec![], test_options()).await
    }

    pub(crate) async fn start_with(
        dir: TempDir,
        scheme: &'static str,
        extra_args: Vec<String>,
        options: Options,
    ) -> Option<Self> {
        let Some(binary) = find_binary() else {
            eprintln!("SKIPPED: no etcd on the PATH and no DROVER_ETCD; install the package etcd-server");
            return None;
        };
        let ports = (free_port(), free_port());
        let process = spawn(&binary, dir.path(), ports, scheme, &extra_args);
        let mut server = Self { dir, ports, scheme, extra_args, options, process, store: None };
        server.store = Some(server.connect(server.options.clone()).await);
        Some(server)
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.ports.0)
    }

    /// Connects anew, waiting for etcd to be up.
    pub(crate) async fn connect(&self, options: Options) -> Arc<Etcd> {
        let give_up = Instant::now() + PATIENCE;
        loop {
            match Etcd::connect(&[self.endpoint()], options.clone()).await {
                Ok(store) => return store,
                Err(error) if Instant::now() > give_up => {
                    panic!("etcd did not start: {error}; see its log:\n{}", self.log())
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    pub(crate) fn stop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    pub(crate) fn restart(&mut self) {
        self.stop();
        self.process = spawn(&find_binary().unwrap(), self.dir.path(), self.ports, self.scheme, &self.extra_args);
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

#[async_trait]
impl Harness for Server {
    fn backend(&self) -> Arc<dyn Backend> {
        Arc::clone(self.store.as_ref().unwrap()) as Arc<dyn Backend>
    }

    async fn reopen(&mut self) -> Arc<dyn Backend> {
        self.store = None;
        self.restart();
        self.store = Some(self.connect(self.options.clone()).await);
        self.backend()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already stopped is as good.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// The cases compact by themselves.
pub(crate) fn test_options() -> Options {
    let retention = Retention { keep_revisions: u64::MAX, interval: Duration::from_secs(3600) };
    Options { retention, ..Options::default() }
}

fn find_binary() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("DROVER_ETCD") {
        return Some(named.into());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join("etcd")).find(|candidate| candidate.is_file())
}

fn spawn(binary: &Path, dir: &Path, ports: (u16, u16), scheme: &str, extra_args: &[String]) -> Child {
    let client = format!("{scheme}://127.0.0.1:{}", ports.0);
    let peer = format!("http://127.0.0.1:{}", ports.1);
    let log = File::options().create(true).append(true).open(dir.join("log")).unwrap();
    Command::new(binary)
        .arg("--data-dir")
        .arg(dir.join("data"))
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("default={peer}")])
        // Alone, it need not wait a second for the votes of others.
        .args(["--heartbeat-interval", "10", "--election-timeout", "100"])
        .args(extra_args)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
