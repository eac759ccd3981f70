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

/// Accepts forwarded traffic from and to the pods, and what a Service leads through this host to a pod of another node
/// and back, unless that is accepted already.
pub(super) async fn ensure(pods: Cidr, cluster: Cidr) -> Result<(), ForwardingError> {
    for rule in rules(pods, cluster) {
        if !iptables("-C", &rule).await?.status.success() {
            let output = iptables("-I", &rule).await?;
            check(&rule, &output)?;
        }
    }
    Ok(())
}

/// Takes the rules away.
pub(super) async fn remove(pods: Cidr, cluster: Cidr) -> Result<(), ForwardingError> {
    for rule in rules(pods, cluster) {
        while iptables("-C", &rule).await?.status.success() {
            let output = iptables("-D", &rule).await?;
            check(&rule, &output)?;
        }
    }
    Ok(())
}

/// The rules of one agent: those of another on this host differ by their comment.
fn rules(pods: Cidr, cluster: Cidr) -> [Vec<String>; 4] {
    let accept = |side: &str, range: Cidr, condition: &[&str], comment: &str| {
        let range = range.to_string();
        let words = ["FORWARD", side, &range].into_iter().chain(condition.iter().copied());
        words.chain(["-m", "comment", "--comment", comment, "-j", "ACCEPT"]).map(str::to_owned).collect()
    };
    // A translated connection has this state both ways.
    let translated = ["-m", "conntrack", "--ctstate", "DNAT"];
    let by_service = format!("drover: services through {pods}");
    [
        accept("-s", pods, &[], COMMENT),
        accept("-d", pods, &[], COMMENT),
        accept("-s", cluster, &translated, &by_service),
        accept("-d", cluster, &translated, &by_service),
    ]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_let_through_and_so_is_what_a_service_leads_to_another_node() {
        let rules = rules("10.128.4.0/22".parse().unwrap(), "10.128.0.0/9".parse().unwrap());
        let text: Vec<String> = rules.iter().map(|rule| rule.join(" ")).collect();
        let (own, service) = ("drover: pod traffic", "drover: services through 10.128.4.0/22");
        assert_eq!(
            text,
            [
                format!("FORWARD -s 10.128.4.0/22 -m comment --comment {own} -j ACCEPT"),
                format!("FORWARD -d 10.128.4.0/22 -m comment --comment {own} -j ACCEPT"),
                format!("FORWARD -s 10.128.0.0/9 -m conntrack --ctstate DNAT -m comment --comment {service} -j ACCEPT"),
                format!("FORWARD -d 10.128.0.0/9 -m conntrack --ctstate DNAT -m comment --comment {service} -j ACCEPT"),
            ]
        );
    }
}
