//! Deployment: rolls a set of pods from one template to the next through ReplicaSets.
//!
//! Owns the ReplicaSets it controls, the Deployment's status and its revision annotation; never touches a pod. There is
//! no rollout object and no lock: where a rollout stands is a function of the ReplicaSets, and the latest spec wins.

mod apply;
mod limits;
mod members;
mod plan;
mod revision;
mod rolling;
mod scaling;
mod status;

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};

use crate::manager::Context;
use crate::objects::owners;
use crate::runtime::{Change, Cluster, Controller, Error, Index, ObjectKey, Outcome, Resource, WorkQueue};

pub use limits::Limits;
pub(crate) use limits::share;
pub use plan::{Action, Observed, Plan, plan};
pub use revision::{HASH_LABEL, REVISION, template_hash};

/// Rolls Deployments.
#[derive(Debug)]
pub struct DeploymentController {
    cluster: Cluster,
}

/// Builds the controller and registers what wakes it.
pub fn register(context: &Context, queue: &WorkQueue) -> Arc<dyn Controller> {
    let mut cluster = context.cluster.clone();
    cluster.recorder = cluster.recorder.signed("deployment-controller");
    let own = queue.clone();
    cluster.deployments.on_change(move |change| {
        change.versions().take(1).for_each(|deployment| own.add(ObjectKey::of(&**deployment)));
    });
    let (by_set, deployments) = (queue.clone(), cluster.deployments.clone());
    cluster.replica_sets.on_change(move |change| wake_for_set(&deployments, &by_set, change));
    let (by_pod, sets) = (queue.clone(), cluster.replica_sets.clone());
    // Only the end of a pod matters here: a Recreate rollout waits for the last old pod to be gone.
    cluster.pods.on_change(move |change| {
        let Some(pod) = change.before.as_ref().filter(|_| change.after.is_none()) else { return };
        let Some(owner) = owners::controller_of(&pod.metadata).filter(|owner| owner.kind == "ReplicaSet") else {
            return;
        };
        let key = ObjectKey::new(owners::namespace(&pod.metadata), owner.name.clone());
        if let Some(set) = sets.cache().get(&key) {
            wake_owner(&by_pod, &set);
        }
    });
    Arc::new(DeploymentController { cluster })
}

fn wake_for_set(deployments: &Resource<Deployment>, queue: &WorkQueue, change: &Change<ReplicaSet>) {
    for set in change.versions() {
        if owners::controller_of(&set.metadata).is_some() {
            wake_owner(queue, set);
        } else {
            let candidates = deployments.cache().in_namespace(owners::namespace(&set.metadata));
            candidates
                .iter()
                .filter(|deployment| plan::selects(deployment, set))
                .for_each(|deployment| queue.add(ObjectKey::of(&**deployment)));
        }
    }
}

fn wake_owner(queue: &WorkQueue, set: &ReplicaSet) {
    if let Some(owner) = owners::controller_of(&set.metadata).filter(|owner| owner.kind == "Deployment") {
        queue.add(ObjectKey::new(owners::namespace(&set.metadata), owner.name.clone()));
    }
}

#[async_trait::async_trait]
impl Controller for DeploymentController {
    fn name(&self) -> &'static str {
        "deployment"
    }

    fn keys(&self) -> Vec<ObjectKey> {
        self.cluster.deployments.cache().keys()
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        self.cluster.deployments.caught_up().await?;
        self.cluster.replica_sets.caught_up().await?;
        let Some(deployment) = self.cluster.deployments.cache().get(key) else { return Ok(Outcome::DONE) };
        let observed = self.observe(&deployment);
        let plan = plan(&deployment, &observed, self.cluster.environment.now());
        let applied = apply::apply(&self.cluster, &deployment, &plan).await;
        apply::report(&self.cluster, &deployment, &plan, applied).await?;
        Ok(Outcome::after(plan.requeue_after))
    }
}

impl DeploymentController {
    /// Gathers the ReplicaSets that are or may become the Deployment's own, and their pods.
    fn observe(&self, deployment: &Deployment) -> Observed {
        let namespace = owners::namespace(&deployment.metadata);
        let in_namespace = self.cluster.replica_sets.cache().in_namespace(namespace);
        let prefix = format!("{}-", owners::name(&deployment.metadata));
        let names = in_namespace.iter().map(|set| owners::name(&set.metadata));
        let taken_names = names.filter(|name| name.starts_with(&prefix)).map(ToOwned::to_owned).collect();
        let uid = owners::uid(&deployment.metadata);
        let concerns = |set: &Arc<ReplicaSet>| {
            let orphan = owners::controller_of(&set.metadata).is_none() && plan::selects(deployment, set);
            orphan || owners::is_controlled_by(&set.metadata, uid)
        };
        let replica_sets: Vec<Arc<ReplicaSet>> = in_namespace.into_iter().filter(concerns).collect();
        let pods_of =
            |set: &Arc<ReplicaSet>| self.cluster.pods.cache().by_index(Index::Owner, owners::uid(&set.metadata));
        let pods = replica_sets.iter().flat_map(pods_of).collect();
        Observed { replica_sets, pods, taken_names }
    }
}
