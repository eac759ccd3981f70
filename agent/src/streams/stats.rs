//! What node and containers use now: from cgroup files where they can be found, else from the engine.
//!
//! Nothing is sampled in the background. A rate is the difference to the sample of the last request, or, where that is
//! too old, to one taken half a second before.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    clock::Clock,
    engine::{ContainerStats, Engine},
    ids::ContainerId,
    seams::{PodDirectory, PodRecord},
};

/// The span of a rate when there is no sample to compare with.
const SPAN: Duration = Duration::from_millis(500);
/// Samples closer than this make rates jump; older ones no longer tell of now.
const SPAN_MIN_MS: i64 = 400;
const SPAN_MAX_MS: i64 = 60_000;
/// Engine calls in flight where cgroup files are out of reach.
const CALLS_LIMIT: usize = 8;
/// `/proc/stat` counts in hundredths of a second on every Linux ABI (USER_HZ).
const NANOS_PER_TICK: u64 = 10_000_000;

/// CPU time and memory of everything at one moment.
#[derive(Debug, Clone, Default)]
struct Sample {
    at: Timestamp,
    node: ContainerStats,
    containers: HashMap<ContainerId, ContainerStats>,
}

/// Takes samples on request.
#[derive(Debug)]
pub(super) struct Sampler {
    engine: Arc<dyn Engine>,
    clock: Clock,
    last: Mutex<Option<Arc<Sample>>>,
}

impl Sampler {
    pub(super) fn new(engine: Arc<dyn Engine>, clock: Clock) -> Self {
        Self { engine, clock, last: Mutex::new(None) }
    }

    /// The body of `/v1/stats`.
    pub(super) async fn report(&self, directory: &PodDirectory) -> Value {
        let pods = directory.list();
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let usable = |sample: &Arc<Sample>| {
            let age_ms = self.clock.now().duration_since(sample.at).as_millis();
            (i128::from(SPAN_MIN_MS)..=i128::from(SPAN_MAX_MS)).contains(&age_ms)
        };
        let before = match last.filter(usable) {
            Some(sample) => sample,
            None => {
                let sample = Arc::new(self.sample(&pods).await);
                tokio::time::sleep(SPAN).await;
                sample
            }
        };
        let after = Arc::new(self.sample(&pods).await);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&after));
        build_report(&pods, &before, &after)
    }

    async fn sample(&self, pods: &[PodRecord]) -> Sample {
        let ids: Vec<ContainerId> = running(pods).map(|(_, _, id)| id.clone()).collect();
        let (found, missing, node) = tokio::task::spawn_blocking(move || read_files(ids)).await.unwrap_or_default();
        let mut containers = found;
        let asked = stream::iter(missing).map(|id| async move {
            let stats = self.engine.stats(&id).await;
            (id, stats)
        });
        let answers: Vec<_> = asked.buffer_unordered(CALLS_LIMIT).collect().await;
        // A container that ended meanwhile uses nothing.
        containers.extend(answers.into_iter().filter_map(|(id, stats)| Some((id, stats.ok()?))));
        Sample { at: self.clock.now(), node, containers }
    }
}

fn running(pods: &[PodRecord]) -> impl Iterator<Item = (&PodRecord, &String, &ContainerId)> {
    pods.iter().flat_map(|pod| {
        let containers = pod.containers.iter().filter(|(_, container)| container.running);
        containers.filter_map(move |(name, container)| Some((pod, name, container.current.as_ref()?)))
    })
}

fn build_report(pods: &[PodRecord], before: &Sample, after: &Sample) -> Value {
    let span_nanos = u64::try_from(after.at.duration_since(before.at).as_nanos()).unwrap_or(0).max(1);
    let usage = |now: ContainerStats, then: Option<ContainerStats>| {
        // Without an earlier sample there is no rate yet.
        let used = then.map_or(0, |then| now.cpu_nanos_total.saturating_sub(then.cpu_nanos_total));
        let rate = u128::from(used) * 1_000_000_000 / u128::from(span_nanos);
        (u64::try_from(rate).unwrap_or(u64::MAX), now.memory_bytes)
    };
    let mut listed = Vec::new();
    for pod in pods {
        let mut containers = Vec::new();
        for (_, name, id) in running(std::slice::from_ref(pod)) {
            let Some(now) = after.containers.get(id) else { continue };
            let (cpu, memory) = usage(*now, before.containers.get(id).copied());
            containers.push(json!({ "name": name, "cpuNanoCores": cpu, "memoryBytes": memory }));
        }
        if !containers.is_empty() {
            listed.push(json!({
                "namespace": pod.namespace, "name": pod.name, "uid": pod.uid.as_str(), "containers": containers,
            }));
        }
    }
    let (cpu, memory) = usage(after.node, Some(before.node));
    json!({ "node": { "cpuNanoCores": cpu, "memoryBytes": memory }, "pods": listed })
}

type Read = (HashMap<ContainerId, ContainerStats>, Vec<ContainerId>, ContainerStats);

fn read_files(ids: Vec<ContainerId>) -> Read {
    let root = Path::new("/sys/fs/cgroup");
    let (mut found, mut missing) = (HashMap::new(), Vec::new());
    for id in ids {
        match read_cgroup(root, &id) {
            Some(stats) => {
                found.insert(id, stats);
            }
            None => missing.push(id),
        }
    }
    (found, missing, read_node(Path::new("/proc")).unwrap_or_default())
}

/// Reads a container's use from the places where Docker's two cgroup drivers put it, on cgroup v1 and v2.
fn read_cgroup(root: &Path, id: &ContainerId) -> Option<ContainerStats> {
    let places = [format!("docker/{id}"), format!("system.slice/docker-{id}.scope")];
    places.iter().find_map(|place| read_v1(root, place).or_else(|| read_v2(&root.join(place))))
}

fn read_v1(root: &Path, place: &str) -> Option<ContainerStats> {
    let memory = root.join("memory").join(place);
    let cpu_nanos_total = number(&root.join("cpuacct").join(place).join("cpuacct.usage"))?;
    let usage = number(&memory.join("memory.usage_in_bytes"))?;
    let cache = field(&memory.join("memory.stat"), "total_inactive_file").unwrap_or(0);
    Some(ContainerStats { cpu_nanos_total, memory_bytes: usage.saturating_sub(cache) })
}

fn read_v2(place: &Path) -> Option<ContainerStats> {
    let cpu_micros = field(&place.join("cpu.stat"), "usage_usec")?;
    let usage = number(&place.join("memory.current"))?;
    let cache = field(&place.join("memory.stat"), "inactive_file").unwrap_or(0);
    let cpu_nanos_total = cpu_micros.saturating_mul(1000);
    Some(ContainerStats { cpu_nanos_total, memory_bytes: usage.saturating_sub(cache) })
}

fn read_node(proc: &Path) -> io::Result<ContainerStats> {
    let stat = fs::read_to_string(proc.join("stat"))?;
    let first = stat.lines().next().unwrap_or_default();
    // user nice system idle iowait irq softirq steal; idle and iowait are no use of the CPU.
    let ticks: Vec<u64> = first.split_whitespace().skip(1).take(8).filter_map(|word| word.parse().ok()).collect();
    let busy: u64 = ticks.iter().enumerate().filter(|(at, _)| !matches!(at, 3 | 4)).map(|(_, ticks)| ticks).sum();
    let meminfo: PathBuf = proc.join("meminfo");
    let kib = |name: &str| field(&meminfo, name).unwrap_or(0);
    let memory_bytes = kib("MemTotal:").saturating_sub(kib("MemAvailable:")).saturating_mul(1024);
    Ok(ContainerStats { cpu_nanos_total: busy.saturating_mul(NANOS_PER_TICK), memory_bytes })
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn field(path: &Path, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(char::is_whitespace))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests;
