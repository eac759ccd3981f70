//! What all agents are told: a text on an annotation of a Lease of its own in `kube-node-lease`.

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::ObjectMeta;
use serde_json::json;

use super::heartbeats::NODE_LEASES;
use crate::runtime::{Cluster, Error, ObjectKey};

/// Publishes a text, unless it is what the cache shows.
///
/// # Errors
/// Those of the API; a conflict when the cache lags behind.
pub async fn publish(cluster: &Cluster, lease: &str, annotation: &str, text: String) -> Result<(), Error> {
    let key = ObjectKey::new(NODE_LEASES, lease);
    let Some(lease) = cluster.leases.cache().get(&key) else {
        let metadata = ObjectMeta {
            name: Some(key.name),
            namespace: Some(key.namespace),
            annotations: Some([(annotation.to_owned(), text)].into()),
            ..ObjectMeta::default()
        };
        return cluster.leases.create(&Lease { metadata, spec: None }).await.map(drop);
    };
    let published = lease.metadata.annotations.as_ref().and_then(|annotations| annotations.get(annotation));
    if published == Some(&text) {
        return Ok(());
    }
    let patch = json!({"metadata": {"annotations": {annotation: text}}});
    cluster.leases.patch(&lease, patch, None).await.map(drop)
}
