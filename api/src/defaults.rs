//! Defaulting, as Kubernetes does it, one hook a kind.
//!
//! Runs on every object that enters, at create and at update, before validation. It fills in what was left out and
//! never overwrites; running it again changes nothing. It reads no clock, no other object and no cluster setting:
//! what depends on those (cluster addresses, the default StorageClass, priorities) is admission's.

use serde_json::Value;

use crate::kinds::Kind;

mod cluster;
mod edit;
mod pod;
mod service;
mod storage;
mod workload;

pub use pod::qos_class;

/// Fills in what the user left out. Idempotent; never overwrites.
pub fn apply(kind: &Kind, object: &mut Value) {
    let Some(fields) = object.as_object_mut() else {
        return;
    };
    match (kind.group, kind.kind) {
        ("", "Pod") => pod::pod(fields),
        ("", "Service") => service::service(fields),
        ("", "Endpoints") => service::endpoints(fields),
        ("", "Namespace") => cluster::namespace(fields),
        ("", "Node") => cluster::node(fields),
        ("", "Secret") => storage::secret(fields),
        ("", "PersistentVolume") => storage::persistent_volume(fields),
        ("", "PersistentVolumeClaim") => storage::persistent_volume_claim(fields),
        ("apps", "Deployment") => workload::deployment(fields),
        ("apps", "ReplicaSet") => workload::replica_set(fields),
        ("discovery.k8s.io", "EndpointSlice") => service::endpoint_slice(fields),
        ("networking.k8s.io", "IngressClass") => cluster::ingress_class(fields),
        ("storage.k8s.io", "StorageClass") => storage::storage_class(fields),
        ("scheduling.k8s.io", "PriorityClass") => cluster::priority_class(fields),
        ("drover.dev", "JoinToken") => cluster::join_token(fields),
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => cluster::role_binding(fields),
        ("authentication.k8s.io", "TokenRequest") => cluster::token_request(fields),
        _ => {}
    }
}

#[cfg(test)]
pub(crate) mod arbitrary;
#[cfg(test)]
mod tests;
