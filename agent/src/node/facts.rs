//! Reads what the host is and how it is doing.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, UdpSocket},
    path::{Path, PathBuf},
};

/// What of a host does not change while the agent runs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostFacts {
    /// `/etc/machine-id`.
    pub machine_id: String,
    /// The kernel's id of this boot.
    pub boot_id: String,
    /// Size of the file system that holds containers.
    pub disk_bytes: u64,
    /// Pods that the node takes; `None` is the usual number.
    pub pods_max: Option<u32>,
}

/// What of a host is short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HostPressure {
    /// Memory.
    pub memory: bool,
    /// Disk.
    pub disk: bool,
    /// Process ids.
    pub pids: bool,
}

/// Where facts about the host come from.
pub trait HostView: Send + Sync + std::fmt::Debug {
    /// What does not change while the agent runs.
    fn facts(&self, engine_root: &Path) -> HostFacts;

    /// What is short now.
    fn pressure(&self, engine_root: &Path) -> HostPressure;
}

/// This host.
#[derive(Debug, Clone, Copy, Default)]
pub struct ThisHost;

impl HostView for ThisHost {
    fn facts(&self, engine_root: &Path) -> HostFacts {
        read_facts(engine_root)
    }

    fn pressure(&self, engine_root: &Path) -> HostPressure {
        read_pressure(engine_root)
    }
}

/// Bit of the capability in the kernel's sets.
const CAP_SYS_RESOURCE: u32 = 24;
/// Less free memory than this is pressure (kubelet's default eviction threshold).
const MEMORY_FREE_MIN_BYTES: u64 = 100 * 1024 * 1024;
/// Less free disk than both is pressure: a share alone is too much on large disks.
const DISK_FREE_MIN_BYTES: u64 = 2 * 1024 * 1024 * 1024;
const DISK_FREE_MIN_SHARE: u64 = 20;

/// Reads the constant facts. What cannot be read is left empty.
fn read_facts(engine_root: &Path) -> HostFacts {
    HostFacts {
        machine_id: read_line("/etc/machine-id"),
        boot_id: read_line("/proc/sys/kernel/random/boot_id"),
        disk_bytes: disk(engine_root).map(|(total, _)| total).unwrap_or_default(),
        pods_max: None,
    }
}

/// Reads what is short now. What cannot be read is not short.
fn read_pressure(engine_root: &Path) -> HostPressure {
    let memory = memory_available(&read("/proc/meminfo"));
    let disk = disk(engine_root).ok();
    let short = |(total, free): (u64, u64)| free < DISK_FREE_MIN_BYTES && free < total / DISK_FREE_MIN_SHARE;
    HostPressure {
        memory: memory.is_some_and(|bytes| bytes < MEMORY_FREE_MIN_BYTES),
        disk: disk.is_some_and(short),
        pids: pids_short(&read("/proc/loadavg"), &read("/proc/sys/kernel/pid_max")),
    }
}

/// The address under which other nodes reach this one: that of the default route, else the first that is not loopback.
pub fn detect_address() -> Option<IpAddr> {
    routed_address().ok().flatten().or_else(|| interface_address().map(IpAddr::V4))
}

/// Connecting a datagram socket sends nothing; it asks the kernel which address it would use.
fn routed_address() -> io::Result<Option<IpAddr>> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    // An address of the documentation range: it lies behind the default route everywhere.
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
    let address = socket.local_addr()?.ip();
    Ok((!address.is_unspecified() && !address.is_loopback()).then_some(address))
}

fn interface_address() -> Option<Ipv4Addr> {
    let addresses = nix::ifaddrs::getifaddrs().ok()?;
    let ipv4 = addresses.filter_map(|interface| Some(interface.address?.as_sockaddr_in()?.ip()));
    let mut usable = ipv4.filter(|address| !address.is_loopback() && !address.is_link_local());
    usable.next()
}

/// The lowest `oom_score_adj` that containers may get: without CAP_SYS_RESOURCE nothing goes below what we have.
pub fn oom_score_floor() -> i64 {
    let own = read_line("/proc/self/oom_score_adj").parse().unwrap_or(0);
    if has_capability(&read("/proc/self/status"), CAP_SYS_RESOURCE) { -1000 } else { own }
}

fn has_capability(status: &str, bit: u32) -> bool {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).is_some_and(|set| set & (1 << bit) != 0)
}

fn disk(path: &Path) -> io::Result<(u64, u64)> {
    let existing: PathBuf =
        path.ancestors().find(|path| path.exists()).map_or_else(|| PathBuf::from("/"), Path::to_owned);
    let stat = rustix::fs::statvfs(&existing)?;
    Ok((stat.f_blocks.saturating_mul(stat.f_frsize), stat.f_bavail.saturating_mul(stat.f_frsize)))
}

fn memory_available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

/// `0.1 0.2 0.3 2/543 12345`: 543 tasks exist.
fn pids_short(loadavg: &str, pid_max: &str) -> bool {
    let tasks = loadavg.split_whitespace().nth(3).and_then(|field| field.split('/').nth(1));
    let tasks: Option<u64> = tasks.and_then(|text| text.parse().ok());
    let max: Option<u64> = pid_max.trim().parse().ok();
    tasks.zip(max).is_some_and(|(tasks, max)| tasks > max / 10 * 9)
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn read_line(path: &str) -> String {
    read(path).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables_are_read() {
        assert_eq!(memory_available("MemTotal: 10 kB\nMemAvailable:   2048 kB\n"), Some(2048 * 1024));
        assert_eq!(memory_available(""), None);
        assert!(pids_short("0 0 0 1/950 7", "1000\n"));
        assert!(!pids_short("0 0 0 1/543 7", "32768\n"));
        assert!(!pids_short("", ""));
        assert!(has_capability("CapEff:\t000001ffffffffff\n", CAP_SYS_RESOURCE));
        assert!(!has_capability("CapEff:\t000001fffeffffff\n", CAP_SYS_RESOURCE));
    }
}
