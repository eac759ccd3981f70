//! What the life cycle knows of a pod: the input of the planner, free of I/O.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::{ids::ContainerId, seams::Sandbox};

/// Everything observed of one pod.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    /// Whether the engine answers; without it nothing is asked of it.
    pub engine_up: bool,
    /// Whether the containers of this pod are known from a listing; before that absence means nothing.
    pub listed: bool,
    /// The pod's name space; [`Stage::Ready`] at once for hostNetwork pods.
    pub network: Stage,
    /// The name space, when there is one.
    pub sandbox: Option<Sandbox>,
    /// The pod's volumes.
    pub volumes: Stage,
    /// Whether the init containers are known to be done (they are not run again).
    pub initialized: bool,
    /// Init containers, sidecars and containers by name.
    pub containers: BTreeMap<String, ContainerState>,
    /// The end of the pod, once it was asked for.
    pub termination: Option<Termination>,
    /// The phase in which the pod object was already, when that phase is final.
    pub finished: bool,
    /// When the pod was accepted by this node.
    pub started_at: Option<Timestamp>,
    /// Network and volumes of a pod that ends.
    pub cleanup: Stage,
    /// The pod object's deletion.
    pub object: Stage,
}

impl Observed {
    /// Moves what was noted by a clock that has been set by `jump` since: waits last as long as they were meant to.
    /// What is told of the past (starts, ends) stays.
    pub fn follow_clock(&mut self, jump: SignedDuration) {
        for stage in [&mut self.network, &mut self.volumes, &mut self.cleanup, &mut self.object] {
            if let Stage::Failed(setback) | Stage::Busy(Some(setback)) = stage {
                shift(&mut setback.retry_at, jump);
            }
        }
        for state in self.containers.values_mut() {
            if let Some(setback) = &mut state.setback {
                shift(&mut setback.retry_at, jump);
            }
            if let Some(Stop { since, grace_secs: _, signalled_at, killed_at }) = &mut state.stop {
                let moments = [Some(since), signalled_at.as_mut(), killed_at.as_mut()];
                moments.into_iter().flatten().for_each(|at| shift(at, jump));
            }
        }
        if let Some(end) = &mut self.termination {
            shift(&mut end.since, jump);
            end.counted_at.iter_mut().for_each(|at| shift(at, jump));
        }
    }
}

/// Moves a moment; one that cannot be told any more stays.
pub(crate) fn shift(at: &mut Timestamp, by: SignedDuration) {
    *at = at.checked_add(by).unwrap_or(*at);
}

/// Something that must happen once and may fail.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Stage {
    /// Not begun.
    #[default]
    Pending,
    /// Under way. Holds how the try before it failed: a retry is no news, and counts on.
    Busy(Option<Setback>),
    /// Done.
    Ready,
    /// Failed; tried again later.
    Failed(Setback),
}

impl Stage {
    /// Notes that a try is under way.
    pub fn begin(&mut self) {
        *self = Self::Busy(self.setback().cloned());
    }

    /// How the last try that ended failed, if it did.
    pub fn setback(&self) -> Option<&Setback> {
        match self {
            Self::Failed(setback) => Some(setback),
            Self::Busy(before) => before.as_ref(),
            Self::Pending | Self::Ready => None,
        }
    }
}

/// Why something failed and when it is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setback {
    /// A machine reason: `CreateContainerError`, `FailedMount`, …
    pub reason: String,
    /// One sentence.
    pub message: String,
    /// The next try.
    pub retry_at: Timestamp,
    /// Failures in a row.
    pub count: u32,
}

/// One container of the pod over all its attempts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ContainerState {
    /// Attempts that the engine still has, oldest first. The last one is current.
    pub attempts: Vec<Attempt>,
    /// The operation in flight.
    pub busy: Option<Operation>,
    /// Whether the engine may have a container that no listing has shown yet: a creation went without an answer.
    pub unlisted: bool,
    /// Attempts made before those in `attempts`, from the pod's status.
    pub restarts_known: u32,
    /// Whether the image is on this host; `None` when that is not known.
    pub image_present: Option<bool>,
    /// The attempt for which the image was pulled by policy `Always`.
    pub pulled_for: Option<u32>,
    /// The image pull or start that failed last.
    pub setback: Option<Setback>,
    /// Exits in a row after short runs.
    pub crashes: u32,
    /// Probe verdicts on the current attempt.
    pub probes: Verdicts,
    /// The postStart hook of the current attempt.
    pub post_start: Hook,
    /// The preStop hook of the current attempt.
    pub pre_stop: Hook,
    /// The stop of the current attempt, once decided.
    pub stop: Option<Stop>,
    /// What the pod's status said of a running container when this agent took the pod over.
    pub before: Option<Before>,
    /// How the attempt before the current one ended, when the engine no longer has it.
    pub last_end: Option<End>,
}

/// What a pod's status said of a container before this agent started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Before {
    /// The container it was said of, as `docker://<id>`.
    pub container_id: String,
    /// Whether it was ready.
    pub ready: bool,
    /// Whether it counted as started.
    pub started: bool,
    /// How the attempt before it ended.
    pub last_end: Option<End>,
}

/// One container of the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The engine's id.
    pub id: ContainerId,
    /// 0 for the first.
    pub number: u32,
    /// What it does.
    pub phase: Phase,
    /// The image's id.
    pub image_id: String,
    /// The hash of the container spec it was made from.
    pub hash: String,
}

/// What an attempt does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// Made, not started.
    Created,
    /// A start was asked for and no answer came: only the engine knows.
    Unknown,
    /// Runs.
    Running {
        /// Since when.
        started_at: Timestamp,
    },
    /// Ended.
    Exited(End),
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// The container.
    pub id: Option<ContainerId>,
    /// The exit code.
    pub exit_code: i32,
    /// `Completed`, `Error`, `OOMKilled`, `ContainerCannotRun`, `DeadlineExceeded`.
    pub reason: String,
    /// The termination message.
    pub message: Option<String>,
    /// When it started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Timestamp,
}

/// An operation in flight on a container. At most one at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Its image is being pulled.
    Pull,
    /// It is being created and started.
    Start,
    /// It is being signalled.
    Signal,
    /// An attempt is being removed.
    Remove,
    /// An attempt is being inspected.
    Inspect,
}

/// Probe verdicts; `None` before the first verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Verdicts {
    /// Startup probe.
    pub startup: Option<bool>,
    /// Readiness probe.
    pub readiness: Option<bool>,
    /// Liveness probe.
    pub liveness: Option<bool>,
}

/// A life cycle hook of the current attempt.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Hook {
    /// Not run.
    #[default]
    Pending,
    /// Runs.
    Running,
    /// Ran, or there is none.
    Done,
    /// Failed, with the words.
    Failed(String),
}

/// The stop of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    /// When it was decided.
    pub since: Timestamp,
    /// From then to SIGKILL.
    pub grace_secs: i64,
    /// When the stop signal was sent.
    pub signalled_at: Option<Timestamp>,
    /// When SIGKILL was sent last.
    pub killed_at: Option<Timestamp>,
}

/// The end of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Termination {
    /// Since when this agent knows.
    pub since: Timestamp,
    /// The grace period.
    pub grace_secs: i64,
    /// Why.
    pub cause: Cause,
    /// Whether every proxy knows that the pod takes no new connections.
    pub routes: Routes,
    /// Established inbound connections on serving ports, by the last count; `None` before the first.
    pub connections: Option<u32>,
    /// When they were counted last.
    pub counted_at: Option<Timestamp>,
    /// Whether a count is under way.
    pub counting: bool,
}

/// Why a pod ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Its object was deleted.
    Deleted,
    /// Its object is gone already.
    Gone,
    /// It outlived `activeDeadlineSeconds`: it stops, the object stays.
    Deadline,
}

/// Where the pod's withdrawal from Services is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Routes {
    /// No Service routes to the pod.
    None,
    /// Some proxy may still send it connections.
    Waiting,
    /// Every proxy has taken it out.
    Withdrawn,
}

impl ContainerState {
    /// The newest attempt.
    pub fn current(&self) -> Option<&Attempt> {
        self.attempts.last()
    }

    /// Whether the newest attempt runs.
    pub fn is_running(&self) -> bool {
        self.current().is_some_and(|attempt| matches!(attempt.phase, Phase::Running { .. }))
    }

    /// How the newest attempt ended, when it did.
    pub fn ended(&self) -> Option<&End> {
        match &self.current()?.phase {
            Phase::Exited(end) => Some(end),
            Phase::Created | Phase::Unknown | Phase::Running { .. } => None,
        }
    }

    /// The number of the newest attempt, or of the one that would be made first.
    pub fn restart_count(&self) -> u32 {
        self.current().map_or(self.restarts_known, |attempt| attempt.number)
    }

    /// The number that a new attempt gets.
    pub fn next_number(&self) -> u32 {
        match self.current() {
            Some(attempt) => attempt.number + 1,
            // After an end that only the status remembers, the count goes on.
            None if self.last_end.is_some() => self.restarts_known + 1,
            None => self.restarts_known,
        }
    }

    /// Forgets what belonged to the attempt before.
    pub fn begin_attempt(&mut self, attempt: Attempt) {
        self.attempts.push(attempt);
        self.probes = Verdicts::default();
        self.post_start = Hook::Pending;
        self.pre_stop = Hook::Pending;
        self.stop = None;
        self.setback = None;
    }
}
