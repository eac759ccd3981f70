//! The planner: from a pod and what is observed of it to the next steps. Pure.
//!
//! [`plan`] never asks for a step that is under way, never for two attempts of a container at once, and asks for
//! nothing when nothing is left to do.

mod backoff;
mod containers;
mod run;
mod stop;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodSpec};

pub use backoff::{RESET_AFTER, crash_delay, mount_delay, setback_delay};
pub use containers::{ContainerRole, PodContainer, pod_containers, spec_hash};
pub(crate) use run::{PullPolicy, pull_policy, started};
pub use stop::{DRAIN_RESERVE_SECS, ROUTES_WAIT_SECS};

use super::{
    action::Action,
    observed::{Cause, Observed, Stage},
};

/// The next steps of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Steps to begin now, in order.
    pub actions: Vec<Action>,
    /// When to plan again though nothing happens.
    pub requeue_at: Option<Timestamp>,
    /// Whether nothing of the pod is left on this node.
    pub done: bool,
}

impl Plan {
    fn push(&mut self, action: Action) {
        self.actions.push(action);
    }

    fn wake_at(&mut self, at: Timestamp) {
        self.requeue_at = Some(self.requeue_at.map_or(at, |earlier| earlier.min(at)));
    }
}

/// Plans the next steps of a pod.
pub fn plan(pod: &Pod, observed: &Observed, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let Some(spec) = pod.spec.as_ref() else {
        plan.done = true;
        return plan;
    };
    if !observed.listed || !observed.engine_up {
        return plan;
    }
    match &observed.termination {
        Some(termination) => stop::plan_end(spec, observed, termination, now, &mut plan),
        None if observed.finished => {}
        None if deadline_passed(spec, observed, now, &mut plan) => plan.push(Action::BeginDeadline),
        None => run::plan_run(spec, observed, now, &mut plan),
    }
    plan
}

fn deadline_passed(spec: &PodSpec, observed: &Observed, now: Timestamp, plan: &mut Plan) -> bool {
    let (Some(seconds), Some(started_at)) = (spec.active_deadline_seconds, observed.started_at) else {
        return false;
    };
    let deadline = after(started_at, seconds);
    if now < deadline {
        plan.wake_at(deadline);
    }
    now >= deadline
}

/// Whether the stage may be begun now; asks to be woken when it may be later.
fn may_begin(stage: &Stage, now: Timestamp, plan: &mut Plan) -> bool {
    match stage {
        Stage::Pending => true,
        Stage::Busy(_) | Stage::Ready => false,
        Stage::Failed(setback) if now >= setback.retry_at => true,
        Stage::Failed(setback) => {
            plan.wake_at(setback.retry_at);
            false
        }
    }
}

/// The moment `seconds` after another, without overflow.
pub(crate) fn after(at: Timestamp, seconds: i64) -> Timestamp {
    at.checked_add(jiff::SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
}

/// Whether the pod object must be deleted once the pod is gone from the node.
fn deletes_object(cause: Cause) -> bool {
    match cause {
        Cause::Deleted => true,
        Cause::Gone | Cause::Deadline => false,
    }
}

#[cfg(test)]
mod tests;
