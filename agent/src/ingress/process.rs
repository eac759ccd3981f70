//! The HAProxy process: found, started, asked, reloaded, ended.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use drover_routing::ingress::config::Files;
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, User},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    process::Command,
    time::{Instant, sleep, timeout},
};

/// What the commands that we use need: servers that come and go are no experiment since 2.6.
const VERSION_MIN: (u32, u32) = (2, 6);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(5);
/// How long a master may be deaf while it takes up a new configuration, and until its new worker is there.
const RELOAD: Duration = Duration::from_secs(15);
const AGAIN_AFTER: Duration = Duration::from_millis(20);
const CONFIG: &str = "haproxy.cfg";
/// Debian's account for it.
const USER: &str = "haproxy";

/// Why HAProxy does not do what it should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProcessError {
    /// It is not there.
    #[error("HAProxy is not installed ({0}); install version 2.6 or newer, for example with: apt-get install haproxy")]
    Missing(io::Error),
    /// It is too old, or something else.
    #[error("HAProxy 2.6 or newer is needed, this is {0:?}")]
    Version(String),
    /// It does not take the configuration.
    #[error("HAProxy refuses its configuration: {0}")]
    Refused(String),
    /// It does not answer.
    #[error("HAProxy does not answer: {0}")]
    Silent(#[source] io::Error),
    /// It does not do what it is told.
    #[error("HAProxy does not take {command:?}: {answer}")]
    Command {
        /// The first command of the batch.
        command: String,
        /// What it said.
        answer: String,
    },
    /// Its files cannot be written.
    #[error("cannot write the configuration of HAProxy")]
    Files(#[source] io::Error),
}

/// One HAProxy, known by its directory.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    program: PathBuf,
    dir: PathBuf,
}

impl Process {
    pub(crate) fn new(program: PathBuf, dir: PathBuf) -> Self {
        Self { program, dir }
    }

    /// Whom HAProxy becomes on this host.
    pub(super) fn user() -> Option<String> {
        User::from_name(USER).ok().flatten().map(|user| user.name)
    }

    /// Where its files are once they have been checked, and before.
    pub(super) fn dirs(&self) -> (PathBuf, PathBuf) {
        (self.dir.join("current"), self.dir.join("next"))
    }

    /// Whether there is an HAProxy that can be used.
    pub(super) async fn check_version(&self) -> Result<(), ProcessError> {
        let output = Command::new(&self.program).arg("-v").output().await.map_err(ProcessError::Missing)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let version = text.split_whitespace().skip_while(|word| *word != "version").nth(1).and_then(version);
        if version.is_some_and(|version| version >= VERSION_MIN) {
            return Ok(());
        }
        Err(ProcessError::Version(text.lines().next().unwrap_or_default().to_owned()))
    }

    /// Writes files into one of the directories.
    pub(super) fn write(&self, dir: &Path, files: &Files) -> Result<(), ProcessError> {
        let write = || -> io::Result<()> {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
            for (name, content) in &files.files {
                let fresh = dir.join(format!("{name}.new"));
                let mut file = fs::OpenOptions::new();
                let mut file = file.write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
                io::Write::write_all(&mut file, content.as_bytes())?;
                fs::rename(fresh, dir.join(name))?;
            }
            // Certificates of Secrets that nobody names any more.
            for entry in fs::read_dir(dir)? {
                let entry = entry?;
                if !files.files.iter().any(|(name, _)| entry.file_name() == name.as_str()) {
                    fs::remove_file(entry.path())?;
                }
            }
            Ok(())
        };
        write().map_err(ProcessError::Files)
    }

    /// Has HAProxy read what is in a directory, and nothing more.
    pub(super) async fn check(&self, dir: &Path) -> Result<(), ProcessError> {
        let mut command = Command::new(&self.program);
        command.args(["-c", "-q", "-f"]).arg(dir.join(CONFIG));
        self.finished(command).await
    }

    /// Starts it on what is in its directory.
    pub(super) async fn start(&self) -> Result<(), ProcessError> {
        let (current, _) = self.dirs();
        let mut command = Command::new(&self.program);
        command.arg("-W").arg("-S").arg(format!("{},mode,600", self.socket().display()));
        // As a daemon it belongs to nobody: it stays when the agent goes.
        command.args(["-D", "-p"]).arg(self.pid_file()).arg("-f").arg(current.join(CONFIG));
        self.finished(command).await?;
        self.until(|_info| true).await
    }

    async fn finished(&self, mut command: Command) -> Result<(), ProcessError> {
        let output = command.stdin(Stdio::null()).output().await.map_err(ProcessError::Missing)?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let alert = said.lines().find(|line| line.contains("[ALERT]")).unwrap_or_else(|| said.trim());
        Err(ProcessError::Refused(alert.to_owned()))
    }

    /// Whether its master lives.
    pub(super) fn lives(&self) -> bool {
        self.pid().is_some()
    }

    /// The process that gets new connections. Those that a reload has left take no commands and end with their last one.
    pub(super) async fn worker(&self) -> Result<Option<u32>, ProcessError> {
        let answer = self.ask("show proc").await.map_err(ProcessError::Silent)?;
        Ok(newest_worker(&answer))
    }

    /// Asks a worker.
    pub(super) async fn ask_worker(&self, worker: u32, command: &str) -> Result<String, ProcessError> {
        self.ask(&format!("@!{worker} {command}")).await.map_err(ProcessError::Silent)
    }

    /// Has a worker carry out commands that have nothing to say.
    pub(super) async fn tell_worker(&self, worker: u32, commands: &[String]) -> Result<(), ProcessError> {
        // A line of the master's socket has room for 16 KiB.
        for batch in commands.chunks(64) {
            let line: Vec<String> = batch.iter().map(|command| format!("@!{worker} {command}")).collect();
            let answer = self.ask(&line.join("; ")).await.map_err(ProcessError::Silent)?;
            let done = ["", "New server registered.", "Server deleted."];
            if let Some(complaint) = answer.lines().find(|line| !done.contains(&line.trim())) {
                return Err(ProcessError::Command {
                    command: batch.first().cloned().unwrap_or_default(),
                    answer: complaint.to_owned(),
                });
            }
        }
        Ok(())
    }

    /// Takes up what is in its directory; `taken` tells by the newest worker's answer to `show info`.
    pub(super) async fn reload(&self, taken: impl Fn(&str) -> bool + Send) -> Result<(), ProcessError> {
        self.ask("reload").await.map_err(ProcessError::Silent)?;
        self.until(taken).await
    }

    /// Ends it once its connections have ended, at once for new ones.
    pub(super) fn end(&self) {
        self.signal(Signal::SIGUSR1);
    }

    /// Ends it with all its connections, and forgets it.
    pub(crate) fn remove(&self) {
        self.signal(Signal::SIGTERM);
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid()
            && let Err(error) = kill(pid, signal)
        {
            tracing::warn!(%error, %pid, "HAProxy cannot be ended");
        }
        // Nobody is to be found under it any more.
        let _ = fs::remove_file(self.pid_file());
    }

    /// The master, if the process of that number is still the one that we started.
    fn pid(&self) -> Option<Pid> {
        let pid: i32 = fs::read_to_string(self.pid_file()).ok()?.trim().parse().ok()?;
        let words = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let path = self.pid_file();
        let ours = words.split(|byte| *byte == 0).any(|word| word == path.as_os_str().as_encoded_bytes());
        ours.then(|| Pid::from_raw(pid))
    }

    fn pid_file(&self) -> PathBuf {
        self.dir.join("haproxy.pid")
    }

    fn socket(&self) -> PathBuf {
        self.dir.join("master.sock")
    }

    async fn ask(&self, line: &str) -> io::Result<String> {
        let answer = async {
            let mut stream = UnixStream::connect(self.socket()).await?;
            stream.write_all(format!("{line}\n").as_bytes()).await?;
            // The master waits for more until it is told that there is none.
            stream.shutdown().await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            Ok(answer)
        };
        timeout(ANSWER, answer).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    /// Waits until the newest worker's answer to `show info` is as it should be. A master that reads its configuration anew
    /// does not listen meanwhile.
    async fn until(&self, as_wished: impl Fn(&str) -> bool + Send) -> Result<(), ProcessError> {
        let give_up_at = Instant::now() + RELOAD;
        loop {
            let answer = match self.worker().await {
                Ok(Some(newest)) => self.ask_worker(newest, "show info").await,
                Ok(None) => Ok(String::new()),
                Err(error) => Err(error),
            };
            match answer {
                Ok(info) if !info.is_empty() && as_wished(&info) => return Ok(()),
                Ok(_) | Err(ProcessError::Silent(_)) if Instant::now() < give_up_at => sleep(AGAIN_AFTER).await,
                Ok(_) => return Err(ProcessError::Silent(io::ErrorKind::TimedOut.into())),
                Err(error) => return Err(error),
            }
        }
    }
}

/// Reads `2.6.12-1+deb12u4`.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(['.', '-']);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Reads the answer to `show proc`, with lines like `9223 worker 0 0d00h10m10s`, the newest first.
fn newest_worker(answer: &str) -> Option<u32> {
    let worker = |line: &str| {
        let mut fields = line.split_whitespace();
        let (pid, kind) = (fields.next()?, fields.next()?);
        pid.parse().ok().filter(|_| kind == "worker")
    };
    answer.lines().find_map(worker)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        let answer = "#<PID>          <type>          <reloads>       <uptime>        <version>
9221            master          1 [failed: 0]   0d00h10m10s     2.6.12-1+deb12u4
# workers
9596            worker          0               0d00h00m00s     2.6.12-1+deb12u4
# old workers
9223            worker          1               0d00h10m10s     2.6.12-1+deb12u4
# programs
";
        assert_eq!((newest_worker(answer), newest_worker("")), (Some(9596), None));
        assert_eq!(
            [version("2.6.12-1+deb12u4"), version("3.0-dev1"), version("new")],
            [Some((2, 6)), Some((3, 0)), None]
        );
    }
}
