//! The ReplicaSets of a Deployment as a plan works on them: what they are, and what they shall become. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;

use super::limits::Limits;
use super::plan::Action;
use super::revision;
use crate::objects::owners;

/// One ReplicaSet. `replicas`, `annotations` and `min_ready_seconds` are changed by the plan; the rest is observed.
#[derive(Debug, Clone)]
pub(super) struct Member<'a> {
    /// `None` for a set that the plan creates.
    pub origin: Option<&'a ReplicaSet>,
    pub name: String,
    pub created: Option<Timestamp>,
    pub replicas: i32,
    pub annotations: BTreeMap<String, String>,
    pub min_ready_seconds: i32,
    /// Pods there are, by the set's own status.
    pub actual: i32,
    pub ready: i32,
    pub available: i32,
}

impl<'a> Member<'a> {
    pub(super) fn observe(set: &'a ReplicaSet) -> Self {
        let spec = set.spec.as_ref();
        let status = set.status.as_ref();
        Self {
            origin: Some(set),
            name: owners::name(&set.metadata).to_owned(),
            created: set.metadata.creation_timestamp.as_ref().map(|time| time.0),
            replicas: spec.and_then(|spec| spec.replicas).unwrap_or(1).max(0),
            annotations: set.metadata.annotations.clone().unwrap_or_default(),
            min_ready_seconds: spec.and_then(|spec| spec.min_ready_seconds).unwrap_or(0),
            actual: status.map_or(0, |status| status.replicas),
            ready: status.and_then(|status| status.ready_replicas).unwrap_or(0),
            available: status.and_then(|status| status.available_replicas).unwrap_or(0),
        }
    }

    pub(super) fn is_active(&self) -> bool {
        self.replicas > 0
    }

    /// Returns the available pods that will stay: a set just shrunk still reports pods that are about to go, and
    /// counting on those would take availability below its bound. (Kubernetes does count on them.)
    pub(super) fn dependable(&self) -> i32 {
        if drover_api::mutants::active("F01-counts-on-the-doomed") {
            return self.available;
        }
        self.available.min(self.replicas)
    }

    /// Sets the size and notes the Deployment's size beside it; returns whether the size changed.
    pub(super) fn scale(&mut self, replicas: i32, limits: &Limits) -> bool {
        let changed = self.replicas != replicas;
        self.replicas = replicas;
        revision::mark_size(&mut self.annotations, limits.replicas, limits.total_max());
        changed
    }

    pub(super) fn revision(&self) -> i64 {
        revision::revision_of(&self.annotations)
    }

    /// Returns the write that makes the observed set what the plan wants, if any.
    pub(super) fn change(&self) -> Option<Action> {
        let before = Self::observe(self.origin?);
        let annotations: BTreeMap<String, String> = self
            .annotations
            .iter()
            .filter(|(name, value)| before.annotations.get(*name) != Some(value))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let replicas = (before.replicas != self.replicas).then_some((before.replicas, self.replicas));
        let min_ready_seconds = (before.min_ready_seconds != self.min_ready_seconds).then_some(self.min_ready_seconds);
        if annotations.is_empty() && replicas.is_none() && min_ready_seconds.is_none() {
            return None;
        }
        let uid = owners::uid(&self.origin?.metadata).to_owned();
        Some(Action::Update { replica_set: self.name.clone(), uid, replicas, annotations, min_ready_seconds })
    }
}

/// Adds up a number over sets.
pub(super) fn sum(members: &[Member<'_>], number: impl Fn(&Member<'_>) -> i32) -> i32 {
    members.iter().map(number).fold(0, i32::saturating_add)
}
