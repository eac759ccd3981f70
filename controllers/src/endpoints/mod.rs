//! EndpointSlices and Endpoints: which pods stand behind a Service.
//!
//! Two controllers over one observation. Owns the slices labelled as managed by it and the Endpoints of Services with a
//! selector; Services without one, and slices that others manage, are left alone. A change of a pod becomes a write at
//! once: nothing is batched beyond the deduplication of the queue, because every rollout waits for these writes.

mod apply;
mod build;
mod legacy;
mod plan;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Service};

use crate::manager::Context;
use crate::objects::{owners, selector};
use crate::runtime::{Change, Cluster, Controller, Error, Index, ObjectKey, Outcome, WorkQueue};

pub use plan::{Action, plan};

/// The label that names a slice's Service.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// The label that names a slice's writer.
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// What this controller signs with.
pub const MANAGER: &str = "endpointslice-controller.k8s.io";

/// Keeps EndpointSlices.
#[derive(Debug)]
pub struct EndpointSliceController {
    cluster: Cluster,
}

/// Keeps Endpoints, for clients that still read them.
#[derive(Debug)]
pub struct EndpointsController {
    cluster: Cluster,
}

/// Builds the slice controller and registers what wakes it.
pub fn register_slices(context: &Context, queue: &WorkQueue) -> Arc<dyn Controller> {
    let cluster = context.cluster.clone();
    wake_on_services_and_pods(&cluster, queue);
    let own = queue.clone();
    cluster.endpoint_slices.on_change(move |change| {
        for slice in change.versions() {
            let service = slice.metadata.labels.iter().flatten().find(|(name, _)| *name == SERVICE_NAME);
            if let Some((_, service)) = service {
                own.add(ObjectKey::new(owners::namespace(&slice.metadata), service.clone()));
            }
        }
    });
    Arc::new(EndpointSliceController { cluster })
}

/// Builds the Endpoints controller and registers what wakes it.
pub fn register_endpoints(context: &Context, queue: &WorkQueue) -> Arc<dyn Controller> {
    let cluster = context.cluster.clone();
    wake_on_services_and_pods(&cluster, queue);
    let own = queue.clone();
    cluster.endpoints.on_change(move |change| {
        change.versions().take(1).for_each(|endpoints| own.add(ObjectKey::of(&**endpoints)));
    });
    Arc::new(EndpointsController { cluster })
}

fn wake_on_services_and_pods(cluster: &Cluster, queue: &WorkQueue) {
    let own = queue.clone();
    cluster.services.on_change(move |change| {
        change.versions().take(1).for_each(|service| own.add(ObjectKey::of(&**service)));
    });
    let (by_pod, services) = (queue.clone(), cluster.services.clone());
    cluster.pods.on_change(move |change| {
        if !concerns_endpoints(change) {
            return;
        }
        for pod in change.versions() {
            for service in services.cache().in_namespace(owners::namespace(&pod.metadata)) {
                if selects(&service, pod) {
                    by_pod.add(ObjectKey::of(&*service));
                }
            }
        }
    });
}

/// Whether a change of a pod can change an endpoint: most status updates cannot.
fn concerns_endpoints(change: &Change<Pod>) -> bool {
    let (Some(before), Some(after)) = (&change.before, &change.after) else { return true };
    before.metadata.labels != after.metadata.labels
        || before.metadata.uid != after.metadata.uid
        || before.metadata.deletion_timestamp != after.metadata.deletion_timestamp
        || build::essence(before) != build::essence(after)
}

/// Whether a Service selects a pod. A Service without a selector selects nothing.
pub fn selects(service: &Service, pod: &Pod) -> bool {
    let wanted = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    wanted.is_some_and(|wanted| selector::map_matches(wanted, pod.metadata.labels.as_ref()))
}

/// Returns the pods a Service selects, in name order.
fn selected_pods(cluster: &Cluster, service: &Service) -> Vec<Arc<Pod>> {
    let mut pods = cluster.pods.cache().in_namespace(owners::namespace(&service.metadata));
    pods.retain(|pod| selects(service, pod));
    pods
}

#[async_trait::async_trait]
impl Controller for EndpointSliceController {
    fn name(&self) -> &'static str {
        "endpointslice"
    }

    fn keys(&self) -> Vec<ObjectKey> {
        self.cluster.services.cache().keys()
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        self.cluster.endpoint_slices.caught_up().await?;
        let service = self.cluster.services.cache().get(key);
        let slices = self.cluster.endpoint_slices.cache().by_index(Index::Service, &key.to_string());
        let pods = service.as_ref().map(|service| selected_pods(&self.cluster, service)).unwrap_or_default();
        let nodes = self.cluster.nodes.cache();
        let zone = |node: &str| {
            let node = nodes.get(&ObjectKey::cluster(node))?;
            node.metadata.labels.as_ref()?.get("topology.kubernetes.io/zone").cloned()
        };
        let actions = plan(service.as_deref(), &pods, &slices, &zone);
        apply::apply(&self.cluster, service.as_deref(), &slices, actions).await?;
        Ok(Outcome::DONE)
    }
}

#[async_trait::async_trait]
impl Controller for EndpointsController {
    fn name(&self) -> &'static str {
        "endpoints"
    }

    fn keys(&self) -> Vec<ObjectKey> {
        self.cluster.services.cache().keys()
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        self.cluster.endpoints.caught_up().await?;
        let service = self.cluster.services.cache().get(key);
        let existing = self.cluster.endpoints.cache().get(key);
        let pods = service.as_ref().map(|service| selected_pods(&self.cluster, service)).unwrap_or_default();
        let action = legacy::plan(service.as_deref(), &pods, existing.as_deref());
        legacy::apply(&self.cluster, key, existing.as_deref(), action).await?;
        Ok(Outcome::DONE)
    }
}
