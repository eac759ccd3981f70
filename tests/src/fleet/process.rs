//! A process that faults are done to.

use anyhow::{Context, Result};
use tokio::process::Child;

use crate::run;

/// A child process; ends with this value, also when it is paused.
#[derive(Debug)]
pub struct Victim {
    child: Child,
}

impl Victim {
    pub(super) fn new(child: Child) -> Self {
        Self { child }
    }

    /// Ends it with SIGKILL, without a word.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub async fn kill(&mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }

    /// Ends it with SIGTERM and returns its exit code.
    ///
    /// # Errors
    /// When it has ended already.
    pub async fn terminate(&mut self) -> Result<Option<i32>> {
        self.signal("-TERM").await?;
        Ok(self.child.wait().await?.code())
    }

    /// Stops it where it is.
    ///
    /// # Errors
    /// When it has ended already.
    pub async fn pause(&self) -> Result<()> {
        self.signal("-STOP").await
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// When it has ended already.
    pub async fn resume(&self) -> Result<()> {
        self.signal("-CONT").await
    }

    /// Returns the exit status of a process that has ended.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn ended(&mut self) -> Result<Option<std::process::ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    async fn signal(&self, signal: &str) -> Result<()> {
        let pid = self.child.id().context("the process has ended already")?.to_string();
        run("kill".as_ref(), &[signal, &pid], "", &[]).await?.success()?;
        Ok(())
    }

    /// Ends it and waits, for use where there may be no runtime any more.
    pub(super) fn end(&mut self) {
        // Ended already is as good.
        drop(self.child.start_kill());
        while matches!(self.child.try_wait(), Ok(None)) {
            std::thread::yield_now();
        }
    }

    /// Asks it to end and waits, for use where there may be no runtime any more: engines need their time.
    pub(super) fn end_gently(&mut self) {
        if let Some(pid) = self.child.id() {
            drop(std::process::Command::new("kill").args(["-TERM", &pid.to_string()]).status());
        }
        while matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
}
