//! A real etcd that is paused, killed and started again. Each history has a prefix of its own.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use drover_store::etcd::{Etcd, Options};
use drover_store::{Backend, Retention};
use rustix::process::{Pid, Signal, kill_process};

use crate::histories::{Plan, Target};
use crate::rng::Rng;
use crate::slot::Slot;

type Failure = Box<dyn std::error::Error>;

/// A running etcd of our own, gone with the value.
pub(crate) struct Server {
    binary: PathBuf,
    dir: tempfile::TempDir,
    ports: (u16, u16),
    process: Child,
}

impl Server {
    /// Starts etcd; `None` where there is none.
    pub(crate) fn start() -> Result<Option<Self>, Failure> {
        let named = std::env::var_os("DROVER_ETCD").map(PathBuf::from);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut found =
            std::env::split_paths(&path).map(|dir| dir.join("etcd")).filter(|candidate| candidate.is_file());
        let Some(binary) = named.or_else(|| found.next()) else { return Ok(None) };
        let dir = tempfile::tempdir()?;
        let ports = (free_port()?, free_port()?);
        let process = spawn(&binary, dir.path(), ports)?;
        Ok(Some(Self { binary, dir, ports, process }))
    }

    async fn connect(&self, prefix: String) -> Result<Arc<Etcd>, Failure> {
        let retention = Retention { keep_revisions: u64::MAX, interval: Duration::from_secs(3600) };
        let options = Options { prefix, retention, request_timeout: Duration::from_secs(1), ..Options::default() };
        for _ in 0..60 {
            if let Ok(store) = Etcd::connect(&[format!("http://127.0.0.1:{}", self.ports.0)], options.clone()).await {
                return Ok(store);
            }
        }
        Err("etcd did not start within a minute".into())
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw).expect("a child has a pid");
        kill_process(pid, signal).expect("our own child may be signalled");
    }

    fn restart(&mut self) {
        self.stop();
        self.process = spawn(&self.binary, self.dir.path(), self.ports).expect("what started once starts again");
    }

    fn stop(&mut self) {
        // Already stopped is as good.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn spawn(binary: &Path, dir: &Path, ports: (u16, u16)) -> std::io::Result<Child> {
    let (client, peer) = (format!("http://127.0.0.1:{}", ports.0), format!("http://127.0.0.1:{}", ports.1));
    let log = File::options().create(true).append(true).open(dir.join("log"))?;
    Command::new(binary)
        .arg("--data-dir")
        .arg(dir.join("data"))
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("default={peer}")])
        // Alone, it need not wait a second for the votes of others.
        .args(["--heartbeat-interval", "10", "--election-timeout", "100"])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// One history's part of a server.
pub(crate) struct OnEtcd<'a> {
    server: &'a mut Server,
    rng: Rng,
    troubles: u64,
    slot: Arc<Slot>,
}

impl<'a> OnEtcd<'a> {
    pub(crate) async fn start(server: &'a mut Server, plan: Plan) -> Result<Self, Failure> {
        let store = server.connect(format!("/history-{}", plan.seed)).await?;
        let slot = Arc::new(Slot::new(plan.wrap(store as Arc<dyn Backend>), true));
        Ok(Self { server, rng: Rng::new(plan.seed ^ 0xe7cd), troubles: plan.troubles, slot })
    }
}

#[async_trait]
impl Target for OnEtcd<'_> {
    fn slot(&self) -> Arc<Slot> {
        Arc::clone(&self.slot)
    }

    async fn trouble(&mut self, over: Arc<AtomicBool>) -> u64 {
        let mut done = 0;
        while done < self.troubles && !over.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(50 + self.rng.below(400))).await;
            if self.rng.percent(50) {
                self.server.restart();
            } else {
                self.server.signal(Signal::STOP);
                // Up to twice the deadline of a request.
                tokio::time::sleep(Duration::from_millis(100 + self.rng.below(2_000))).await;
                self.server.signal(Signal::CONT);
            }
            done += 1;
        }
        done
    }

    fn counts_by_one(&self) -> bool {
        false
    }
}
