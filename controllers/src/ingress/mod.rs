//! Ingresses: where they are served, and what of them is not.
//!
//! Owns the status of every Ingress whose class is ours. The nodes serve by themselves; this says where, and tells in
//! Events what an Ingress asks for in vain.

mod plan;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use kube::Resource as _;

use crate::manager::Context;
use crate::objects::owners;
use crate::runtime::events::Severity;
use crate::runtime::{Cluster, Controller, Error, ObjectKey, Outcome, Resource, WorkQueue};

pub use plan::{Observed, Planned, plan};

/// Keeps the status of Ingresses.
#[derive(Debug)]
pub struct IngressController {
    cluster: Cluster,
    ingresses: Resource<Ingress>,
    classes: Resource<IngressClass>,
    /// What has been told: the Ingress by its uid, reason and message.
    told: Mutex<BTreeSet<(String, &'static str, String)>>,
}

/// Builds the controller and registers what wakes it.
pub fn register(context: &Context, queue: &WorkQueue) -> Arc<dyn Controller> {
    let mut cluster = context.cluster.clone();
    cluster.recorder = cluster.recorder.signed("ingress-controller");
    let ingresses = Resource::new(cluster.client.clone(), (), vec![], None);
    let classes = Resource::new(cluster.client.clone(), (), vec![], None);
    cluster.also_start(&ingresses);
    cluster.also_start(&classes);
    let [by_ingress, by_class, by_service, by_node] = std::array::from_fn(|_| queue.clone());
    ingresses.on_change(move |_| by_ingress.add(key()));
    classes.on_change(move |_| by_class.add(key()));
    cluster.services.on_change(move |_| by_service.add(key()));
    cluster.nodes.on_change(move |change| {
        if change.before.as_deref().map(plan::offer) != change.after.as_deref().map(plan::offer) {
            by_node.add(key());
        }
    });
    Arc::new(IngressController { cluster, ingresses, classes, told: Mutex::default() })
}

/// All Ingresses are looked at together: of two that ask for the same only one gets it.
fn key() -> ObjectKey {
    ObjectKey::cluster("ingresses")
}

#[async_trait::async_trait]
impl Controller for IngressController {
    fn name(&self) -> &'static str {
        "ingress"
    }

    fn keys(&self) -> Vec<ObjectKey> {
        vec![key()]
    }

    async fn reconcile(&self, _key: &ObjectKey) -> Result<Outcome, Error> {
        self.ingresses.caught_up().await?;
        let planned = plan(&Observed {
            ingresses: self.ingresses.cache().all(),
            classes: self.classes.cache().all(),
            services: self.cluster.services.cache().all(),
            nodes: self.cluster.nodes.cache().all(),
        });
        self.tell(&planned);
        for Planned { ingress, status, .. } in planned {
            let after = Ingress { status: Some(status), ..(*ingress).clone() };
            self.ingresses.update(&ingress, &after, Some("status")).await?;
        }
        Ok(Outcome::DONE)
    }
}

impl IngressController {
    /// Tells what is new, once.
    fn tell(&self, planned: &[Planned]) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let mut now = BTreeSet::new();
        for Planned { ingress, problems, .. } in planned {
            for (reason, message) in problems {
                let entry = (owners::uid(&ingress.metadata).to_owned(), *reason, message.clone());
                if !told.contains(&entry) {
                    let about = ingress.object_ref(&());
                    self.cluster.recorder.record(about, Severity::Warning, reason, message.clone());
                }
                now.insert(entry);
            }
        }
        *told = now;
    }
}
