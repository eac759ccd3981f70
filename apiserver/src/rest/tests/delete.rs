//! Deletion: grace, finalizers, preconditions, collections, namespaces.

use serde_json::{Value, json};

use crate::registry::testing::{Server, config, pod};

const CONFIGS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";

async fn bound_pod(server: &Server, name: &str) -> Value {
    server.post(PODS, &pod(name)).await;
    let binding = json!({"kind": "Binding", "apiVersion": "v1", "metadata": {"name": name}, "target": {"name": "n1"}});
    assert_eq!(server.post(&format!("{PODS}/{name}/binding"), &binding).await.code, 201);
    server.get(&format!("{PODS}/{name}")).await.body
}

#[tokio::test]
async fn a_bound_pod_stays_until_its_agent_is_done() {
    let server = Server::start().await;
    let created = bound_pod(&server, "p").await;
    let path = format!("{PODS}/p");
    let marked =
        server.delete(&path, &json!({"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 7})).await;
    assert_eq!(marked.code, 200);
    assert_eq!(marked.body["kind"], "Pod");
    assert_eq!(marked.body["metadata"]["deletionGracePeriodSeconds"], 7);
    assert_eq!(marked.body["metadata"]["deletionTimestamp"], "1970-01-01T00:00:07Z");
    let again = server.delete(&path, &Value::Null).await;
    assert_eq!(again.body["metadata"]["resourceVersion"], marked.body["metadata"]["resourceVersion"]);
    let other = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": "other"}});
    assert_eq!(server.delete(&path, &other).await.outcome(), "409 Conflict");
    let done = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": created["metadata"]["uid"]}});
    assert_eq!(server.delete(&path, &done).await.body["kind"], "Pod");
    assert_eq!(server.get(&path).await.code, 404);
}

#[tokio::test]
async fn an_unbound_pod_goes_at_once() {
    let server = Server::start().await;
    server.post(PODS, &pod("p")).await;
    assert_eq!(server.delete(&format!("{PODS}/p"), &Value::Null).await.body["kind"], "Pod");
    assert_eq!(server.get(&format!("{PODS}/p")).await.code, 404);
}

#[tokio::test]
async fn the_last_finalizer_completes_the_deletion() {
    let server = Server::start().await;
    let mut held = config("a", "1");
    held["metadata"]["finalizers"] = json!(["example.com/x", "example.com/y"]);
    server.post(CONFIGS, &held).await;
    let path = format!("{CONFIGS}/a");
    let mut watch = server.watch(&format!("{CONFIGS}?watch=true")).await;
    assert_eq!(watch.told().await, "ADDED a 1");
    let marked = server.delete(&path, &Value::Null).await;
    assert!(marked.body["metadata"]["deletionTimestamp"].is_string());
    let taken = server.post(CONFIGS, &config("a", "2")).await;
    assert_eq!(taken.message(), "object is being deleted: configmaps \"a\" already exists");
    server.patch(&path, "merge", &json!({"metadata": {"finalizers": ["example.com/y"]}})).await;
    assert_eq!(server.get(&path).await.code, 200);
    assert_eq!(server.patch(&path, "merge", &json!({"metadata": {"finalizers": null}})).await.code, 200);
    assert_eq!(server.get(&path).await.code, 404);
    for expected in ["MODIFIED a 1", "MODIFIED a 1", "DELETED a 1"] {
        assert_eq!(watch.told().await, expected);
    }
}

#[tokio::test]
async fn propagation_chooses_the_garbage_collectors_finalizer() {
    let server = Server::start().await;
    for (policy, finalizer) in [("Foreground", "foregroundDeletion"), ("Orphan", "orphan")] {
        server.post(CONFIGS, &config("a", "1")).await;
        let path = format!("{CONFIGS}/a");
        let marked = server.delete(&path, &json!({"propagationPolicy": policy})).await;
        assert_eq!(marked.body["metadata"]["finalizers"], json!([finalizer]));
        let removed = server.delete(&format!("{path}?propagationPolicy=Background"), &Value::Null).await;
        assert_eq!(removed.body["status"], "Success");
    }
    server.post(CONFIGS, &config("a", "1")).await;
    let odd = server.delete(&format!("{CONFIGS}/a"), &json!({"propagationPolicy": "Sideways"})).await;
    assert_eq!(odd.outcome(), "422 Invalid");
}

#[tokio::test]
async fn preconditions_guard_a_deletion() {
    let server = Server::start().await;
    let created = server.post(CONFIGS, &config("a", "1")).await;
    server.put(&format!("{CONFIGS}/a"), &config("a", "2")).await;
    let stale = json!({"preconditions": {"resourceVersion": created.body["metadata"]["resourceVersion"]}});
    let refused = server.delete(&format!("{CONFIGS}/a"), &stale).await;
    assert_eq!(refused.outcome(), "409 Conflict");
    assert!(
        refused.message().contains("Precondition failed: ResourceVersion in precondition:"),
        "{}",
        refused.message()
    );
    server.delete(&format!("{CONFIGS}/a"), &json!({})).await;
    server.post(CONFIGS, &config("a", "3")).await;
    let of_another = json!({"preconditions": {"uid": created.body["metadata"]["uid"]}});
    assert_eq!(
        server.delete(&format!("{CONFIGS}/a"), &of_another).await.outcome(),
        "409 Conflict",
        "the next of the name"
    );
    assert_eq!(server.get(&format!("{CONFIGS}/a")).await.code, 200);
}

#[tokio::test]
async fn a_collection_is_deleted_by_selection() {
    let server = Server::start().await;
    for name in ["a", "b", "c"] {
        let mut object = config(name, "1");
        object["metadata"]["labels"] = json!({"keep": (name == "b").to_string()});
        server.post(CONFIGS, &object).await;
    }
    let deleted = server.delete(&format!("{CONFIGS}?labelSelector=keep%3Dfalse"), &Value::Null).await;
    assert_eq!((deleted.code, deleted.names()), (200, vec!["a", "c"]));
    assert_eq!(server.get(CONFIGS).await.names(), ["b"]);
}

#[tokio::test]
async fn a_namespace_terminates_refuses_new_objects_and_goes_when_finalized() {
    let server = Server::start().await;
    let namespace = json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "x"}});
    let created = server.post("/api/v1/namespaces", &namespace).await;
    assert_eq!(created.body["spec"]["finalizers"], json!(["kubernetes"]));
    assert_eq!(created.body["status"]["phase"], "Active");
    let path = "/api/v1/namespaces/x";
    let marked = server.delete(path, &Value::Null).await;
    assert_eq!(marked.body["status"]["phase"], "Terminating");
    let late = server.post(&format!("{path}/configmaps"), &config("a", "1")).await;
    assert_eq!(late.outcome(), "403 Forbidden");
    assert_eq!(
        late.message(),
        "configmaps \"a\" is forbidden: unable to create new content in namespace x because it is being terminated"
    );
    assert_eq!(late.body["details"]["causes"][0]["reason"], "NamespaceTerminating");
    let mut finalized = marked.body.clone();
    finalized["spec"]["finalizers"] = json!([]);
    assert_eq!(server.put(&format!("{path}/finalize"), &finalized).await.code, 200);
    assert_eq!(server.get(path).await.code, 404);
    let absent = server.post("/api/v1/namespaces/x/configmaps", &config("a", "1")).await;
    assert_eq!((absent.outcome().as_str(), absent.message()), ("404 NotFound", "namespaces \"x\" not found"));
}
