//! Pods that nobody but their user made, and that are to go elsewhere when their host is gone: `on-node-failure`, as
//! classic Swarm had it.
//!
//! Owns nothing: it makes a pod of the same spec under a name of its own and then deletes the one of the dead host. When
//! that host returns, its agent finds the pod deleted and ends what is left of it: exactly one stays.

mod plan;

use std::sync::Arc;

use kube::Resource as _;

use crate::manager::Context;
use crate::objects::{owners, pods};
use crate::runtime::events::Severity;
use crate::runtime::resource::DeleteOptions;
use crate::runtime::{Cluster, Controller, Error, ObjectKey, Outcome, WorkQueue};

pub use plan::{Step, plan};

/// Moves pods.
#[derive(Debug)]
pub struct RescheduleController {
    cluster: Cluster,
}

/// Builds the controller and registers what wakes it.
pub fn register(context: &Context, queue: &WorkQueue) -> Arc<dyn Controller> {
    let mut cluster = context.cluster.clone();
    cluster.recorder = cluster.recorder.signed("reschedule-controller");
    let own = queue.clone();
    cluster.pods.on_change(move |change| {
        for pod in change.after.iter().filter(|pod| pods::is_host_down(pod)) {
            own.add(ObjectKey::of(&**pod));
        }
    });
    Arc::new(RescheduleController { cluster })
}

#[async_trait::async_trait]
impl Controller for RescheduleController {
    fn name(&self) -> &'static str {
        "reschedule"
    }

    fn keys(&self) -> Vec<ObjectKey> {
        let all = self.cluster.pods.cache().all();
        all.iter().filter(|pod| pods::is_host_down(pod)).map(|pod| ObjectKey::of(&**pod)).collect()
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        self.cluster.pods.caught_up().await?;
        let Some(pod) = self.cluster.pods.cache().get(key) else { return Ok(Outcome::DONE) };
        let Some(name) = plan::name_of_replacement(&pod) else { return Ok(Outcome::DONE) };
        let replacement = self.cluster.pods.cache().get(&ObjectKey::new(&*key.namespace, name));
        match plan(&pod, replacement.as_deref()) {
            None => {}
            Some(Step::Create(fresh)) => {
                let message = format!("Its host is gone; pod {} takes its place", owners::name(&fresh.metadata));
                self.cluster.pods.create(&fresh).await?;
                self.cluster.recorder.record(pod.object_ref(&()), Severity::Normal, "Rescheduled", message);
                return Ok(Outcome::after(Some(std::time::Duration::ZERO)));
            }
            Some(Step::Delete) => {
                self.cluster.pods.delete(key, &DeleteOptions::uid(owners::uid(&pod.metadata))).await?;
            }
        }
        Ok(Outcome::DONE)
    }
}
