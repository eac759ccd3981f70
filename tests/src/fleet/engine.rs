//! A Docker Engine of the test's own beside the machine's: own socket, own images, own containers, own bridge.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, Result, bail, ensure};
use tokio::process::Command;

use super::{host::Host, process::Victim};
use crate::{Finished, eventually, run};

/// One running dockerd; ends with this value.
#[derive(Debug)]
pub struct Engine {
    dir: PathBuf,
    process: Victim,
    /// Its name space in the machine's containerd.
    namespace: String,
    /// Goes after the engine.
    place: Place,
}

/// Where an engine runs.
#[derive(Debug)]
enum Place {
    /// On this host, with a bridge of its own.
    Here(Bridge),
    /// On a host of its own.
    There(Host),
}

/// A bridge for one engine; goes with this value. With `--bridge=none` a dockerd would remove `docker0`, which is the
/// machine's engine's.
#[derive(Debug)]
pub(super) struct Bridge {
    pub(super) name: String,
    pub(super) address: String,
}

impl Bridge {
    /// Makes one whose name and network no other has: the kernel takes each name once, and the name says the network.
    pub(super) async fn make() -> Result<Self> {
        let first = rand::random::<u8>();
        for number in (0..=u8::MAX).map(|offset| first.wrapping_add(offset)) {
            // 198.18.0.0/15 is for tests between networks (RFC 2544): nobody routes it.
            let (name, address) = (format!("drvtest{number:02x}"), format!("198.18.{number}.1"));
            // A hardware address of its own. Else the bridge takes the lowest of its ports', and a host that joins
            // makes the others talk to an address that is gone, for as long as they believe in it: some ten seconds.
            let hardware = format!("02:c6:12:00:{number:02x}:01");
            let add = ["link", "add", &name, "address", &hardware, "type", "bridge"];
            let added = run("ip".as_ref(), &add, "", &[]).await?;
            if added.stderr.contains("File exists") {
                continue;
            }
            added.success()?;
            let bridge = Self { name, address };
            let network = format!("{}/24", bridge.address);
            run("ip".as_ref(), &["addr", "add", &network, "dev", &bridge.name], "", &[]).await?.success()?;
            run("ip".as_ref(), &["link", "set", &bridge.name, "up"], "", &[]).await?.success()?;
            return Ok(bridge);
        }
        bail!("all 256 networks of test engines are taken: `ip link` shows whose they are");
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let removed = std::process::Command::new("ip").args(["link", "del", &self.name]).status();
        if !removed.is_ok_and(|status| status.success()) {
            eprintln!("the bridge {} of a test engine is left", self.name);
        }
    }
}

/// A container as the engine tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineContainer {
    /// Full id.
    pub id: String,
    /// Name.
    pub name: String,
    /// `running`, `exited`, …
    pub state: String,
    /// Uid of the pod, empty for a container that is not ours.
    pub pod_uid: String,
    /// Name in the pod.
    pub container: String,
    /// Which try it is, as its label has it.
    attempt: String,
}

impl EngineContainer {
    /// Which try it is.
    pub(super) fn attempt(&self) -> u32 {
        self.attempt.parse().unwrap_or_default()
    }
}

impl Engine {
    /// Starts dockerd with everything below `dir`, and gives it `images` of the machine's engine.
    ///
    /// # Errors
    /// When it does not come up, with the end of its log.
    pub async fn start(dir: PathBuf, namespace: &str, images: &[&str]) -> Result<Self> {
        Self::start_at(Place::Here(Bridge::make().await?), dir, namespace, images).await
    }

    /// The same on a host of its own, which ends with the engine.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_on(host: Host, dir: PathBuf, namespace: &str, images: &[&str]) -> Result<Self> {
        Self::start_at(Place::There(host), dir, namespace, images).await
    }

    async fn start_at(place: Place, dir: PathBuf, namespace: &str, images: &[&str]) -> Result<Self> {
        std::fs::create_dir_all(&dir)?;
        std::fs::write(dir.join("daemon.json"), "{}")?;
        let process = spawn(&place, &dir, namespace)?;
        let mut engine = Self { process, dir, namespace: namespace.to_owned(), place };
        engine.answers().await?;
        engine.load(images).await?;
        Ok(engine)
    }

    /// Ends it with SIGKILL, without a word. Its containers go on.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub async fn kill(&mut self) -> Result<()> {
        self.process.kill().await
    }

    /// Starts it again after [`Self::kill`].
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn restart(&mut self) -> Result<()> {
        // It goes with its dockerd, a moment later; a new one would take it for alive and wait for it in vain.
        let pid = std::fs::read_to_string(self.dir.join("exec/containerd/containerd.pid")).unwrap_or_default();
        let stat = std::path::PathBuf::from(format!("/proc/{}", pid.trim()));
        eventually("the end of its containerd", async || Ok(if stat.exists() { Err(()) } else { Ok(()) })).await?;
        self.process = spawn(&self.place, &self.dir, &self.namespace)?;
        self.answers().await
    }

    async fn answers(&mut self) -> Result<()> {
        let log = self.dir.join("dockerd.log");
        eventually("dockerd answering", async || {
            if let Some(status) = self.process.ended()? {
                bail!("dockerd ended with {status}:\n{}", std::fs::read_to_string(&log)?);
            }
            let version = run("docker".as_ref(), &["-H", &self.url(), "version"], "", &[]).await?;
            Ok(if version.code == 0 { Ok(()) } else { Err(version.stderr) })
        })
        .await
    }

    /// `unix:///…/docker.sock`.
    pub fn url(&self) -> String {
        format!("unix://{}", self.dir.join("docker.sock").display())
    }

    /// An address of this host that no other test engine has: for its node.
    pub fn address(&self) -> &str {
        match &self.place {
            Place::Here(bridge) => &bridge.address,
            Place::There(host) => host.address(),
        }
    }

    /// The host of its own that it runs on.
    pub fn host(&self) -> Option<&Host> {
        match &self.place {
            Place::Here(_) => None,
            Place::There(host) => Some(host),
        }
    }

    /// A command that runs a program where the engine runs.
    pub fn command(&self, program: &std::ffi::OsStr) -> Command {
        self.host().map_or_else(|| Command::new(program), |host| host.command(program))
    }

    /// Runs the Docker client against this engine.
    ///
    /// # Errors
    /// When there is none.
    pub async fn docker(&self, args: &[&str]) -> Result<Finished> {
        let url = self.url();
        let all: Vec<&str> = ["-H", url.as_str()].into_iter().chain(args.iter().copied()).collect();
        run("docker".as_ref(), &all, "", &[]).await
    }

    /// Returns every container, running or not.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn containers(&self) -> Result<Vec<EngineContainer>> {
        let label = |name: &str| format!("{{{{.Label \"dev.drover.{name}\"}}}}");
        let labels = ["pod.uid", "container", "attempt"].map(label).join("\t");
        let format = format!("{{{{.ID}}}}\t{{{{.Names}}}}\t{{{{.State}}}}\t{labels}");
        let listed = self.docker(&["ps", "--all", "--no-trunc", "--format", &format]).await?.success()?;
        let container = |line: &str| {
            let mut parts = line.split('\t').map(str::to_owned);
            let mut part = || parts.next().unwrap_or_default();
            EngineContainer {
                id: part(),
                name: part(),
                state: part(),
                pod_uid: part(),
                container: part(),
                attempt: part(),
            }
        };
        Ok(listed.lines().map(container).collect())
    }

    async fn load(&self, images: &[&str]) -> Result<()> {
        if images.is_empty() {
            return Ok(());
        }
        let archive = self.dir.join("images.tar");
        let path = archive.to_str().context("the path is text")?;
        let save: Vec<&str> = ["save", "-o", path].into_iter().chain(images.iter().copied()).collect();
        let saved = run("docker".as_ref(), &save, "", &[]).await?;
        ensure!(saved.code == 0, "images {images:?} are not on this machine (make test builds them): {}", saved.stderr);
        self.docker(&["load", "-i", path]).await?.success()?;
        Ok(())
    }
}

fn spawn(place: &Place, dir: &Path, namespace: &str) -> Result<Victim> {
    let log = File::options().create(true).append(true).open(dir.join("dockerd.log"))?;
    let path = |name: &str| dir.join(name).display().to_string();
    let (mut command, bridge) = match place {
        Place::Here(bridge) => (Command::new("dockerd"), bridge.name.as_str()),
        // There is no `docker0` that it could take away.
        Place::There(host) => (host.command("dockerd".as_ref()), "none"),
    };
    let child = command
        .args(["-H", &format!("unix://{}", path("docker.sock")), "--data-root", &path("root")])
        .args(["--exec-root", &path("exec"), "--pidfile", &path("pid"), "--config-file", &path("daemon.json")])
        .args(["--containerd-namespace", namespace, "--containerd-plugins-namespace", &format!("{namespace}-plugins")])
        .args(["--bridge", bridge, "--iptables=false"])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .context("cannot start dockerd")?;
    Ok(Victim::new(child))
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.process.end_gently();
        unmount_below(&self.dir);
    }
}

/// What an engine leaves mounted would keep its folder from being removed.
fn unmount_below(dir: &Path) {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let below =
        mounts.lines().filter_map(|line| line.split(' ').nth(1)).filter(|path| Path::new(path).starts_with(dir));
    let mut below: Vec<&str> = below.collect();
    below.reverse();
    for path in below {
        drop(std::process::Command::new("umount").args(["-l", path]).status());
    }
}
