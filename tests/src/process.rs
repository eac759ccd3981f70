//! Running our binaries and the clients' to their end.

use std::{
    fs::File,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, Result, ensure};
use tokio::{
    io::AsyncWriteExt,
    process::{Child, Command},
};

/// What a finished program printed.
#[derive(Debug, Clone)]
pub struct Finished {
    /// The command, for messages.
    pub command: String,
    /// Exit code, -1 when a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Finished {
    /// Returns the standard output of a program that must have succeeded.
    ///
    /// # Errors
    /// When it did not, with all that it printed.
    pub fn success(self) -> Result<String> {
        ensure!(self.code == 0, "`{}` ended in {}:\n{}\n{}", self.command, self.code, self.stdout, self.stderr);
        Ok(self.stdout)
    }

    /// Returns the standard error of a program that must have failed.
    ///
    /// # Errors
    /// When it succeeded.
    pub fn failure(self) -> Result<String> {
        ensure!(self.code != 0, "`{}` should have failed but printed:\n{}", self.command, self.stdout);
        Ok(self.stderr)
    }
}

/// Returns the path of one of our binaries: beside the folder of the running test.
///
/// # Errors
/// When it has not been built.
pub fn binary(name: &str) -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let folder =
        test.ancestors().find(|folder| folder.join("drover").is_file()).context("drover has not been built")?;
    let path = folder.join(name);
    ensure!(path.is_file(), "{} has not been built: cargo build --workspace --bins", path.display());
    Ok(path)
}

/// Returns the `drover` that a benchmark measures: from the folder `DROVER_BIN_DIR`, or as [`binary`] finds it.
///
/// # Errors
/// When it has not been built.
pub fn measured_drover() -> Result<PathBuf> {
    match std::env::var_os("DROVER_BIN_DIR") {
        Some(folder) => Ok(Path::new(&folder).join("drover")),
        None => binary("drover"),
    }
}

/// Starts a process that is measured, with warnings alone (`DROVER_BENCH_LOG` says otherwise) at the end of `log`. It ends
/// with the value returned.
///
/// # Errors
/// When it cannot be started.
pub fn spawn_measured(command: &mut Command, log: &Path) -> Result<Child> {
    let log = File::options().create(true).append(true).open(log)?;
    command.env("RUST_LOG", std::env::var("DROVER_BENCH_LOG").unwrap_or_else(|_| "warn".to_owned()));
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
    command.spawn().context("cannot start drover")
}

/// Returns a port of this host that nobody listens on, below those of Services and of outgoing connections: one of the
/// latter could take it before its server is there, or while that is down.
///
/// # Errors
/// When none of many is free.
pub fn free_port() -> Result<u16> {
    let mut ports = (0..100).map(|_| rand::random_range(10_000..30_000));
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).context("of a hundred ports none is free")
}

/// Runs a program to its end with `input` on its standard input.
///
/// # Errors
/// When it cannot be started; a failing program is not an error here.
pub async fn run(program: &Path, args: &[&str], input: &str, env: &[(&str, &Path)]) -> Result<Finished> {
    let mut command = Command::new(program);
    command.args(args).envs(env.iter().copied()).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read its input closes it early; its own exit code says whether that matters.
        let _ = stdin.write_all(input.as_bytes()).await;
    }
    let output = child.wait_with_output().await?;
    Ok(Finished {
        command: format!("{} {}", program.display(), args.join(" ")),
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
