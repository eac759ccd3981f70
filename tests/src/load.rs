//! The HTTP load of `src/bin/load.rs`, run as a process of its own.

use std::process::Stdio;

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::{
    io::AsyncReadExt,
    process::{Child, Command},
};

use crate::{Host, binary};

/// A running load.
#[derive(Debug)]
pub struct Load {
    child: Child,
}

/// What a finished load counted.
#[derive(Debug, Clone)]
pub struct LoadReport {
    /// Requests sent.
    pub sent: u64,
    /// Requests without a whole `200` answer.
    pub failed: u64,
    /// The line that the load printed.
    pub json: Value,
}

impl Load {
    /// Starts sending `rate` requests a second to `url`, at least `min_requests` of them.
    ///
    /// # Errors
    /// When the program has not been built.
    pub fn start(url: &str, rate: u64, min_requests: u64) -> Result<Self> {
        Self::start_with(url, rate, min_requests, &[])
    }

    /// The same with these flags of the program.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with(url: &str, rate: u64, min_requests: u64, flags: &[&str]) -> Result<Self> {
        Self::spawn(Command::new(binary("load")?), url, rate, min_requests, flags)
    }

    /// The same on a host of its own.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_on(host: &Host, url: &str, rate: u64, min_requests: u64, flags: &[&str]) -> Result<Self> {
        Self::spawn(host.command(binary("load")?.as_os_str()), url, rate, min_requests, flags)
    }

    fn spawn(mut command: Command, url: &str, rate: u64, min_requests: u64, flags: &[&str]) -> Result<Self> {
        let child = command
            .args(["--url", url, "--rate", &rate.to_string(), "--min-requests", &min_requests.to_string()])
            .args(flags)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        Ok(Self { child })
    }

    /// Tells it to stop once it has sent its minimum, and waits for its report.
    ///
    /// # Errors
    /// When it ended without one.
    pub async fn finish(mut self) -> Result<LoadReport> {
        drop(self.child.stdin.take());
        let mut line = String::new();
        self.child.stdout.take().context("stdout is piped")?.read_to_string(&mut line).await?;
        self.child.wait().await?;
        let json: Value = serde_json::from_str(&line).with_context(|| format!("not a report: {line:?}"))?;
        let count = |key: &str| json[key].as_u64().with_context(|| format!("no {key} in {json}"));
        Ok(LoadReport { sent: count("sent")?, failed: count("failed")?, json })
    }
}
