//! Keeps the engine's firewall from dropping pod traffic: Docker sets the policy of `FORWARD` to drop.

use std::{io, process::Output};

use tokio::process::Command;

use super::Cidr;

/// Marks our rules for the reader of `iptables -S`.
const COMMENT: &str = "drover: pod traffic";

/// A failed call of `iptables`.
#[derive(Debug, thiserror::Error)]
pub enum ForwardingError {
    /// The program could not be run.
    #[error("cannot run iptables")]
    Run(#[source] io::Error),
    /// It refused the rule.
    #[error("iptables refused {rule:?}: {message}")]
    Refused {
        /// The arguments.
        rule: String,
        /// What it printed.
        message: String,
    },
}

/// Accepts forwarded traffic from and to the pods, unless that is accepted already.
pub(super) async fn ensure(pods: Cidr) -> Result<(), ForwardingError> {
    for rule in rules(pods) {
        if !iptables("-C", &rule).await?.status.success() {
            let output = iptables("-I", &rule).await?;
            check(&rule, &output)?;
        }
    }
    Ok(())
}

/// Takes the rules away.
pub(super) async fn remove(pods: Cidr) -> Result<(), ForwardingError> {
    for rule in rules(pods) {
        while iptables("-C", &rule).await?.status.success() {
            let output = iptables("-D", &rule).await?;
            check(&rule, &output)?;
        }
    }
    Ok(())
}

fn rules(pods: Cidr) -> [Vec<String>; 2] {
    ["-s", "-d"].map(|side| {
        let words = ["FORWARD", side, &pods.to_string(), "-m", "comment", "--comment", COMMENT, "-j", "ACCEPT"];
        words.map(str::to_owned).to_vec()
    })
}

async fn iptables(action: &str, rule: &[String]) -> Result<Output, ForwardingError> {
    // Waits for the lock that the engine's own calls hold.
    let mut command = Command::new("iptables");
    command.args(["-w", "10", action]).args(rule).kill_on_drop(true);
    command.output().await.map_err(ForwardingError::Run)
}

fn check(rule: &[String], output: &Output) -> Result<(), ForwardingError> {
    if output.status.success() {
        return Ok(());
    }
    let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(ForwardingError::Refused { rule: rule.join(" "), message })
}
