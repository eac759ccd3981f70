//! Hosts on one machine: each a network name space with an address of its own on a link that all share with this host.

use std::{path::PathBuf, process::Command as StdCommand};

use anyhow::{Result, ensure};
use tokio::process::Command;

use super::engine::Bridge;
use crate::run;

/// The link that the hosts share, and this host with them.
#[derive(Debug)]
pub struct Lan {
    bridge: Bridge,
}

/// One host. Everything it has in the kernel goes with this value.
#[derive(Debug)]
pub struct Host {
    name: String,
    address: String,
}

impl Lan {
    /// Makes the link. The machine's engine drops what it forwards, bridged packets too: ours are let through.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn make() -> Result<Self> {
        let lan = Self { bridge: Bridge::make().await? };
        lan.rule("-I").await?;
        Ok(lan)
    }

    /// This host's address on the link.
    pub fn address(&self) -> &str {
        &self.bridge.address
    }

    /// Adds host `number` (0 to 99). It drops what it forwards, as the Docker Engine has it on a host where it may.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn host(&self, number: usize) -> Result<Host> {
        ensure!(number < 100, "a test link has room for 100 hosts");
        let lan = &self.bridge.name;
        let name = format!("{lan}h{number}");
        let (network, _) = self.address().rsplit_once('.').unwrap_or_default();
        let host = Host { address: format!("{network}.{}", number + 10), name };
        let Host { name, address } = &host;
        let script = format!(
            "ip netns add {name} && ip -n {name} link set lo up && \
             ip -n {name} link add eth0 type veth peer name {name} netns 1 && ip link set {name} master {lan} up && \
             ip -n {name} addr add {address}/24 dev eth0 && ip -n {name} link set eth0 up && \
             ip -n {name} route add default via {} && \
             nsenter --net=/run/netns/{name} iptables -w 10 -P FORWARD DROP",
            self.address()
        );
        run("sh".as_ref(), &["-c", &script], "", &[]).await?.success()?;
        Ok(host)
    }

    async fn rule(&self, action: &str) -> Result<()> {
        let lan = &self.bridge.name;
        run("iptables".as_ref(), &["-w", "10", action, "FORWARD", "-i", lan, "-j", "ACCEPT"], "", &[])
            .await?
            .success()?;
        Ok(())
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        let rule = ["-w", "10", "-D", "FORWARD", "-i", &self.bridge.name, "-j", "ACCEPT"];
        drop(StdCommand::new("iptables").args(rule).status());
    }
}

impl Host {
    /// Its address on the shared link.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// A command that runs a program on the host. Not `ip netns exec`, which hides the cgroups from an engine.
    pub fn command(&self, program: &std::ffi::OsStr) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.namespace().display())).arg("--").arg(program);
        command
    }

    /// Takes the host off the link, or puts it back.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn connect(&self, connected: bool) -> Result<()> {
        let state = if connected { "up" } else { "down" };
        run("ip".as_ref(), &["link", "set", &self.name, state], "", &[]).await?.success()?;
        Ok(())
    }

    /// Loses this share of the packets that the host sends, and of those it is sent: 0 none, 100 all.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn lose(&self, sent_percent: u8, received_percent: u8) -> Result<()> {
        // Each end of the link drops what comes in from the other.
        let rules = |link: &str, percent: u8| {
            let share = if percent < 100 { format!("numgen random mod 100 < {percent}") } else { String::new() };
            let drop = format!("add rule netdev drvloss_{link} c {share} drop;");
            format!(
                "add table netdev drvloss_{link}; delete table netdev drvloss_{link}; add table netdev drvloss_{link}; \
                 add chain netdev drvloss_{link} c {{ type filter hook ingress device {link} priority 0; }}; {}",
                if percent > 0 { drop.as_str() } else { "" }
            )
        };
        run("nft".as_ref(), &["-f", "-"], &rules(&self.name, sent_percent), &[]).await?.success()?;
        self.run("nft", &["-f", "-"], &rules("eth0", received_percent)).await.map(drop)
    }

    /// Runs a program on the host and returns what it printed.
    ///
    /// # Errors
    /// When it does not succeed.
    pub async fn run(&self, program: &str, arguments: &[&str], input: &str) -> Result<String> {
        let namespace = format!("--net={}", self.namespace().display());
        run("nsenter".as_ref(), &[&[&*namespace, "--", program], arguments].concat(), input, &[]).await?.success()
    }

    /// What keeps the name space.
    pub fn namespace(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // The link ends with its other end.
        for arguments in [["link", "del", &self.name], ["netns", "del", &self.name]] {
            let removed = StdCommand::new("ip").args(arguments).status();
            if !removed.is_ok_and(|status| status.success()) {
                eprintln!("ip {} of a test host failed", arguments.join(" "));
            }
        }
    }
}
