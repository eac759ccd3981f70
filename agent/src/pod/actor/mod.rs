//! One actor per pod: it plans, begins steps, takes their outcomes in, reports. A step that hangs blocks nobody else.
//!
//! The actor owns all state of its pod; steps run as tasks and answer through the actor's own join set, so that a
//! deletion is seen while a pull runs. Ending the actor never touches a container.

mod absorb;
mod begin;
mod listing;
mod report;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod, PodStatus};
use tokio::{sync::mpsc, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    action::Action,
    apply::{PullFailure, StartFailure, Started},
    context::Context,
    observed::{Before, Cause, ContainerState, End, Observed, Stage, Termination, shift},
    plan::{plan, pod_containers},
    routes::{Join, decide_join, decide_routes},
};
use crate::{
    clock::JumpWatch,
    engine::{ContainerDetails, ContainerSummary, EngineError},
    ids::{ContainerId, PodUid},
    probes::{ProbeTasks, ProbeVerdict},
    seams::{NetworkError, PreparedVolume, Sandbox, VolumeError},
    source::PodApiError,
};

/// Messages that wait for an actor; when it is full the next listing says the same again.
pub(super) const INBOX_LIMIT: usize = 256;
/// How long a pod waits for proxies to acknowledge it before it is Ready all the same (contract: 10 s).
const JOIN_WAIT_SECS: i64 = 10;
/// Between two tries of a request to the API that fails, or that another writer undoes.
const RETRY_SECS: i64 = 1;

/// What an actor is told.
#[derive(Debug, Clone)]
pub(super) enum Message {
    /// The pod object, new or changed.
    Pod(Arc<Pod>),
    /// The pod object is gone from the API, by a complete list or a watch event.
    Gone,
    /// The engine says that a container ended.
    Died { id: ContainerId, exit_code: Option<i64>, at: Option<Timestamp> },
    /// The engine's containers of this pod, as of a moment.
    Listing { taken_at: Instant, containers: Arc<Vec<ContainerSummary>> },
    /// Something that plans depend on changed: routes, images, the engine's health.
    Wake,
}

/// The outcome of a step.
#[derive(Debug)]
enum Outcome {
    Network(Result<Sandbox, NetworkError>),
    Volumes(Result<Vec<PreparedVolume>, VolumeError>),
    Pull { container: String, attempt: u32, result: Result<(), PullFailure> },
    Start { container: String, attempt: u32, result: Box<Result<Started, StartFailure>> },
    Hook { container: String, attempt: u32, post_start: bool, result: Result<(), String> },
    Signal { container: String, id: ContainerId, kill: bool, result: Result<(), EngineError> },
    Remove { container: String, attempt: u32, result: Result<(), EngineError> },
    Inspect { container: String, id: ContainerId, result: Box<Result<(ContainerDetails, Option<End>), EngineError>> },
    Connections(std::io::Result<u32>),
    CleanUp(Result<(), String>),
    DeleteObject(Result<(), PodApiError>),
    Status { result: Result<u64, PodApiError>, written: Box<PodStatus> },
    Refreshed,
    VolumesRefreshed(Result<(), VolumeError>),
}

/// A pod's actor.
pub(super) struct Actor {
    context: Arc<Context>,
    uid: PodUid,
    pod: Arc<Pod>,
    observed: Observed,
    volumes: Vec<PreparedVolume>,
    inbox: mpsc::Receiver<Message>,
    steps: JoinSet<Outcome>,
    pulls: HashMap<String, tokio::task::AbortHandle>,
    probes: ProbeTasks,
    verdicts_tx: mpsc::Sender<ProbeVerdict>,
    verdicts_rx: mpsc::Receiver<ProbeVerdict>,
    /// When each container last changed by a step or event of ours; older listings say nothing about it.
    touched: HashMap<String, Instant>,
    /// Ends that came before the answer of the start they belong to.
    early_ends: Vec<ContainerId>,
    report: report::ReportState,
    /// Whether a change of Services, slices or the acknowledged revision matters to this pod.
    routes_matter: Arc<AtomicBool>,
    /// When volumes that follow objects are brought up to date again.
    refresh_at: Option<Timestamp>,
    refreshing: bool,
    clock_jumps: JumpWatch,
}

impl Actor {
    /// An actor for a pod that this node runs.
    pub(super) fn new(
        context: Arc<Context>,
        uid: PodUid,
        pod: Arc<Pod>,
        inbox: mpsc::Receiver<Message>,
        routes_matter: Arc<AtomicBool>,
    ) -> Self {
        let (verdicts_tx, verdicts_rx) = mpsc::channel(INBOX_LIMIT);
        let clock_jumps = JumpWatch::new(context.clock.now());
        let mut actor = Self {
            observed: remembered(&context, &pod),
            context,
            uid,
            pod,
            volumes: Vec::new(),
            inbox,
            steps: JoinSet::new(),
            pulls: HashMap::new(),
            probes: ProbeTasks::default(),
            verdicts_tx,
            verdicts_rx,
            touched: HashMap::new(),
            early_ends: Vec::new(),
            report: report::ReportState::default(),
            routes_matter,
            refresh_at: None,
            refreshing: false,
            clock_jumps,
        };
        actor.note_pod();
        actor
    }

    /// Runs until nothing of the pod is left, or until `shutdown`, which leaves everything as it is.
    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        loop {
            let now = self.now();
            let wake_at = self.advance(now);
            let Some(wake_at) = wake_at else { break };
            // Cancel-safe: channels and the join set keep what they hold; the timer is made anew.
            tokio::select! {
                () = shutdown.cancelled() => return,
                message = self.inbox.recv() => match message {
                    Some(message) => self.take(message),
                    None => return,
                },
                Some(ended) = self.steps.join_next() => self.step_ended(ended),
                Some(verdict) = self.verdicts_rx.recv() => self.note_verdict(verdict),
                () = sleep_until(&self.context, wake_at) => {}
            }
            // Take in everything that is there before planning again: fewer plans and fewer status writes.
            while let Ok(message) = self.inbox.try_recv() {
                self.take(message);
            }
            while let Some(ended) = self.steps.try_join_next() {
                self.step_ended(ended);
            }
        }
        self.context.directory.remove(
            self.pod.metadata.namespace.as_deref().unwrap_or_default(),
            self.pod.metadata.name.as_deref().unwrap_or_default(),
            &self.uid,
        );
    }

    fn step_ended(&mut self, ended: Result<Outcome, tokio::task::JoinError>) {
        match ended {
            Ok(outcome) => self.absorb(outcome),
            // An aborted pull. A panic is noted and the step tried again.
            Err(error) => self.step_lost(&error),
        }
    }

    /// The present time; what was noted before follows a clock that was set.
    fn now(&mut self) -> Timestamp {
        let now = self.context.clock.now();
        let jump = self.clock_jumps.jump(now);
        if !jump.is_zero() && !drover_api::mutants::active("T01-waits-by-the-old-clock") {
            self.observed.follow_clock(jump);
            self.report.follow_clock(jump);
            self.refresh_at.iter_mut().for_each(|at| shift(at, jump));
        }
        now
    }

    /// Plans and begins; returns when to plan again, `Some(None)` for "when something happens", `None` when done.
    fn advance(&mut self, now: Timestamp) -> Option<Option<Timestamp>> {
        // Before the objects are read: a change after that must wake us.
        self.routes_matter.store(true, Ordering::SeqCst);
        self.refresh_inputs(now);
        let mut wake_at = None;
        // Noting a decision (a stop, a deadline) makes new steps possible at once; a bounded number of rounds.
        for _ in 0..8 {
            let plan = plan(&self.pod, &self.observed, now);
            if plan.done {
                return None;
            }
            wake_at = plan.requeue_at;
            let again = plan.actions.iter().any(is_note);
            for action in plan.actions {
                self.begin(action, now);
            }
            if !again {
                break;
            }
        }
        let join_at = self.report(now);
        self.reconcile_probes();
        let refresh_at = self.refresh_volumes(now);
        self.routes_matter.store(self.observed.termination.is_some() || join_at.is_some(), Ordering::SeqCst);
        Some([wake_at, join_at, refresh_at].into_iter().flatten().min())
    }

    fn refresh_inputs(&mut self, now: Timestamp) {
        let context = Arc::clone(&self.context);
        self.observed.engine_up = *context.engine_up.borrow();
        let Some(spec) = self.pod.spec.as_ref() else { return };
        for container in pod_containers(spec) {
            let state = self.observed.containers.entry(container.spec.name.clone()).or_default();
            let image = container.spec.image.as_deref().unwrap_or_default();
            let listed = context.images.is_listed();
            state.image_present = listed.then(|| context.images.find(image).is_some());
        }
        if let Some(end) = &mut self.observed.termination
            && end.cause != Cause::Deadline
        {
            let acknowledged = *context.acknowledged.borrow();
            let services = context.services.list();
            end.routes = decide_routes(&self.pod, &services, &context.slices.list(), acknowledged);
        }
        if let Some(setback) = self.observed.containers.values_mut().find_map(|state| state.setback.as_mut())
            && setback.reason == "ErrImageNeverPull"
        {
            setback.retry_at = now;
        }
    }

    fn join(&self) -> Join {
        let acknowledged = *self.context.acknowledged.borrow();
        decide_join(&self.pod, &self.context.services.list(), &self.context.slices.list(), acknowledged)
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Pod(pod) => {
                if changes_volumes(&self.pod, &pod) {
                    self.refresh_at = None;
                }
                self.pod = pod;
                self.note_pod();
            }
            Message::Gone => self.note_gone(),
            Message::Died { id, exit_code, at } => self.note_died(&id, exit_code, at),
            Message::Listing { taken_at, containers } => self.note_listing(taken_at, &containers),
            Message::Wake => {}
        }
    }

    /// Takes in what a changed pod object asks for.
    fn note_pod(&mut self) {
        let meta = &self.pod.metadata;
        let phase = self.pod.status.as_ref().and_then(|status| status.phase.as_deref());
        if crate::status::is_final(phase) {
            self.observed.finished = true;
        }
        if meta.deletion_timestamp.is_some() {
            let grace = meta.deletion_grace_period_seconds.unwrap_or(30);
            self.begin_termination(Cause::Deleted, grace);
        }
    }

    fn note_gone(&mut self) {
        let grace = self.pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds).unwrap_or(30);
        let grace = self.observed.termination.as_ref().map_or(grace, |end| end.grace_secs);
        self.begin_termination(Cause::Gone, grace);
    }

    fn begin_termination(&mut self, cause: Cause, grace_secs: i64) {
        let now = self.now();
        match &mut self.observed.termination {
            Some(end) if end.cause != Cause::Deadline => {
                // A second deletion may shorten the wait, never lengthen it.
                end.grace_secs = end.grace_secs.min(grace_secs);
                end.cause = cause;
            }
            Some(_) | None => {
                let routes = super::observed::Routes::None;
                let (connections, counted_at) = (None, None);
                self.observed.termination = Some(Termination {
                    since: now,
                    grace_secs,
                    cause,
                    routes,
                    connections,
                    counted_at,
                    counting: false,
                });
                for pull in self.pulls.values() {
                    pull.abort();
                }
            }
        }
    }
}

/// Whether a change of the object shows in downwardAPI volumes.
fn changes_volumes(before: &Pod, after: &Pod) -> bool {
    before.metadata.labels != after.metadata.labels || before.metadata.annotations != after.metadata.annotations
}

/// Whether an action is a note to ourselves rather than a step.
fn is_note(action: &Action) -> bool {
    matches!(action, Action::BeginStop { .. } | Action::BeginDeadline)
}

async fn sleep_until(context: &Context, at: Option<Timestamp>) {
    match at {
        None => std::future::pending().await,
        Some(at) => {
            let wait = at.duration_since(context.clock.now());
            let wait = std::time::Duration::try_from(wait).unwrap_or_default();
            tokio::time::sleep(wait.max(std::time::Duration::from_millis(1))).await;
        }
    }
}

fn end_of(terminated: ContainerStateTerminated) -> End {
    End {
        id: terminated.container_id.as_deref().and_then(|id| ContainerId::new(id.trim_start_matches("docker://"))),
        exit_code: terminated.exit_code,
        reason: terminated.reason.unwrap_or_default(),
        message: terminated.message,
        started_at: terminated.started_at.map(|time| time.0),
        finished_at: terminated.finished_at.map_or(Timestamp::UNIX_EPOCH, |time| time.0),
    }
}

/// What the pod's status remembers from before this agent started.
fn remembered(context: &Context, pod: &Pod) -> Observed {
    let mut observed = Observed::default();
    let on_host = pod.spec.as_ref().is_some_and(|spec| spec.host_network == Some(true));
    if on_host {
        observed.network = Stage::Ready;
    }
    let status = pod.status.clone().unwrap_or_default();
    observed.started_at = Some(status.start_time.map_or_else(|| context.clock.now(), |time| time.0));
    let conditions = status.conditions.unwrap_or_default();
    let initialized = conditions.iter().any(|c| c.type_ == "Initialized" && c.status == "True");
    observed.initialized = initialized && status.container_statuses.is_some();
    let statuses = status.init_container_statuses.into_iter().chain(status.container_statuses).flatten();
    for status in statuses {
        let ended =
            |state: Option<k8s_openapi::api::core::v1::ContainerState>| state.and_then(|state| state.terminated);
        let was_made = status.container_id.is_some();
        let end = ended(status.state).map(end_of);
        let previous = ended(status.last_state).map(end_of);
        let unknown = was_made.then(|| End {
            id: None,
            exit_code: 137,
            reason: "ContainerStatusUnknown".to_owned(),
            message: Some("The container could not be located when the pod was taken over".to_owned()),
            started_at: None,
            finished_at: context.clock.now(),
        });
        let state = ContainerState {
            restarts_known: u32::try_from(status.restart_count).unwrap_or(0),
            before: status.container_id.clone().map(|container_id| Before {
                container_id,
                ready: status.ready,
                started: status.started == Some(true),
                last_end: previous.clone(),
            }),
            last_end: end.or(previous).or(unknown),
            ..Default::default()
        };
        observed.containers.insert(status.name, state);
    }
    observed
}
