//! Values that cross the engine seam.

use std::{collections::BTreeMap, fmt, net::Ipv4Addr, path::PathBuf, pin::Pin};

use bytes::Bytes;
use futures::stream::BoxStream;
use jiff::Timestamp;
use serde::Serialize;
use tokio::io::AsyncWrite;

use super::EngineError;
use crate::{ids::ContainerId, seams::MountSource};

/// Everything the agent may ask of a container: the allow-list. What has no field here cannot be asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct ContainerConfig {
    /// The image reference or id.
    pub image: String,
    /// Replaces the image's entrypoint; `None` keeps it.
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's command; `None` keeps it.
    pub command: Option<Vec<String>>,
    /// Replaces the image's working directory; `None` keeps it.
    pub working_dir: Option<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Our labels.
    pub labels: BTreeMap<String, String>,
    /// Volumes and the files we bind: hosts, resolv.conf, hostname.
    pub mounts: Vec<ContainerMount>,
    /// `user[:group]`; `None` keeps the image's.
    pub user: Option<String>,
    /// The host name inside; `None` where the network mode forbids one.
    pub hostname: Option<String>,
    /// `HostConfig.NetworkMode`.
    pub network_mode: String,
    /// A fixed address on that network.
    pub ipv4: Option<Ipv4Addr>,
    /// `HostConfig.Runtime`.
    pub runtime: Option<String>,
    /// Share the host's processes.
    pub host_pid: bool,
    /// Share the host's IPC.
    pub host_ipc: bool,
    /// Limits.
    pub resources: Resources,
    /// Privileges.
    pub security: Security,
    /// Keep standard input open.
    pub stdin: bool,
    /// Close standard input after the first attach ends.
    pub stdin_once: bool,
    /// Allocate a terminal.
    pub tty: bool,
    /// Overrides the image's stop signal.
    pub stop_signal: Option<String>,
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ContainerMount {
    /// What is mounted.
    pub source: MountSource,
    /// Where, an absolute path.
    pub target: String,
    /// Without write access.
    pub read_only: bool,
    /// Mount propagation: `rprivate`, `rslave` or `rshared`; `None` is the engine's default.
    pub propagation: Option<String>,
}

/// Limits on a container; `None` means none.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Resources {
    /// Memory limit; swap is never granted beyond it.
    pub memory_bytes: Option<i64>,
    /// CPU limit in billionths of a core.
    pub nano_cpus: Option<i64>,
    /// Relative weight.
    pub cpu_shares: Option<i64>,
    /// Number of processes and threads.
    pub pids: Option<i64>,
    /// How readily the kernel kills it, -1000 to 1000.
    pub oom_score_adj: i64,
    /// Size of /dev/shm.
    pub shm_bytes: Option<i64>,
}

/// Privileges of a container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Security {
    /// Everything allowed.
    pub privileged: bool,
    /// Capabilities added, without `CAP_`.
    pub cap_add: Vec<String>,
    /// Capabilities dropped, without `CAP_`.
    pub cap_drop: Vec<String>,
    /// Root file system without write access.
    pub read_only_root: bool,
    /// No set-uid gains.
    pub no_new_privileges: bool,
    /// No system call filter.
    pub seccomp_unconfined: bool,
    /// Supplementary groups.
    pub groups: Vec<String>,
    /// Name-spaced kernel settings.
    pub sysctls: BTreeMap<String, String>,
}

/// What the engine does with a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerPhase {
    /// Created, never started.
    Created,
    /// Has a process (paused counts).
    Running,
    /// Its process ended.
    Exited,
    /// Being removed, or its removal failed half way.
    Removing,
}

/// One line of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerSummary {
    /// The id.
    pub id: ContainerId,
    /// The name, without the leading slash.
    pub name: String,
    /// Labels, those baked into the image included.
    pub labels: BTreeMap<String, String>,
    /// What it does.
    pub phase: ContainerPhase,
    /// The image's id.
    pub image_id: String,
}

/// What an inspection says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerDetails {
    /// Id, name, labels and phase.
    pub summary: ContainerSummary,
    /// The main process, while it runs.
    pub pid: Option<u32>,
    /// When it last started.
    pub started_at: Option<Timestamp>,
    /// When it last ended.
    pub finished_at: Option<Timestamp>,
    /// The exit code of the last run.
    pub exit_code: i64,
    /// Whether the kernel killed it for memory.
    pub oom_killed: bool,
    /// The engine's words on a failed start.
    pub error: String,
}

/// A change the engine reports. A hint: it may be late, doubled or lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineEvent {
    /// What happened.
    pub kind: EventKind,
    /// When, by the engine's clock.
    pub at: Option<Timestamp>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    /// A container's process started.
    Started {
        /// The container.
        id: ContainerId,
        /// Its labels.
        labels: BTreeMap<String, String>,
    },
    /// The kernel killed a process of the container for memory; [`Self::Died`] may follow.
    OutOfMemory {
        /// The container.
        id: ContainerId,
        /// Its labels.
        labels: BTreeMap<String, String>,
    },
    /// A container's process ended.
    Died {
        /// The container.
        id: ContainerId,
        /// Its labels.
        labels: BTreeMap<String, String>,
        /// The exit code, when the event holds one.
        exit_code: Option<i64>,
    },
    /// A container is gone.
    Removed {
        /// The container.
        id: ContainerId,
        /// Its labels.
        labels: BTreeMap<String, String>,
    },
    /// Some image came, went or changed its names.
    ImagesChanged,
}

/// The engine and its host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EngineInfo {
    /// The engine's own id of the host.
    pub id: String,
    /// The engine's version.
    pub version: String,
    /// `x86_64`, `aarch64`, …
    pub architecture: String,
    /// `linux`.
    pub os: String,
    /// `Debian GNU/Linux 12`.
    pub os_image: String,
    /// The kernel's release.
    pub kernel: String,
    /// Number of CPUs.
    pub cpus: u64,
    /// Memory of the host.
    pub memory_bytes: u64,
    /// Where the engine keeps images and containers.
    pub root_dir: PathBuf,
    /// Names of registered runtimes.
    pub runtimes: Vec<String>,
    /// `1` or `2`.
    pub cgroup_version: String,
}

impl EngineInfo {
    /// Whether an engine said this; until the first answer all of it is empty.
    pub fn is_known(&self) -> bool {
        !self.version.is_empty()
    }
}

/// An image in a listing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImageSummary {
    /// `sha256:…`.
    pub id: String,
    /// `name:tag`.
    pub tags: Vec<String>,
    /// `name@sha256:…`.
    pub digests: Vec<String>,
    /// Size on disk.
    pub size_bytes: i64,
}

/// What an inspection of an image says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImageDetails {
    /// Id, tags, digests.
    pub summary: ImageSummary,
    /// `user[:group]` that it runs as; empty is root.
    pub user: String,
    /// The directory that it runs in; empty is the root.
    pub working_dir: String,
    /// Its stop signal.
    pub stop_signal: Option<String>,
}

/// Credentials for one pull. Never logged.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct RegistryAuth {
    /// User name.
    pub username: String,
    /// Password.
    pub password: String,
    /// The registry it is for.
    pub server: String,
    /// A token in place of user name and password.
    pub identity_token: Option<String>,
}

impl fmt::Debug for RegistryAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RegistryAuth({})", self.server)
    }
}

/// How far a pull is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PullProgress {
    /// The layer, or empty for the image.
    pub layer: String,
    /// `Downloading`, `Extracting`, …
    pub status: String,
    /// Done so far.
    pub current_bytes: Option<i64>,
    /// Expected.
    pub total_bytes: Option<i64>,
}

/// Which part of a container's output to read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogOptions {
    /// Go on with what comes later.
    pub follow: bool,
    /// Not before.
    pub since: Option<Timestamp>,
    /// Only that many lines from the end.
    pub tail_lines: Option<u64>,
    /// Each line begins with its time.
    pub timestamps: bool,
}

/// A piece of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputChunk {
    /// Standard output, or a terminal's.
    Stdout(Bytes),
    /// Standard error.
    Stderr(Bytes),
}

impl OutputChunk {
    /// Returns the bytes, whichever stream they are of.
    pub fn into_bytes(self) -> Bytes {
        match self {
            Self::Stdout(bytes) | Self::Stderr(bytes) => bytes,
        }
    }
}

/// Which streams of a container to connect.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AttachOptions {
    /// Standard input.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
    /// Whether the container has a terminal.
    pub tty: bool,
}

/// A connection to a process.
pub struct Attached {
    /// What the process writes; ends when it does.
    pub output: BoxStream<'static, Result<OutputChunk, EngineError>>,
    /// What the process reads; closing it is its end of file.
    pub input: Pin<Box<dyn AsyncWrite + Send>>,
}

impl fmt::Debug for Attached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Attached")
    }
}

/// A command to run in a container.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExecConfig {
    /// Program and arguments; no shell.
    pub command: Vec<String>,
    /// Connect standard input.
    pub stdin: bool,
    /// Connect standard output.
    pub stdout: bool,
    /// Connect standard error.
    pub stderr: bool,
    /// With a terminal.
    pub tty: bool,
}

/// How a command stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExecState {
    /// It runs.
    pub running: bool,
    /// How it ended.
    pub exit_code: Option<i64>,
}

/// One sample of what a container uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ContainerStats {
    /// CPU time used since the start, in nanoseconds.
    pub cpu_nanos_total: u64,
    /// Memory in use without the page cache that can be dropped.
    pub memory_bytes: u64,
}

/// A volume to make.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VolumeRequest {
    /// Its name.
    pub name: String,
    /// The engine's volume driver.
    pub driver: String,
    /// The driver's options.
    pub options: BTreeMap<String, String>,
    /// Our labels.
    pub labels: BTreeMap<String, String>,
}

/// A volume of the engine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VolumeDetails {
    /// Its name.
    pub name: String,
    /// Its driver.
    pub driver: String,
    /// Where it is on the host; empty for drivers without a path.
    pub mountpoint: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}
