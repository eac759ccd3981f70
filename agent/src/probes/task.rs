//! One task per probe of a running container.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Container, Probe};
use tokio::{sync::mpsc, task::AbortHandle};

use super::{ProbeKind, Threshold};
use crate::{
    engine::{Engine, run_exec},
    ids::ContainerId,
    seams::{ProbeSubject, Prober},
};

/// What a command may say at most (Kubernetes: 10 KiB).
const OUTPUT_MAX: usize = 10 * 1024;

/// What a probe is run against.
#[derive(Debug, Clone)]
pub struct ProbeTarget {
    /// The engine, for exec.
    pub engine: Arc<dyn Engine>,
    /// The network, for all else.
    pub prober: Arc<dyn Prober>,
    /// The container.
    pub id: ContainerId,
    /// Its spec.
    pub container: Container,
    /// The pod's address.
    pub address: Option<IpAddr>,
}

/// What a probe found, once enough outcomes agree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeVerdict {
    /// The container's name.
    pub container: String,
    /// Which attempt of it.
    pub id: ContainerId,
    /// Which probe.
    pub kind: ProbeKind,
    /// The verdict; `None` for a failure that is not one yet.
    pub passed: Option<bool>,
    /// The sentence for the event of a failure.
    pub failure: Option<String>,
}

/// The probes of one pod. Dropping them ends them.
#[derive(Debug, Default)]
pub struct ProbeTasks {
    running: BTreeMap<(ContainerId, ProbeKind), AbortHandle>,
}

impl ProbeTasks {
    /// Starts the probes that are wanted and do not run, and ends those that run and are not wanted.
    pub fn reconcile(&mut self, wanted: &[(ProbeKind, ProbeTarget)], verdicts: &mpsc::Sender<ProbeVerdict>) {
        let keys: Vec<_> = wanted.iter().map(|(kind, target)| (target.id.clone(), *kind)).collect();
        self.running.retain(|key, task| {
            let keep = keys.contains(key);
            if !keep {
                task.abort();
            }
            keep
        });
        for (kind, target) in wanted {
            let key = (target.id.clone(), *kind);
            if let Some(probe) = probe_of(&target.container, *kind).filter(|_| !self.running.contains_key(&key)) {
                let task = tokio::spawn(run(*kind, probe.clone(), target.clone(), verdicts.clone()));
                self.running.insert(key, task.abort_handle());
            }
        }
    }
}

impl Drop for ProbeTasks {
    fn drop(&mut self) {
        for task in self.running.values() {
            task.abort();
        }
    }
}

/// The probe of a kind that a container has.
pub(crate) fn probe_of(container: &Container, kind: ProbeKind) -> Option<&Probe> {
    match kind {
        ProbeKind::Startup => container.startup_probe.as_ref(),
        ProbeKind::Readiness => container.readiness_probe.as_ref(),
        ProbeKind::Liveness => container.liveness_probe.as_ref(),
    }
}

async fn run(kind: ProbeKind, probe: Probe, target: ProbeTarget, verdicts: mpsc::Sender<ProbeVerdict>) {
    let seconds = |value: Option<i32>, default: u64| value.and_then(|v| u64::try_from(v).ok()).unwrap_or(default);
    let period = Duration::from_secs(seconds(probe.period_seconds, 10).max(1));
    let limit = Duration::from_secs(seconds(probe.timeout_seconds, 1).max(1));
    tokio::time::sleep(Duration::from_secs(seconds(probe.initial_delay_seconds, 0))).await;
    let mut threshold = Threshold::new(&probe);
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut settled = false;
    loop {
        if settled {
            ticks.tick().await;
        } else {
            // Until the first verdict a failing probe is tried more often, so that a container which is up within
            // milliseconds need not wait a whole period; failures still count once a period.
            eager(&probe, &target, &mut ticks, limit).await;
            settled = true;
        }
        let outcome = probe_once(&probe, &target, limit).await;
        let failure = outcome.err().map(|message| format!("{} probe failed: {message}", kind.as_str()));
        let passed = threshold.note(failure.is_none());
        let verdict =
            ProbeVerdict { container: target.container.name.clone(), id: target.id.clone(), kind, passed, failure };
        if (verdict.passed.is_some() || verdict.failure.is_some()) && verdicts.send(verdict).await.is_err() {
            return;
        }
    }
}

/// Waits until the probe passes for the first time, at most one period.
async fn eager(probe: &Probe, target: &ProbeTarget, ticks: &mut tokio::time::Interval, limit: Duration) {
    const FIRST: Duration = Duration::from_millis(20);
    if probe.exec.is_some() {
        ticks.tick().await;
        return;
    }
    ticks.tick().await;
    let mut wait = FIRST;
    loop {
        if probe_once(probe, target, limit).await.is_ok() {
            return;
        }
        // Cancel-safe: both are timers.
        tokio::select! {
            _ = ticks.tick() => return,
            () = tokio::time::sleep(wait) => wait = (wait * 2).min(Duration::from_secs(1)),
        }
    }
}

async fn probe_once(probe: &Probe, target: &ProbeTarget, limit: Duration) -> Result<(), String> {
    if let Some(exec) = &probe.exec {
        let command = exec.command.clone().unwrap_or_default();
        return match run_exec(target.engine.as_ref(), &target.id, &command, limit, OUTPUT_MAX).await {
            Ok((0, _)) => Ok(()),
            Ok((_, output)) => Err(String::from_utf8_lossy(&output).trim().to_owned()),
            Err(error) => Err(error.to_string()),
        };
    }
    let subject = ProbeSubject { id: &target.id, container: &target.container, address: target.address };
    target.prober.probe(subject, probe, limit).await
}
