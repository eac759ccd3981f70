//! PodDisruptionBudgets: how many pods may be taken away on purpose right now.
//!
//! Owns the status of every budget. The API server spends from `disruptionsAllowed` when it grants an eviction and
//! notes the pod in `disruptedPods`, which is cleared here when the pod is gone or was spared after all.

mod plan;

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use crate::manager::Context;
use crate::objects::owners;
use crate::runtime::{Cluster, Controller, Error, ObjectKey, Outcome, WorkQueue};

pub use plan::{Observed, plan};

/// Keeps budgets.
#[derive(Debug)]
pub struct DisruptionController {
    cluster: Cluster,
}

/// Builds the controller and registers what wakes it.
pub fn register(context: &Context, queue: &WorkQueue) -> Arc<dyn Controller> {
    let cluster = context.cluster.clone();
    let own = queue.clone();
    cluster.disruption_budgets.on_change(move |change| {
        change.versions().take(1).for_each(|budget| own.add(ObjectKey::of(&**budget)));
    });
    let (by_pod, budgets) = (queue.clone(), cluster.disruption_budgets.clone());
    cluster.pods.on_change(move |change| {
        for pod in change.versions() {
            for budget in budgets.cache().in_namespace(owners::namespace(&pod.metadata)) {
                if plan::selects(&budget, pod) {
                    by_pod.add(ObjectKey::of(&*budget));
                }
            }
        }
    });
    let (by_set, budgets) = (queue.clone(), cluster.disruption_budgets.clone());
    cluster.replica_sets.on_change(move |change| {
        let size = |set: &Option<Arc<k8s_openapi::api::apps::v1::ReplicaSet>>| set.as_ref()?.spec.as_ref()?.replicas;
        if size(&change.before) != size(&change.after) {
            for set in change.versions().take(1) {
                let in_namespace = budgets.cache().in_namespace(owners::namespace(&set.metadata));
                in_namespace.iter().for_each(|budget| by_set.add(ObjectKey::of(&**budget)));
            }
        }
    });
    Arc::new(DisruptionController { cluster })
}

#[async_trait::async_trait]
impl Controller for DisruptionController {
    fn name(&self) -> &'static str {
        "disruption"
    }

    fn keys(&self) -> Vec<ObjectKey> {
        self.cluster.disruption_budgets.cache().keys()
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        self.cluster.disruption_budgets.caught_up().await?;
        let Some(budget) = self.cluster.disruption_budgets.cache().get(key) else { return Ok(Outcome::DONE) };
        let mut pods = self.cluster.pods.cache().in_namespace(&key.namespace);
        pods.retain(|pod| plan::selects(&budget, pod));
        let scales = pods.iter().filter_map(|pod| self.scale_of(pod)).collect();
        let (status, requeue_after) = plan(&budget, &Observed { pods, scales }, self.cluster.environment.now());
        let after = PodDisruptionBudget { status: Some(status), ..(*budget).clone() };
        self.cluster.disruption_budgets.update(&budget, &after, Some("status")).await?;
        Ok(Outcome::after(requeue_after))
    }
}

impl DisruptionController {
    /// Returns who decides how many pods like this one there should be, and how many that is.
    fn scale_of(&self, pod: &Pod) -> Option<(String, i32)> {
        let namespace = owners::namespace(&pod.metadata);
        let owner = owners::controller_of(&pod.metadata).filter(|owner| owner.kind == "ReplicaSet")?;
        let set = self.cluster.replica_sets.cache().get(&ObjectKey::new(namespace, owner.name.clone()))?;
        if owners::uid(&set.metadata) != owner.uid {
            return None;
        }
        let own_size = || Some((owner.uid.clone(), set.spec.as_ref()?.replicas.unwrap_or(1)));
        let Some(above) = owners::controller_of(&set.metadata).filter(|above| above.kind == "Deployment") else {
            return own_size();
        };
        let deployment = self.cluster.deployments.cache().get(&ObjectKey::new(namespace, above.name.clone()));
        let deployment = deployment.filter(|deployment| owners::uid(&deployment.metadata) == above.uid)?;
        Some((above.uid.clone(), deployment.spec.as_ref()?.replicas.unwrap_or(1)))
    }
}
