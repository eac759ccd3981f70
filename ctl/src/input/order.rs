//! The order in which objects are applied: what others need comes first.

use drover_api::object;

use super::Document;

/// Sorts documents so that namespaces, classes, permissions and configuration precede claims, Services and workloads.
/// Documents of one rank keep their order.
pub(crate) fn by_dependency(documents: &mut [Document]) {
    documents.sort_by_key(|document| rank(object::str_at(&document.object, &["kind"])));
}

fn rank(kind: &str) -> u8 {
    match kind {
        "Namespace" => 0,
        "CustomResourceDefinition" => 1,
        "PriorityClass" | "StorageClass" => 2,
        "ServiceAccount" => 3,
        "ClusterRole" | "Role" => 4,
        "ClusterRoleBinding" | "RoleBinding" => 5,
        "ResourceQuota" | "LimitRange" | "NetworkPolicy" | "PodDisruptionBudget" => 6,
        "Secret" | "ConfigMap" => 7,
        "PersistentVolume" => 8,
        "PersistentVolumeClaim" => 9,
        "Service" => 10,
        "Pod" | "ReplicaSet" | "Deployment" | "StatefulSet" | "DaemonSet" | "Job" | "CronJob" => 11,
        // Last: what is not known may need anything.
        _ => 12,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_others_need_comes_first_and_equals_keep_their_order() {
        let kinds =
            ["Widget", "Deployment", "Service", "Pod", "ConfigMap", "Namespace", "PersistentVolumeClaim", "Role"];
        let document = |kind: &&str| Document { source: String::new(), number: 1, object: json!({"kind": kind}) };
        let mut documents: Vec<Document> = kinds.iter().map(document).collect();
        by_dependency(&mut documents);
        let sorted: Vec<&str> = documents.iter().map(|document| object::str_at(&document.object, &["kind"])).collect();
        assert_eq!(
            sorted,
            ["Namespace", "Role", "ConfigMap", "PersistentVolumeClaim", "Service", "Deployment", "Pod", "Widget"]
        );
    }
}
