//! Decides the next step of a Deployment. Pure: the same objects and instant give the same plan.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use serde::Serialize;

use super::limits::Limits;
use super::members::Member;
use super::revision::{self, REVISION, template_hash};
use super::{rolling, scaling, status};
use crate::objects::{owners, pods, selector};

/// What the plan is made from, besides the Deployment itself.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// ReplicaSets the Deployment controls, and orphans that its selector matches.
    pub replica_sets: Vec<Arc<ReplicaSet>>,
    /// Pods of those sets, in whatever state.
    pub pods: Vec<Arc<Pod>>,
    /// Names of ReplicaSets in the namespace that a new one might want.
    pub taken_names: BTreeSet<String>,
}

/// One write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Action {
    /// Become the controlling owner of a matching orphan.
    Adopt {
        /// The ReplicaSet.
        replica_set: String,
        /// Its uid.
        uid: String,
    },
    /// Give up a ReplicaSet whose labels no longer match.
    Release {
        /// The ReplicaSet.
        replica_set: String,
        /// Its uid.
        uid: String,
    },
    /// Create the ReplicaSet of the current template.
    Create {
        /// Its name.
        replica_set: String,
        /// The hash of the template, which labels its pods.
        hash: String,
        /// Its size.
        replicas: i32,
        /// Its annotations, among them the revision.
        annotations: BTreeMap<String, String>,
    },
    /// Change a ReplicaSet: its size, its annotations, or both.
    Update {
        /// The ReplicaSet.
        replica_set: String,
        /// Its uid.
        uid: String,
        /// Its size before and after, when that changes.
        replicas: Option<(i32, i32)>,
        /// Annotations to set.
        annotations: BTreeMap<String, String>,
        /// The new `minReadySeconds`, when that changes.
        min_ready_seconds: Option<i32>,
    },
    /// Delete a ReplicaSet beyond the history that is kept.
    Delete {
        /// The ReplicaSet.
        replica_set: String,
        /// Its uid.
        uid: String,
    },
    /// Note the current revision on the Deployment.
    SetRevision {
        /// The number.
        revision: i64,
    },
}

impl fmt::Display for Action {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Adopt { replica_set, .. } => write!(formatter, "adopt {replica_set}"),
            Self::Release { replica_set, .. } => write!(formatter, "release {replica_set}"),
            Self::Create { replica_set, replicas, .. } => write!(formatter, "create {replica_set} with {replicas}"),
            Self::Update { replica_set, replicas: Some((from, to)), .. } => {
                write!(formatter, "scale {replica_set} from {from} to {to}")
            }
            Self::Update { replica_set, replicas: None, .. } => write!(formatter, "update {replica_set}"),
            Self::Delete { replica_set, .. } => write!(formatter, "delete {replica_set}"),
            Self::SetRevision { revision } => write!(formatter, "set revision {revision}"),
        }
    }
}

/// What to do about a Deployment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// Adoptions and releases, which must be confirmed by a fresh read of the Deployment.
    pub ownership: Vec<Action>,
    /// The other writes, in order.
    pub actions: Vec<Action>,
    /// The status to report.
    pub status: DeploymentStatus,
    /// When time alone will change this plan.
    pub requeue_after: Option<Duration>,
}

/// A plan in the making.
pub(super) struct Work<'a> {
    pub deployment: &'a Deployment,
    pub limits: Limits,
    /// Oldest first.
    pub members: Vec<Member<'a>>,
    /// Which member has the current template.
    pub new: Option<usize>,
    pub conditions: Vec<DeploymentCondition>,
    pub collisions: Option<i32>,
    pub now: Timestamp,
    created: Option<Action>,
    deletions: Vec<Action>,
}

/// Whether the Deployment's selector matches a ReplicaSet.
pub(super) fn selects(deployment: &Deployment, set: &ReplicaSet) -> bool {
    deployment.spec.as_ref().is_some_and(|spec| {
        !selector::is_empty(&spec.selector) && selector::matches(&spec.selector, set.metadata.labels.as_ref())
    })
}

/// Decides the next step of a Deployment.
pub fn plan(deployment: &Deployment, observed: &Observed, now: Timestamp) -> Plan {
    let (sets, ownership) = claim(deployment, &observed.replica_sets);
    let mut work = Work::begin(deployment, &sets, now);
    if owners::is_terminating(&deployment.metadata) {
        return Plan { status: status::counts(&work), ..Plan::default() };
    }
    status::note_pause(&mut work);
    let paused = deployment.spec.as_ref().and_then(|spec| spec.paused).unwrap_or(false);
    let settled = if paused || scaling::is_resized(&work.members, &work.limits) {
        work.refresh_current();
        let before = deployment.status.as_ref().and_then(|status| status.replicas).unwrap_or(0);
        scaling::scale(&mut work.members, work.new, &work.limits, before);
        if paused {
            work.forget_history();
        }
        true
    } else {
        work.roll(observed)
    };
    let status = if settled { status::counts(&work) } else { status::progress(&mut work) };
    let requeue_after = status::deadline(&work, &status);
    Plan { ownership, actions: work.finish(), status, requeue_after }
}

/// Sorts out which ReplicaSets are the Deployment's own, and what must change for that to be true.
fn claim<'a>(deployment: &Deployment, sets: &'a [Arc<ReplicaSet>]) -> (Vec<&'a ReplicaSet>, Vec<Action>) {
    let (mut mine, mut ownership) = (Vec::new(), Vec::new());
    let mut sets: Vec<&ReplicaSet> = sets.iter().map(|set| &**set).collect();
    sets.sort_by_key(|set| (set.metadata.creation_timestamp.as_ref().map(|time| time.0), owners::name(&set.metadata)));
    for set in sets.into_iter().filter(|set| set.metadata.namespace == deployment.metadata.namespace) {
        let (name, uid) = (owners::name(&set.metadata).to_owned(), owners::uid(&set.metadata).to_owned());
        let owned = owners::is_controlled_by(&set.metadata, owners::uid(&deployment.metadata));
        let orphan = owners::controller_of(&set.metadata).is_none() && !owners::is_terminating(&set.metadata);
        let matching = selects(deployment, set);
        if owned && matching {
            mine.push(set);
        } else if owned && !owners::is_terminating(&set.metadata) {
            ownership.push(Action::Release { replica_set: name, uid });
        } else if orphan && matching {
            ownership.push(Action::Adopt { replica_set: name, uid });
            mine.push(set);
        }
    }
    (mine, ownership)
}

impl<'a> Work<'a> {
    fn begin(deployment: &'a Deployment, sets: &[&'a ReplicaSet], now: Timestamp) -> Self {
        let members: Vec<Member<'a>> = sets.iter().map(|set| Member::observe(set)).collect();
        let template = deployment.spec.as_ref().map(|spec| &spec.template);
        // Of several equal sets the oldest is the current one, so that the choice never wavers.
        let mut new = sets.iter().position(|set| {
            let of_set = set.spec.as_ref().and_then(|spec| spec.template.as_ref());
            of_set.zip(template).is_some_and(|(one, other)| revision::same_template(one, other))
        });
        let rolling = members.iter().filter(|member| member.is_active()).count() > 1;
        if rolling && drover_api::mutants::active("C13-rollout-lock") {
            new = members.iter().rposition(Member::is_active);
        }
        let status = deployment.status.clone().unwrap_or_default();
        Self {
            deployment,
            limits: Limits::of(deployment),
            members,
            new,
            conditions: status.conditions.unwrap_or_default(),
            collisions: status.collision_count,
            now,
            created: None,
            deletions: Vec::new(),
        }
    }

    /// Plans one step of a rollout; returns whether its progress is nobody's concern in this pass.
    fn roll(&mut self, observed: &Observed) -> bool {
        if self.limits.rolling {
            let Some(new) = self.ensure_current(observed) else { return true };
            let _moved = rolling::scale_new(&mut self.members, new, &self.limits)
                || rolling::scale_down_old(&mut self.members, new, &self.limits)
                || self.forget_history_when_complete();
            return false;
        }
        self.refresh_current();
        let old_active = self.scale_old_to_zero();
        if old_active || self.old_pods_run(observed) {
            return false;
        }
        let Some(new) = self.ensure_current(observed) else { return true };
        let _moved = rolling::scale_new(&mut self.members, new, &self.limits) || self.forget_history_when_complete();
        false
    }

    fn scale_old_to_zero(&mut self) -> bool {
        let (new, limits) = (self.new, self.limits);
        let old =
            self.members.iter_mut().enumerate().filter(|(index, member)| Some(*index) != new && member.is_active());
        old.map(|(_, member)| member.scale(0, &limits)).filter(|changed| *changed).count() > 0
    }

    /// Whether a pod of an old template is still there: with Recreate two templates never run side by side.
    fn old_pods_run(&self, observed: &Observed) -> bool {
        let new_uid = self.new.and_then(|new| self.members[new].origin).map(|set| owners::uid(&set.metadata));
        let counted =
            self.members.iter().enumerate().any(|(index, member)| Some(index) != self.new && member.actual > 0);
        counted
            || observed.pods.iter().any(|pod| {
                let owner = owners::controller_of(&pod.metadata).map(|owner| owner.uid.as_str());
                owner != new_uid && !pods::is_finished(pod)
            })
    }

    /// Brings the notes on the current set up to date, if it exists.
    fn refresh_current(&mut self) {
        let Some(new) = self.new else { return };
        let revision = self.next_revision();
        let annotations = self.deployment.metadata.annotations.as_ref();
        let member = &mut self.members[new];
        revision::mark_current(&mut member.annotations, annotations, revision);
        member.min_ready_seconds = self.deployment.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0);
        let name = member.name.clone();
        status::note_found(self, &name);
    }

    fn next_revision(&self) -> i64 {
        let old = self.members.iter().enumerate().filter(|(index, _)| Some(*index) != self.new);
        old.map(|(_, member)| member.revision()).max().unwrap_or(0) + 1
    }

    /// Finds or plans the set of the current template. `None` when its name is taken by another: then the collision
    /// is counted, and the next pass tries another name.
    fn ensure_current(&mut self, observed: &Observed) -> Option<usize> {
        if let Some(new) = self.new {
            self.refresh_current();
            return Some(new);
        }
        let template = self.deployment.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
        let blind = drover_api::mutants::active("F02-collision-never-counts");
        let hash = template_hash(&template, self.collisions.filter(|_| !blind).unwrap_or(0));
        let name = format!("{}-{hash}", owners::name(&self.deployment.metadata));
        if observed.taken_names.contains(&name) {
            self.collisions = Some(self.collisions.unwrap_or(0).saturating_add(1));
            return None;
        }
        let replicas = rolling::new_size(&self.members, 0, &self.limits);
        let mut annotations = BTreeMap::new();
        revision::mark_current(&mut annotations, self.deployment.metadata.annotations.as_ref(), self.next_revision());
        revision::mark_size(&mut annotations, self.limits.replicas, self.limits.total_max());
        status::note_created(self, &name);
        self.created =
            Some(Action::Create { replica_set: name.clone(), hash, replicas, annotations: annotations.clone() });
        self.members.push(Member {
            origin: None,
            name,
            created: Some(self.now),
            replicas,
            annotations,
            min_ready_seconds: 0,
            actual: 0,
            ready: 0,
            available: 0,
        });
        self.new = Some(self.members.len() - 1);
        self.new
    }

    fn forget_history_when_complete(&mut self) -> bool {
        let complete = self.deployment.status.as_ref().is_some_and(|status| status::is_complete(self, status));
        complete && self.forget_history()
    }

    /// Deletes the oldest revisions beyond the limit, only sets that are empty by spec and by status.
    fn forget_history(&mut self) -> bool {
        let limit = self.deployment.spec.as_ref().and_then(|spec| spec.revision_history_limit).unwrap_or(10);
        let new = self.new;
        let mut old: Vec<&Member<'_>> = self
            .members
            .iter()
            .enumerate()
            .filter(|(index, _)| Some(*index) != new)
            .map(|(_, member)| member)
            .filter(|member| member.origin.is_some_and(|set| !owners::is_terminating(&set.metadata)))
            .collect();
        old.sort_by_key(|member| (member.revision(), member.created));
        if drover_api::mutants::active("F02-forgets-the-newest") {
            old.reverse();
        }
        let surplus = old.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        let empty = |member: &&&Member<'_>| {
            let seen = member.origin.is_some_and(|set| {
                set.status.as_ref().and_then(|status| status.observed_generation) >= set.metadata.generation
            });
            !member.is_active() && member.actual == 0 && seen
        };
        let uid = |member: &Member<'_>| member.origin.map(|set| owners::uid(&set.metadata).to_owned());
        self.deletions = old
            .iter()
            .take(surplus)
            .filter(empty)
            .filter_map(|member| Some(Action::Delete { replica_set: member.name.clone(), uid: uid(member)? }))
            .collect();
        !self.deletions.is_empty()
    }

    fn finish(self) -> Vec<Action> {
        let revision = self.new.map(|new| self.members[new].revision()).filter(|revision| *revision > 0);
        let noted = self.deployment.metadata.annotations.iter().flatten().find(|(name, _)| *name == REVISION);
        let revision = revision.filter(|revision| noted.map(|(_, text)| text.as_str()) != Some(&revision.to_string()));
        // Growth before shrinkage, so that a crash in between leaves a pod too many rather than one too few.
        let (grow, rest): (Vec<Action>, Vec<Action>) = self
            .members
            .iter()
            .filter_map(Member::change)
            .partition(|action| matches!(action, Action::Update { replicas: Some((from, to)), .. } if to > from));
        self.created
            .into_iter()
            .chain(grow)
            .chain(rest)
            .chain(self.deletions)
            .chain(revision.map(|revision| Action::SetRevision { revision }))
            .collect()
    }
}
