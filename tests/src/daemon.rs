//! What is the same of every `drover` that a test starts: how it says that it serves, its log, and what takes back what
//! it made.

use std::{
    fs, io,
    path::Path,
    process::{Command, ExitStatus, Stdio},
};

use anyhow::{Result, bail};

use crate::eventually;

/// Lines of a log that are shown.
const LINES_SHOWN: usize = 60;

/// Removes the `server.json` of an earlier start: a fresh one is how the server says that it serves.
pub(crate) fn forget_serving(data_dir: &Path) -> io::Result<()> {
    fs::remove_file(data_dir.join("server.json")).or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    })
}

/// Waits until a server serves. `ended` gives its exit status once it has one.
///
/// # Errors
/// When it ends instead, with the end of its log.
pub(crate) async fn serving(
    data_dir: &Path,
    log: &Path,
    mut ended: impl FnMut() -> Result<Option<ExitStatus>>,
) -> Result<()> {
    let ready = data_dir.join("server.json");
    eventually("drover serving", async || {
        if let Some(status) = ended()? {
            bail!("drover ended with {status}:\n{}", tail(log));
        }
        Ok(if ready.is_file() { Ok(()) } else { Err(tail(log)) })
    })
    .await
}

/// Runs `drover uninstall` by `command`, which is `drover` on its host, with these flags; says when that fails.
pub(crate) fn uninstall(command: Result<Command>, data_dir: &Path, flags: &[&str]) {
    let output = command.map(|mut command| {
        command.arg("uninstall").arg("--data-dir").arg(data_dir).args(flags).stdin(Stdio::null()).output()
    });
    match output {
        Ok(Ok(output)) if output.status.success() => {}
        other => eprintln!("drover uninstall failed: {other:?}"),
    }
}

/// The end of a log.
pub(crate) fn tail(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n")
}
