//! Validation, worded as Kubernetes words it, one hook a kind.
//!
//! Every hook reads a decoded and defaulted object through a [`cursor::At`], which knows the path of the field it
//! stands on, and reports into [`report::Errors`], which is bounded. All problems of an object are reported at once.
//! Nothing here looks at other objects or at cluster settings; what depends on those is admission's.

use serde_json::Value;

use crate::{kinds::Kind, status::FieldError};

mod affinity;
mod config;
mod container;
mod cursor;
mod endpoints;
mod event;
mod ingress;
mod join;
mod metadata;
mod node;
mod pod;
mod pod_update;
mod policy;
mod probe;
mod rbac;
mod report;
mod resources;
mod review;
mod selector;
mod service;
mod storage;
mod volume;
mod workload;

pub use service::node_ports;

use cursor::At;
use report::Errors;

/// Checks a defaulted object that is to be created.
pub fn create(kind: &Kind, object: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    let root = At::root(object);
    metadata::create(kind, &root, &mut errors);
    whole(kind, &root, &mut errors);
    match (kind.group, kind.kind) {
        ("", "Pod") => pod::create(&root, &mut errors),
        ("networking.k8s.io", "Ingress") => ingress::create(&root, &mut errors),
        _ => {}
    }
    errors.into_list()
}

/// Checks a defaulted object that is to replace `old`: [`create`]'s rules plus the immutable fields.
pub fn update(kind: &Kind, object: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    let (root, old) = (At::root(object), At::root(old));
    metadata::update(kind, &root, &old, &mut errors);
    whole(kind, &root, &mut errors);
    match (kind.group, kind.kind) {
        ("", "Pod") => pod_update::update(&root, &old, &mut errors),
        ("", "Service") => service::update(&root, &old, &mut errors),
        ("", "Secret") => config::secret_update(&root, &old, &mut errors),
        ("", "ConfigMap") => config::config_map_update(&root, &old, &mut errors),
        ("", "Node") => node::update(&root, &old, &mut errors),
        ("", "PersistentVolume") => storage::persistent_volume_update(&root, &old, &mut errors),
        ("", "PersistentVolumeClaim") => storage::persistent_volume_claim_update(&root, &old, &mut errors),
        ("storage.k8s.io", "StorageClass") => storage::storage_class_update(&root, &old, &mut errors),
        ("apps", "Deployment" | "ReplicaSet") => workload::update(&root, &old, &mut errors),
        ("apps", "ControllerRevision") => workload::controller_revision_update(&root, &old, &mut errors),
        ("discovery.k8s.io", "EndpointSlice") => endpoints::endpoint_slice_update(&root, &old, &mut errors),
        ("networking.k8s.io", "IngressClass") => ingress::class_update(&root, &old, &mut errors),
        ("scheduling.k8s.io", "PriorityClass") => policy::priority_class_update(&root, &old, &mut errors),
        ("drover.dev", "JoinToken") => join::token_update(&root, &old, &mut errors),
        ("drover.dev", "NodeKey") => join::node_key_update(&root, &old, &mut errors),
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => {
            rbac::binding_update(&root, &old, &mut errors);
        }
        _ => {}
    }
    errors.into_list()
}

/// Checks a write to the `status` subresource.
pub fn update_status(kind: &Kind, object: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    let (root, old) = (At::root(object), At::root(old));
    metadata::update(kind, &root, &old, &mut errors);
    match (kind.group, kind.kind) {
        ("", "Pod") => pod_update::update_status(&root, &old, &mut errors),
        ("", "Node") => node::status(&root, &mut errors),
        ("apps", "Deployment") => workload::deployment_status(&root, &old, &mut errors),
        ("apps", "ReplicaSet") => workload::replica_set_status(&root, &mut errors),
        ("networking.k8s.io", "Ingress") => ingress::status(&root, &mut errors),
        ("policy", "PodDisruptionBudget") => policy::disruption_budget_status(&root, &mut errors),
        ("drover.dev", "JoinToken") => join::token_status(&root, &mut errors),
        _ => {}
    }
    errors.into_list()
}

/// The rules that hold for an object of a kind at any time.
fn whole(kind: &Kind, root: &At<'_, '_>, errors: &mut Errors) {
    match (kind.group, kind.kind) {
        ("", "Pod") => pod::pod(root, errors),
        ("", "Service") => service::service(root, errors),
        ("", "Endpoints") => endpoints::endpoints(root, errors),
        ("", "ConfigMap") => config::config_map(root, errors),
        ("", "Secret") => config::secret(root, errors),
        ("", "Namespace") => metadata::namespace(root, errors),
        ("", "Node") => node::node(root, errors),
        ("", "PersistentVolume") => storage::persistent_volume(root, errors),
        ("", "PersistentVolumeClaim") => storage::persistent_volume_claim(root, errors),
        ("", "Event") => event::core(root, errors),
        ("", "Binding") => review::binding(root, errors),
        ("events.k8s.io", "Event") => event::events(root, errors),
        ("apps", "Deployment") => workload::deployment(root, errors),
        ("apps", "ReplicaSet") => workload::replica_set(root, errors),
        ("apps", "ControllerRevision") => workload::controller_revision(root, errors),
        ("autoscaling", "Scale") => review::scale(root, errors),
        ("discovery.k8s.io", "EndpointSlice") => endpoints::endpoint_slice(root, errors),
        ("coordination.k8s.io", "Lease") => policy::lease(root, errors),
        ("networking.k8s.io", "Ingress") => ingress::ingress(root, errors),
        ("networking.k8s.io", "IngressClass") => ingress::class(root, errors),
        ("policy", "PodDisruptionBudget") => policy::disruption_budget(root, errors),
        ("drover.dev", "JoinToken") => join::token(root, errors),
        ("drover.dev", "NodeKey") => join::node_key(root, errors),
        ("scheduling.k8s.io", "PriorityClass") => policy::priority_class(root, errors),
        ("storage.k8s.io", "StorageClass") => storage::storage_class(root, errors),
        ("rbac.authorization.k8s.io", "Role") => rbac::role(root, errors),
        ("rbac.authorization.k8s.io", "ClusterRole") => rbac::cluster_role(root, errors),
        ("rbac.authorization.k8s.io", "RoleBinding") => rbac::role_binding(root, errors),
        ("rbac.authorization.k8s.io", "ClusterRoleBinding") => rbac::cluster_role_binding(root, errors),
        ("authentication.k8s.io", "TokenRequest") => review::token_request(root, errors),
        ("authentication.k8s.io", "TokenReview") => review::token_review(root, errors),
        ("authorization.k8s.io", "SelfSubjectAccessReview") => review::self_access_review(root, errors),
        ("authorization.k8s.io", "SubjectAccessReview" | "LocalSubjectAccessReview") => {
            review::access_review(root, errors);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
