//! Namespace deletion: empties a terminating Namespace, then lets it go.
//!
//! Every kind in the schema table that lives in namespaces is listed past the caches and deleted by uid. What remains,
//! and why, stands in the Namespace's conditions.

mod plan;

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::DynamicObject;
use kube::core::PartialObjectMeta;
use serde_json::json;

use crate::manager::Context;
use crate::objects::owners;
use crate::runtime::resource::DeleteOptions;
use crate::runtime::{Cluster, Controller, Error, ObjectKey, Outcome, Resource, WorkQueue};

pub use plan::{Remaining, conditions};

/// The finalizer that keeps a Namespace until it is empty.
const FINALIZER: &str = "kubernetes";
/// How soon to look again while things remain; what remains is mostly pods in their grace period.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Deletions under way at a time.
const CONCURRENCY: usize = 16;

type Metadata = PartialObjectMeta<DynamicObject>;

/// Empties Namespaces.
#[derive(Debug)]
pub struct NamespaceController {
    cluster: Cluster,
    kinds: Vec<Resource<Metadata>>,
}

/// Builds the controller and registers what wakes it.
pub fn register(context: &Context, queue: &WorkQueue) -> Arc<dyn Controller> {
    let cluster = context.cluster.clone();
    let own = queue.clone();
    cluster.namespaces.on_change(move |change| {
        if change.after.as_ref().is_some_and(|namespace| owners::is_terminating(&namespace.metadata)) {
            change.versions().take(1).for_each(|namespace| own.add(ObjectKey::of(&**namespace)));
        }
    });
    let (by_pod, namespaces) = (queue.clone(), cluster.namespaces.clone());
    cluster.pods.on_change(move |change| {
        let gone = change.before.as_ref().filter(|_| change.after.is_none());
        let Some(namespace) = gone.map(|pod| ObjectKey::cluster(owners::namespace(&pod.metadata))) else { return };
        let emptying = namespaces.cache().get(&namespace).is_some_and(|found| owners::is_terminating(&found.metadata));
        if emptying {
            by_pod.add(namespace);
        }
    });
    let namespaced = crate::objects::kinds::all().into_iter().filter(|kind| kind.namespaced);
    let kinds = namespaced.map(|kind| Resource::new(cluster.client.clone(), kind.resource, vec![], None)).collect();
    Arc::new(NamespaceController { cluster, kinds })
}

#[async_trait::async_trait]
impl Controller for NamespaceController {
    fn name(&self) -> &'static str {
        "namespace"
    }

    fn keys(&self) -> Vec<ObjectKey> {
        let mut all = self.cluster.namespaces.cache().all();
        all.retain(|namespace| owners::is_terminating(&namespace.metadata));
        all.iter().map(|namespace| ObjectKey::of(&**namespace)).collect()
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        self.cluster.namespaces.caught_up().await?;
        let Some(namespace) = self.cluster.namespaces.cache().get(key) else { return Ok(Outcome::DONE) };
        let finalizers = namespace.spec.as_ref().and_then(|spec| spec.finalizers.clone()).unwrap_or_default();
        let ours = finalizers.iter().any(|finalizer| finalizer == FINALIZER);
        if !owners::is_terminating(&namespace.metadata) || !ours {
            return Ok(Outcome::DONE);
        }
        let (remaining, failure) = self.empty(&key.name).await;
        if remaining.is_empty() && failure.is_none() {
            self.finalize(&namespace, finalizers).await?;
            return Ok(Outcome::DONE);
        }
        let now = self.cluster.environment.now();
        let mut after = (*namespace).clone();
        let status = after.status.get_or_insert_default();
        status.conditions =
            Some(conditions(status.conditions.take().unwrap_or_default(), &remaining, failure.as_ref(), now));
        self.cluster.namespaces.update(&namespace, &after, Some("status")).await?;
        failure.map_or(Ok(Outcome::after(Some(LOOK_AGAIN))), Err)
    }
}

impl NamespaceController {
    /// Deletes what is in a namespace; returns what is still there, and the first failure.
    async fn empty(&self, namespace: &str) -> (Vec<Remaining>, Option<Error>) {
        let (mut remaining, mut first_error) = (Vec::new(), None);
        for kind in &self.kinds {
            match self.empty_kind(kind, namespace).await {
                Ok(left) => remaining.extend(left),
                Err(error) => {
                    first_error.get_or_insert(error);
                }
            }
        }
        (remaining, first_error)
    }

    async fn empty_kind(&self, kind: &Resource<Metadata>, namespace: &str) -> Result<Option<Remaining>, Error> {
        let found = match kind.list_fresh(namespace).await {
            // A server that does not serve the kind has none of it.
            Err(error) if error.is_not_found() => return Ok(None),
            other => other?,
        };
        let mut doomed = Vec::new();
        for object in found.iter().filter(|object| !owners::is_terminating(&object.metadata)) {
            let propagation = Some(kube::api::PropagationPolicy::Background);
            let options = DeleteOptions { propagation, ..DeleteOptions::uid(owners::uid(&object.metadata)) };
            doomed.push((ObjectKey::new(namespace, owners::name(&object.metadata)), options));
        }
        for batch in doomed.chunks(CONCURRENCY) {
            let mut deletions = Vec::new();
            for (key, options) in batch {
                deletions.push(kind.delete(key, options).boxed());
            }
            futures::future::try_join_all(deletions).await?;
        }
        let left = if found.is_empty() { Vec::new() } else { kind.list_fresh(namespace).await? };
        let finalizers = left.iter().flat_map(|object| object.metadata.finalizers.clone().unwrap_or_default());
        let resource = kind.resource_name();
        Ok((!left.is_empty()).then(|| Remaining { resource, count: left.len(), finalizers: finalizers.collect() }))
    }

    async fn finalize(&self, namespace: &Namespace, mut finalizers: Vec<String>) -> Result<(), Error> {
        finalizers.retain(|finalizer| finalizer != FINALIZER);
        let mut after = namespace.clone();
        after.spec.get_or_insert_default().finalizers = Some(finalizers);
        let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": after.metadata, "spec": after.spec});
        self.cluster.namespaces.replace_subresource(namespace, "finalize", &body).await
    }
}
