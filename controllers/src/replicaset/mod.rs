//! ReplicaSet: keeps a number of equal pods.
//!
//! Owns the pods whose controlling owner is the ReplicaSet, its status, and nothing else. Names of pods are a
//! function of the ReplicaSet's uid and a slot number, so that a create sent twice meets its own first child.

mod apply;
mod names;
mod plan;
mod ranking;
mod status;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use drover_api::restored::HELD_REASON;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;

use crate::manager::Context;
use crate::objects::{owners, pods};
use crate::runtime::events::Severity;
use crate::runtime::{Change, Cluster, Controller, Error, Index, ObjectKey, Outcome, WorkQueue};

pub use names::pod_name;
pub use plan::{Action, Observed, Plan, plan};

/// Keeps pods equal in number to `spec.replicas`.
#[derive(Debug)]
pub struct ReplicaSetController {
    cluster: Cluster,
}

/// Builds the controller and registers what wakes it.
pub fn register(context: &Context, queue: &WorkQueue) -> Arc<dyn Controller> {
    let mut cluster = context.cluster.clone();
    cluster.recorder = cluster.recorder.signed("replicaset-controller");
    let own = queue.clone();
    cluster.replica_sets.on_change(move |change| {
        change.versions().take(1).for_each(|set| own.add(ObjectKey::of(&**set)));
    });
    let by_pod = queue.clone();
    let sets = cluster.replica_sets.clone();
    cluster.pods.on_change(move |change| wake_for_pod(&sets, &by_pod, change));
    Arc::new(ReplicaSetController { cluster })
}

/// Wakes the owner of a pod; for an orphan every ReplicaSet that might adopt it.
fn wake_for_pod(sets: &crate::runtime::Resource<ReplicaSet>, queue: &WorkQueue, change: &Change<Pod>) {
    for pod in change.versions() {
        let namespace = owners::namespace(&pod.metadata);
        match owners::controller_of(&pod.metadata) {
            Some(owner) if owner.kind == "ReplicaSet" => queue.add(ObjectKey::new(namespace, owner.name.clone())),
            Some(_) => {}
            None => sets
                .cache()
                .in_namespace(namespace)
                .iter()
                .filter(|set| plan::selects(set, pod))
                .for_each(|set| queue.add(ObjectKey::of(&**set))),
        }
    }
}

#[async_trait::async_trait]
impl Controller for ReplicaSetController {
    fn name(&self) -> &'static str {
        "replicaset"
    }

    fn keys(&self) -> Vec<ObjectKey> {
        self.cluster.replica_sets.cache().keys()
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        self.cluster.pods.caught_up().await?;
        self.cluster.replica_sets.caught_up().await?;
        let Some(set) = self.cluster.replica_sets.cache().get(key) else { return Ok(Outcome::DONE) };
        let mut observed = self.observe(&set);
        let now = self.cluster.environment.now();
        let mut plan = plan::plan(&set, &observed, now);
        if !plan.deletions.is_empty() {
            // Asked only where it matters, and afresh.
            observed.unconfirmed = self.cluster.unconfirmed_restore().await?;
            plan = plan::plan(&set, &observed, now);
        }
        if let Some(reason) = &plan.kept {
            apply::tell(&self.cluster, &set, Severity::Warning, HELD_REASON, reason.clone());
        }
        let applied = apply::apply(&self.cluster, &set, &plan).await;
        apply::report(&self.cluster, &set, &plan, &applied).await?;
        applied.first_error.map_or(Ok(Outcome::after(plan.requeue_after)), Err)
    }
}

impl ReplicaSetController {
    /// Gathers the set's own pods, the orphans it might adopt, and what decides names and ranks.
    fn observe(&self, set: &ReplicaSet) -> Observed {
        let namespace = owners::namespace(&set.metadata);
        let cache = self.cluster.pods.cache();
        let mut found = cache.by_index(Index::Owner, owners::uid(&set.metadata));
        found.retain(|pod| owners::is_controlled_by(&pod.metadata, owners::uid(&set.metadata)));
        let orphans = cache.by_index(Index::Orphan, namespace);
        found.extend(orphans.into_iter().filter(|pod| plan::selects(set, pod)));
        let taken_names: BTreeSet<String> = cache
            .keys_with_prefix(namespace, &names::stem(owners::name(&set.metadata)))
            .into_iter()
            .map(|key| key.name)
            .collect();
        Observed { pods: found, taken_names, ready_on_node: self.ready_on_node(set), unconfirmed: None }
    }

    /// Counts, for each node, the active pods of this set and its sisters under one owner: two of them on one node
    /// make each the better one to remove.
    fn ready_on_node(&self, set: &ReplicaSet) -> std::collections::BTreeMap<String, usize> {
        let family = match owners::controller_of(&set.metadata) {
            Some(owner) => self.cluster.replica_sets.cache().by_index(Index::Owner, &owner.uid),
            None => vec![Arc::new(set.clone())],
        };
        let mut counts = std::collections::BTreeMap::new();
        for member in family {
            for pod in self.cluster.pods.cache().by_index(Index::Owner, owners::uid(&member.metadata)) {
                if let Some(node) = pods::node_name(&pod).filter(|_| pods::is_active(&pod)) {
                    *counts.entry(node.to_owned()).or_insert(0) += 1;
                }
            }
        }
        counts
    }
}
