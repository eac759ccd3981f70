//! The columns that `kubectl get` shows (`meta.k8s.io/v1` Table), one printer a kind.
//!
//! Wide columns are always there, with priority 1: the client chooses. A kind without a printer shows its name and age.

use serde_json::Value;

use crate::{kinds::Kind, object};

mod age;
mod cluster;
mod column;
mod event;
mod ingress;
mod join;
mod pod;
mod rbac;
mod service;
mod storage;
mod workload;

pub use age::human_duration;
pub use pod::{Status as PodStatus, status as pod_status};

use column::{AGE, NAME, Printer};

/// One column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Heading, for example `Ready`.
    pub name: &'static str,
    /// `string`, `integer`, `date`.
    pub kind: &'static str,
    /// `name` for the name column, else empty.
    pub format: &'static str,
    /// One sentence.
    pub description: &'static str,
    /// 0 always shown, 1 only with `-o wide`.
    pub priority: u8,
}

/// Returns the columns of a kind.
pub fn columns(kind: &Kind) -> Vec<Column> {
    printer(kind).columns.to_vec()
}

/// Returns the cells of one object, one for each of [`columns`]. `now_secs` is Unix time, for ages.
pub fn cells(kind: &Kind, object: &Value, now_secs: i64) -> Vec<Value> {
    (printer(kind).cells)(object, now_secs)
}

fn printer(kind: &Kind) -> Printer {
    match (kind.group, kind.kind) {
        ("", "Pod") => pod::POD,
        ("", "Service") => service::SERVICE,
        ("", "Endpoints") => service::ENDPOINTS,
        ("", "Node") => cluster::NODE,
        ("", "Namespace") => cluster::NAMESPACE,
        ("", "ConfigMap") => cluster::CONFIG_MAP,
        ("", "Secret") => cluster::SECRET,
        ("", "ServiceAccount") => cluster::SERVICE_ACCOUNT,
        ("", "PersistentVolume") => storage::PERSISTENT_VOLUME,
        ("", "PersistentVolumeClaim") => storage::PERSISTENT_VOLUME_CLAIM,
        ("" | "events.k8s.io", "Event") => event::EVENT,
        ("apps", "Deployment") => workload::DEPLOYMENT,
        ("apps", "ReplicaSet") => workload::REPLICA_SET,
        ("apps", "ControllerRevision") => workload::CONTROLLER_REVISION,
        ("discovery.k8s.io", "EndpointSlice") => service::ENDPOINT_SLICE,
        ("coordination.k8s.io", "Lease") => cluster::LEASE,
        ("drover.dev", "JoinToken") => join::TOKEN,
        ("drover.dev", "NodeKey") => join::NODE_KEY,
        ("networking.k8s.io", "Ingress") => ingress::INGRESS,
        ("networking.k8s.io", "IngressClass") => ingress::CLASS,
        ("policy", "PodDisruptionBudget") => workload::DISRUPTION_BUDGET,
        ("scheduling.k8s.io", "PriorityClass") => cluster::PRIORITY_CLASS,
        ("storage.k8s.io", "StorageClass") => storage::STORAGE_CLASS,
        ("rbac.authorization.k8s.io", "Role" | "ClusterRole") => rbac::ROLE,
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => rbac::BINDING,
        _ => GENERIC,
    }
}

const GENERIC: Printer = Printer { columns: &[NAME, AGE], cells: generic };

fn generic(object: &Value, now_secs: i64) -> Vec<Value> {
    vec![object::name(object).into(), age::of(object, now_secs).into()]
}

#[cfg(test)]
mod tests;
