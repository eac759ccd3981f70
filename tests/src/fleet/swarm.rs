//! The peer: Docker's swarm mode on hosts of the same kind as ours.

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::{Engine, Lan};

/// Engines of one swarm. Dropping it ends everything.
#[derive(Debug)]
pub struct Swarm {
    /// Who decides.
    pub manager: Engine,
    /// The other hosts.
    pub workers: Vec<Engine>,
    _lan: Lan,
    dir: TempDir,
}

impl Swarm {
    /// Starts the hosts and joins them.
    ///
    /// # Errors
    /// When they do not come up.
    pub async fn start(hosts: usize, images: &[&str]) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("drover-swarm-").tempdir()?;
        let lan = Lan::make().await?;
        let mut workers = Vec::new();
        for number in 0..hosts {
            let (place, namespace) = (dir.path().join(number.to_string()), format!("drover-swarm{number}"));
            workers.push(Engine::start_on(lan.host(number).await?, place, &namespace, images).await?);
        }
        anyhow::ensure!(!workers.is_empty(), "a swarm has hosts");
        let manager = workers.remove(0);
        let address = manager.address().to_owned();
        manager.docker(&["swarm", "init", "--advertise-addr", &address, "--listen-addr", &address]).await?.success()?;
        let token = manager.docker(&["swarm", "join-token", "--quiet", "worker"]).await?.success()?;
        for worker in &workers {
            let own = worker.address();
            let join =
                ["swarm", "join", "--token", token.trim(), "--advertise-addr", own, "--listen-addr", own, &address];
            worker.docker(&join).await?.success()?;
        }
        Ok(Self { manager, workers, _lan: lan, dir })
    }

    /// Runs a command of the manager's.
    ///
    /// # Errors
    /// When it does not succeed.
    pub async fn docker(&self, arguments: &[&str]) -> Result<String> {
        self.manager.docker(arguments).await?.success().with_context(|| arguments.join(" "))
    }

    /// A directory that goes with it.
    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }
}
