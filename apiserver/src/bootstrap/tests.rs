//! What a new cluster holds, and what a second start leaves alone.

use drover_api::{decode, kinds};
use serde_json::{Value, json};

use super::{cluster, endpoints, plan_update, roles};
use crate::server::testing::TestServer;

#[test]
fn every_built_in_object_is_strictly_valid() {
    let address = "192.0.2.1:6443".parse().unwrap();
    let all = cluster::objects("10.96.0.1".parse().unwrap()).into_iter().chain(roles::objects());
    for wanted in all.chain(endpoints::objects(address, "kubernetes")) {
        let kind = kinds::by_gvk(wanted["apiVersion"].as_str().unwrap(), wanted["kind"].as_str().unwrap()).unwrap();
        let decoded = decode::check(kind, wanted.clone(), decode::FieldValidation::Strict);
        assert!(decoded.is_ok(), "{wanted}: {decoded:?}");
    }
}

#[test]
fn roles_are_brought_up_to_date_unless_told_not_to() {
    let role = |verb: &str, autoupdate: &str| {
        json!({"kind": "ClusterRole", "rules": [{"verbs": [verb]}],
            "metadata": {"name": "r", "annotations": {"rbac.authorization.kubernetes.io/autoupdate": autoupdate}}})
    };
    assert_eq!(plan_update(&role("get", "true"), &role("get", "true")), None);
    assert_eq!(plan_update(&role("get", "true"), &role("list", "true")), Some(role("list", "true")));
    assert_eq!(plan_update(&role("get", "false"), &role("list", "true")), None);
    let class = |policy: &str| json!({"kind": "StorageClass", "reclaimPolicy": policy});
    assert_eq!(plan_update(&class("Retain"), &class("Delete")), None);
}

#[tokio::test]
async fn a_new_cluster_has_its_namespaces_service_roles_and_classes() {
    let server = TestServer::start().await;
    let admin = server.admin();
    let names = async |path: &str| -> Vec<String> {
        let list = server.get(Some(&admin), path).await.json();
        let name = |item: &Value| item["metadata"]["name"].as_str().unwrap().to_owned();
        list["items"].as_array().unwrap_or_else(|| panic!("{path}: {list}")).iter().map(name).collect()
    };
    assert_eq!(names("/api/v1/namespaces").await, ["default", "kube-node-lease", "kube-public", "kube-system"]);
    let service = server.get(Some(&admin), "/api/v1/namespaces/default/services/kubernetes").await.json();
    assert_eq!(service["spec"]["clusterIP"], "10.96.0.1");
    let roles = names("/apis/rbac.authorization.k8s.io/v1/clusterroles").await;
    assert!(
        ["admin", "cluster-admin", "edit", "system:node", "view"].iter().all(|role| roles.iter().any(|r| r == role))
    );
    assert_eq!(names("/apis/storage.k8s.io/v1/storageclasses").await, ["local"]);
    server.stop().await;
}
