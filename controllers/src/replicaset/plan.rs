//! Decides which pods to adopt, release, create and delete. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use drover_api::restored::{Deletion, Unconfirmed, decide};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use serde::Serialize;

use super::names::pod_name;
use super::ranking::removal_key;
use super::status::build_status;
use crate::objects::{owners, pods, selector};

/// Pods created or deleted in one pass; the next pass goes on from there.
pub(super) const BURST_MAX: usize = 500;
/// How soon to look again while a restore is not confirmed.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// Ended pods kept for people to look at; older ones are deleted (C07: failures stay bounded).
const FINISHED_KEPT: usize = 5;
/// Pause after the second failure in a row; doubled for each further one.
const FAILURE_BACKOFF: Duration = Duration::from_secs(10);
/// Pause after a first failure: an eviction or preemption is made good at once, or nearly.
const FIRST_FAILURE_BACKOFF: Duration = Duration::from_secs(1);
/// A set whose pods always fail still tries this often.
const FAILURE_BACKOFF_MAX: Duration = Duration::from_secs(1800);

/// What the plan is made from, besides the set itself.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// Pods controlled by the set, and orphans that its selector matches.
    pub pods: Vec<Arc<Pod>>,
    /// Names already in use in the namespace that a new pod might want.
    pub taken_names: BTreeSet<String>,
    /// Active pods of this set and its sisters by node.
    pub ready_on_node: BTreeMap<String, usize>,
    /// The restore that nobody has confirmed yet.
    pub unconfirmed: Option<Unconfirmed>,
}

/// One change to a pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Action {
    /// Become the controlling owner of a matching orphan.
    Adopt {
        /// The pod.
        pod: String,
        /// Its uid.
        uid: String,
    },
    /// Give up a pod whose labels no longer match.
    Release {
        /// The pod.
        pod: String,
        /// Its uid.
        uid: String,
    },
    /// Create a pod from the template.
    Create {
        /// Its name.
        pod: String,
    },
    /// Delete a pod that is one too many, or that ended long ago.
    Delete {
        /// The pod.
        pod: String,
        /// Its uid.
        uid: String,
    },
}

impl fmt::Display for Action {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Adopt { pod, .. } => write!(formatter, "adopt {pod}"),
            Self::Release { pod, .. } => write!(formatter, "release {pod}"),
            Self::Create { pod } => write!(formatter, "create {pod}"),
            Self::Delete { pod, .. } => write!(formatter, "delete {pod}"),
        }
    }
}

/// What to do about a ReplicaSet.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// Adoptions and releases, which must be confirmed by a fresh read of the set.
    pub ownership: Vec<Action>,
    /// Creations, in the order to try them.
    pub creations: Vec<Action>,
    /// Deletions.
    pub deletions: Vec<Action>,
    /// The status to report.
    pub status: ReplicaSetStatus,
    /// Why fewer pods are created than are missing, when that is so.
    pub held_back: Option<String>,
    /// Why surplus pods are not deleted, when that is so.
    pub kept: Option<String>,
    /// When time alone will change this plan.
    pub requeue_after: Option<Duration>,
}

/// Whether the set's selector matches a pod.
pub(super) fn selects(set: &ReplicaSet, pod: &Pod) -> bool {
    set.spec.as_ref().is_some_and(|spec| {
        !selector::is_empty(&spec.selector) && selector::matches(&spec.selector, pod.metadata.labels.as_ref())
    })
}

/// Decides what to do about a ReplicaSet.
pub fn plan(set: &ReplicaSet, observed: &Observed, now: Timestamp) -> Plan {
    let mut pods: Vec<&Pod> = observed.pods.iter().map(|pod| &**pod).collect();
    pods.sort_by_key(|pod| owners::name(&pod.metadata));
    if owners::is_terminating(&set.metadata) {
        let mine: Vec<&Pod> = pods.into_iter().filter(|pod| is_mine(set, pod)).collect();
        return Plan { status: build_status(set, &mine, now).0, ..Plan::default() };
    }
    let (mine, ownership) = claim(set, &pods);
    let (stranded, active): (Vec<&Pod>, Vec<&Pod>) =
        mine.iter().copied().filter(|pod| pods::is_active(pod)).partition(|pod| pods::is_host_down(pod));
    let finished: Vec<&Pod> =
        mine.iter().copied().filter(|pod| pods::is_finished(pod) && !owners::is_terminating(&pod.metadata)).collect();
    let (status, until_available) = build_status(set, &mine, now);
    let mut plan = Plan { ownership, status, requeue_after: until_available, ..Plan::default() };
    let mut doomed = surplus_finished(&finished);
    let wanted = usize::try_from(desired_replicas(set)).unwrap_or(0);
    if active.len() < wanted {
        let missing = (wanted - active.len()).min(BURST_MAX);
        let mut pause = failure_pause(&active, &finished, now);
        if drover_api::mutants::active("C07-no-backoff") {
            pause = Pause::None;
        }
        plan_creations(set, observed, missing, pause, &mut plan);
    } else {
        let surplus = (active.len() - wanted).min(BURST_MAX);
        doomed.extend(removals(&active, surplus, observed, now));
    }
    // What went with its host is replaced first and deleted then: should the host come back sooner, it counts again.
    let ready = active.iter().filter(|pod| pods::is_ready(pod)).count();
    if ready >= wanted || drover_api::mutants::active("C25-deletes-before-it-has-replaced") {
        doomed.extend(stranded);
    }
    // What must be kept is kept; nothing else goes in its place.
    let kept =
        |pod: &&Pod| decide(observed.unconfirmed.as_ref(), Deletion::SurplusPod { created_at: pods::created_at(pod) });
    plan.kept = doomed.iter().find_map(kept);
    if plan.kept.is_some() {
        plan.requeue_after = Some(plan.requeue_after.map_or(LOOK_AGAIN, |sooner| sooner.min(LOOK_AGAIN)));
    }
    plan.deletions = doomed.into_iter().filter(|pod| kept(pod).is_none()).map(delete).collect();
    plan
}

/// Returns the replicas asked for; 1 when the API server left the default out.
pub(super) fn desired_replicas(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1).max(0)
}

fn is_mine(set: &ReplicaSet, pod: &Pod) -> bool {
    owners::is_controlled_by(&pod.metadata, owners::uid(&set.metadata))
}

/// Sorts out which pods are the set's own, and what must change for that to be true.
fn claim<'a>(set: &ReplicaSet, pods: &[&'a Pod]) -> (Vec<&'a Pod>, Vec<Action>) {
    let (mut mine, mut ownership) = (Vec::new(), Vec::new());
    for pod in pods.iter().copied() {
        let (name, uid) = (owners::name(&pod.metadata).to_owned(), owners::uid(&pod.metadata).to_owned());
        let (owned, matching) = (is_mine(set, pod), selects(set, pod));
        let same_namespace = pod.metadata.namespace == set.metadata.namespace;
        if owned && (matching || owners::is_terminating(&pod.metadata)) {
            mine.push(pod);
        } else if owned {
            ownership.push(Action::Release { pod: name, uid });
        } else if matching
            && same_namespace
            && (owners::controller_of(&pod.metadata).is_none() || drover_api::mutants::active("C10-adopts-by-label"))
            && pods::is_active(pod)
        {
            ownership.push(Action::Adopt { pod: name, uid });
            mine.push(pod);
        }
    }
    (mine, ownership)
}

fn surplus_finished<'a>(finished: &[&'a Pod]) -> Vec<&'a Pod> {
    let mut oldest_first = finished.to_vec();
    oldest_first.sort_by_key(|pod| (pods::created_at(pod), owners::uid(&pod.metadata)));
    let surplus = oldest_first.len().saturating_sub(FINISHED_KEPT);
    oldest_first.into_iter().take(surplus.min(BURST_MAX)).collect()
}

fn removals<'a>(active: &[&'a Pod], surplus: usize, observed: &Observed, now: Timestamp) -> Vec<&'a Pod> {
    let mut ranked = active.to_vec();
    ranked.sort_by_cached_key(|pod| removal_key(pod, &observed.ready_on_node, now));
    ranked.into_iter().take(surplus).collect()
}

fn delete(pod: &Pod) -> Action {
    Action::Delete { pod: owners::name(&pod.metadata).to_owned(), uid: owners::uid(&pod.metadata).to_owned() }
}

fn plan_creations(set: &ReplicaSet, observed: &Observed, missing: usize, pause: Pause, plan: &mut Plan) {
    let allowed = match pause {
        Pause::None => missing,
        // After failures one pod goes ahead; the rest follow when it proves well.
        Pause::One => 1,
        Pause::Wait(left) => {
            plan.held_back = Some(format!(
                "pods of this ReplicaSet keep failing; the next is created in {} s",
                left.as_secs().max(1)
            ));
            plan.requeue_after = Some(plan.requeue_after.map_or(left, |sooner| sooner.min(left)));
            0
        }
    };
    let (name, uid) = (owners::name(&set.metadata), owners::uid(&set.metadata));
    let mut taken = observed.taken_names.clone();
    let free = (0..).map(|slot| pod_name(name, uid, slot)).filter(|pod| taken.insert(pod.clone()));
    plan.creations = free.take(allowed).map(|pod| Action::Create { pod }).collect();
}

#[derive(Debug, Clone, Copy)]
enum Pause {
    None,
    One,
    Wait(Duration),
}

/// Slows a set whose pods end as soon as they are made (C07). The memory is the failed pods themselves: those younger
/// than the youngest ready one are a streak, and the pause grows with its length and its own spacing.
fn failure_pause(active: &[&Pod], finished: &[&Pod], now: Timestamp) -> Pause {
    let last_good = active.iter().filter(|pod| pods::is_ready(pod)).filter_map(|pod| pods::created_at(pod)).max();
    let mut streak: Vec<Timestamp> = finished
        .iter()
        .filter_map(|pod| pods::created_at(pod))
        .filter(|created| last_good.is_none_or(|good| *created > good))
        .collect();
    streak.sort_unstable();
    let Some(last) = streak.last().copied() else { return Pause::None };
    let before_last = streak.iter().rev().nth(1).copied();
    let spacing = before_last
        .map_or(Duration::ZERO, |before| Duration::try_from(last.duration_since(before)).unwrap_or_default());
    let pause = match streak.len() {
        1 => FIRST_FAILURE_BACKOFF,
        length if length < FINISHED_KEPT => FAILURE_BACKOFF * (1 << (length - 2)),
        _ => (FAILURE_BACKOFF * 8).max(spacing * 2).min(FAILURE_BACKOFF_MAX),
    };
    let waited = Duration::try_from(now.duration_since(last)).unwrap_or_default();
    let tried_since = active.iter().any(|pod| pods::created_at(pod).is_some_and(|created| created > last));
    match pause.checked_sub(waited).filter(|left| !left.is_zero()) {
        Some(left) => Pause::Wait(left),
        None if streak.len() == 1 => Pause::None,
        None if tried_since => Pause::Wait(FAILURE_BACKOFF),
        None => Pause::One,
    }
}
