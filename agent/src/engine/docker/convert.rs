//! Values in Docker's terms and back. Whatever the engine leaves out or adds must not make a call fail.

use std::collections::{BTreeMap, HashMap};

use bollard::{
    container::LogOutput,
    models::{
        ContainerCreateBody, ContainerInspectResponse, ContainerState, ContainerStateStatusEnum,
        ContainerStatsResponse, ContainerSummary as DockerSummary, ContainerSummaryStateEnum, EndpointIpamConfig,
        EndpointSettings, EventMessage, EventMessageTypeEnum, HostConfig, HostConfigLogConfig, Mount, MountBindOptions,
        MountBindOptionsPropagationEnum, MountType, NetworkingConfig, SystemInfo, Volume,
    },
};
use jiff::Timestamp;

use crate::{
    engine::{
        ContainerConfig, ContainerDetails, ContainerMount, ContainerPhase, ContainerStats, ContainerSummary,
        EngineError, EngineEvent, EngineInfo, ErrorKind, EventKind, OutputChunk, VolumeDetails,
    },
    ids::ContainerId,
    seams::MountSource,
};

/// Logs rotate: a container that floods its output must not fill the disk (faults A47).
const LOG_OPTIONS: [(&str, &str); 2] = [("max-size", "10m"), ("max-file", "3")];

pub(super) fn container_id(text: &str) -> Result<ContainerId, EngineError> {
    ContainerId::new(text)
        .ok_or_else(|| EngineError::new(ErrorKind::Failed, "create", "the engine's answer holds no container id"))
}

pub(super) fn create_body(config: &ContainerConfig) -> ContainerCreateBody {
    let networking = config.ipv4.map(|ipv4| {
        let ipam = EndpointIpamConfig { ipv4_address: Some(ipv4.to_string()), ..Default::default() };
        let endpoint = EndpointSettings { ipam_config: Some(ipam), ..Default::default() };
        NetworkingConfig { endpoints_config: Some([(config.network_mode.clone(), endpoint)].into()) }
    });
    ContainerCreateBody {
        image: Some(config.image.clone()),
        entrypoint: config.entrypoint.clone(),
        cmd: config.command.clone(),
        working_dir: config.working_dir.clone(),
        env: Some(config.env.clone()),
        labels: Some(config.labels.clone().into_iter().collect()),
        user: config.user.clone(),
        hostname: config.hostname.clone(),
        tty: Some(config.tty),
        open_stdin: Some(config.stdin),
        stdin_once: Some(config.stdin_once),
        stop_signal: config.stop_signal.clone(),
        host_config: Some(host_config(config)),
        networking_config: networking,
        ..Default::default()
    }
}

fn host_config(config: &ContainerConfig) -> HostConfig {
    let (resources, security) = (&config.resources, &config.security);
    let mut security_options = Vec::new();
    if security.no_new_privileges {
        security_options.push("no-new-privileges".to_owned());
    }
    if security.seccomp_unconfined {
        security_options.push("seccomp=unconfined".to_owned());
    }
    let log_options = LOG_OPTIONS.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let host = |wanted: bool| wanted.then(|| "host".to_owned());
    HostConfig {
        network_mode: Some(config.network_mode.clone()),
        runtime: config.runtime.clone(),
        pid_mode: host(config.host_pid),
        ipc_mode: host(config.host_ipc),
        memory: resources.memory_bytes,
        memory_swap: resources.memory_bytes,
        nano_cpus: resources.nano_cpus,
        cpu_shares: resources.cpu_shares,
        pids_limit: resources.pids,
        oom_score_adj: Some(resources.oom_score_adj),
        shm_size: resources.shm_bytes,
        privileged: Some(security.privileged),
        cap_add: some_unless_empty(&security.cap_add),
        cap_drop: some_unless_empty(&security.cap_drop),
        readonly_rootfs: Some(security.read_only_root),
        group_add: some_unless_empty(&security.groups),
        sysctls: Some(security.sysctls.clone().into_iter().collect()),
        security_opt: some_unless_empty(&security_options),
        mounts: Some(config.mounts.iter().map(mount).collect()),
        log_config: Some(HostConfigLogConfig { typ: Some("json-file".to_owned()), config: Some(log_options) }),
        ..Default::default()
    }
}

fn some_unless_empty(list: &[String]) -> Option<Vec<String>> {
    (!list.is_empty()).then(|| list.to_vec())
}

fn mount(mount: &ContainerMount) -> Mount {
    let (typ, source) = match &mount.source {
        MountSource::HostPath(path) => (MountType::BIND, path.to_string_lossy().into_owned()),
        MountSource::DockerVolume(name) => (MountType::VOLUME, name.clone()),
    };
    let propagation = mount.propagation.as_deref().and_then(|text| match text {
        "rslave" => Some(MountBindOptionsPropagationEnum::RSLAVE),
        "rshared" => Some(MountBindOptionsPropagationEnum::RSHARED),
        _ => None,
    });
    Mount {
        target: Some(mount.target.clone()),
        source: Some(source),
        typ: Some(typ),
        read_only: Some(mount.read_only),
        bind_options: propagation
            .map(|propagation| MountBindOptions { propagation: Some(propagation), ..Default::default() }),
        ..Default::default()
    }
}

pub(super) fn container_summary(container: DockerSummary) -> Option<ContainerSummary> {
    let name = container.names.unwrap_or_default().into_iter().next().unwrap_or_default();
    Some(ContainerSummary {
        id: ContainerId::new(&container.id?)?,
        name: name.trim_start_matches('/').to_owned(),
        labels: sorted(container.labels),
        phase: match container.state? {
            ContainerSummaryStateEnum::CREATED => ContainerPhase::Created,
            ContainerSummaryStateEnum::RUNNING
            | ContainerSummaryStateEnum::PAUSED
            | ContainerSummaryStateEnum::RESTARTING
            | ContainerSummaryStateEnum::STOPPING => ContainerPhase::Running,
            ContainerSummaryStateEnum::EXITED | ContainerSummaryStateEnum::EMPTY => ContainerPhase::Exited,
            ContainerSummaryStateEnum::REMOVING | ContainerSummaryStateEnum::DEAD => ContainerPhase::Removing,
        },
        image_id: container.image_id.unwrap_or_default(),
    })
}

pub(super) fn container_details(container: ContainerInspectResponse) -> Option<ContainerDetails> {
    let state = container.state.unwrap_or_default();
    let summary = ContainerSummary {
        id: ContainerId::new(&container.id?)?,
        name: container.name.unwrap_or_default().trim_start_matches('/').to_owned(),
        labels: sorted(container.config.and_then(|config| config.labels)),
        phase: phase(&state),
        image_id: container.image.unwrap_or_default(),
    };
    Some(ContainerDetails {
        summary,
        pid: state.pid.and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0),
        started_at: state.started_at.as_deref().and_then(timestamp),
        finished_at: state.finished_at.as_deref().and_then(timestamp),
        exit_code: state.exit_code.unwrap_or_default(),
        oom_killed: state.oom_killed.unwrap_or_default(),
        error: state.error.unwrap_or_default(),
    })
}

fn phase(state: &ContainerState) -> ContainerPhase {
    if state.running == Some(true) || state.restarting == Some(true) {
        return ContainerPhase::Running;
    }
    match state.status {
        Some(ContainerStateStatusEnum::CREATED) => ContainerPhase::Created,
        Some(ContainerStateStatusEnum::REMOVING | ContainerStateStatusEnum::DEAD) => ContainerPhase::Removing,
        _ => ContainerPhase::Exited,
    }
}

/// The engine writes the year 1 for "never".
fn timestamp(text: &str) -> Option<Timestamp> {
    text.parse::<Timestamp>().ok().filter(|at| at.as_second() > 0)
}

fn sorted(map: Option<HashMap<String, String>>) -> BTreeMap<String, String> {
    map.unwrap_or_default().into_iter().collect()
}

pub(super) fn event(message: EventMessage) -> Option<EngineEvent> {
    let at = message.time_nano.and_then(|nanos| Timestamp::from_nanosecond(nanos.into()).ok());
    let action = message.action?;
    if message.typ == Some(EventMessageTypeEnum::IMAGE) {
        return Some(EngineEvent { kind: EventKind::ImagesChanged, at });
    }
    let actor = message.actor?;
    let id = ContainerId::new(&actor.id?)?;
    let labels = sorted(actor.attributes);
    let kind = match action.as_str() {
        "start" => EventKind::Started { id, labels },
        "oom" => EventKind::OutOfMemory { id, labels },
        "die" => {
            let exit_code = labels.get("exitCode").and_then(|code| code.parse().ok());
            EventKind::Died { id, labels, exit_code }
        }
        "destroy" => EventKind::Removed { id, labels },
        _ => return None,
    };
    Some(EngineEvent { kind, at })
}

pub(super) fn info(info: SystemInfo) -> EngineInfo {
    EngineInfo {
        id: info.id.unwrap_or_default(),
        version: info.server_version.unwrap_or_default(),
        architecture: info.architecture.unwrap_or_default(),
        os: info.os_type.unwrap_or_default(),
        os_image: info.operating_system.unwrap_or_default(),
        kernel: info.kernel_version.unwrap_or_default(),
        cpus: info.ncpu.and_then(|count| u64::try_from(count).ok()).unwrap_or_default(),
        memory_bytes: info.mem_total.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or_default(),
        root_dir: info.docker_root_dir.unwrap_or_default().into(),
        runtimes: info.runtimes.unwrap_or_default().into_keys().collect(),
        cgroup_version: info.cgroup_version.map(|version| version.to_string()).unwrap_or_default(),
    }
}

pub(super) fn output(output: LogOutput) -> OutputChunk {
    match output {
        LogOutput::StdErr { message } => OutputChunk::Stderr(message),
        LogOutput::StdOut { message } | LogOutput::StdIn { message } | LogOutput::Console { message } => {
            OutputChunk::Stdout(message)
        }
    }
}

pub(super) fn stats(sample: &ContainerStatsResponse) -> ContainerStats {
    let cpu = sample.cpu_stats.as_ref().and_then(|cpu| cpu.cpu_usage.as_ref()).and_then(|usage| usage.total_usage);
    let memory = sample.memory_stats.clone().unwrap_or_default();
    let detail = memory.stats.unwrap_or_default();
    // cgroup v1 calls the droppable cache total_inactive_file, v2 inactive_file.
    let cache = detail.get("total_inactive_file").or_else(|| detail.get("inactive_file")).copied().unwrap_or(0);
    ContainerStats { cpu_nanos_total: cpu.unwrap_or(0), memory_bytes: memory.usage.unwrap_or(0).saturating_sub(cache) }
}

pub(super) fn volume(volume: Volume) -> VolumeDetails {
    VolumeDetails {
        name: volume.name,
        driver: volume.driver,
        mountpoint: volume.mountpoint,
        labels: volume.labels.into_iter().collect(),
    }
}

/// Takes an engine's answer for everything that it could be.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn reads_answer(answer: &serde_json::Value) {
    fn read<T: serde::de::DeserializeOwned>(answer: &serde_json::Value) -> Option<T> {
        serde_json::from_value(answer.clone()).ok()
    }
    read(answer).and_then(container_summary);
    read(answer).and_then(container_details);
    read(answer).and_then(event);
    read(answer).map(info);
    read(answer).map(volume);
    read::<ContainerStatsResponse>(answer).map(|sample| stats(&sample));
}
