//! Every verb, and how it refuses.

use serde_json::{Value, json};

use crate::registry::testing::{Server, config, pod};

const CONFIGS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

fn deployment(name: &str, replicas: i64) -> Value {
    json!({
        "kind": "Deployment", "apiVersion": "apps/v1", "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "main", "image": "hello:1"}]},
            },
        },
    })
}

#[tokio::test]
async fn an_object_lives_through_create_get_update_and_delete() {
    let server = Server::start().await;
    let created = server.post(CONFIGS, &config("a", "1")).await;
    assert_eq!(created.outcome(), "201");
    assert!(!created.body["metadata"]["uid"].as_str().unwrap_or_default().is_empty());
    assert_eq!(created.body["metadata"]["creationTimestamp"], "1970-01-01T00:00:00Z");
    let got = server.get(&format!("{CONFIGS}/a")).await;
    assert_eq!(got.body, created.body);
    let mut changed = got.body.clone();
    changed["data"]["v"] = "2".into();
    let updated = server.put(&format!("{CONFIGS}/a"), &changed).await;
    assert_eq!((updated.outcome().as_str(), updated.body["data"]["v"].as_str()), ("200", Some("2")));
    assert!(updated.version() > got.version());
    let deleted = server.delete(&format!("{CONFIGS}/a"), &Value::Null).await;
    assert_eq!(deleted.body["status"], "Success");
    assert_eq!(deleted.body["details"]["uid"], created.body["metadata"]["uid"]);
    let gone = server.get(&format!("{CONFIGS}/a")).await;
    assert_eq!((gone.outcome().as_str(), gone.message()), ("404 NotFound", "configmaps \"a\" not found"));
}

#[tokio::test]
async fn the_wire_form_is_compact_and_starts_with_kind() {
    let server = Server::start().await;
    server.post(CONFIGS, &config("a", "1")).await;
    let response = server.send("GET", &format!("{CONFIGS}/a"), "", String::new()).await;
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.expect("body");
    assert!(
        bytes.starts_with(br#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"resourceVersion":""#),
        "{bytes:?}"
    );
    assert!(!bytes.contains(&b'\n'));
    let pretty = server.send("GET", &format!("{CONFIGS}/a?pretty=true"), "", String::new()).await;
    let pretty = axum::body::to_bytes(pretty.into_body(), 1 << 20).await.expect("body");
    assert!(pretty.contains(&b'\n'));
}

#[tokio::test]
async fn a_name_in_use_is_refused_and_a_generated_one_is_not() {
    let server = Server::start().await;
    server.post(CONFIGS, &config("a", "1")).await;
    let again = server.post(CONFIGS, &config("a", "2")).await;
    assert_eq!((again.outcome().as_str(), again.message()), ("409 AlreadyExists", "configmaps \"a\" already exists"));
    let mut generated = config("", "1");
    generated["metadata"] = json!({"generateName": "job-"});
    let first = server.post(CONFIGS, &generated).await;
    let second = server.post(CONFIGS, &generated).await;
    assert_eq!((first.code, second.code), (201, 201));
    assert_ne!(first.body["metadata"]["name"], second.body["metadata"]["name"]);
    assert!(first.body["metadata"]["name"].as_str().unwrap_or_default().starts_with("job-"));
}

#[tokio::test]
async fn a_stale_update_conflicts_and_an_unconditional_one_wins() {
    let server = Server::start().await;
    let first = server.post(CONFIGS, &config("a", "1")).await.body;
    server.put(&format!("{CONFIGS}/a"), &config("a", "2")).await;
    let stale = server.put(&format!("{CONFIGS}/a"), &first).await;
    assert_eq!(stale.outcome(), "409 Conflict");
    assert_eq!(
        stale.message(),
        "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to the latest version and try again"
    );
    let mut other = config("a", "3");
    other["metadata"]["uid"] = "00000000-0000-0000-0000-000000000000".into();
    assert_eq!(server.put(&format!("{CONFIGS}/a"), &other).await.outcome(), "409 Conflict");
    assert_eq!(server.get(&format!("{CONFIGS}/a")).await.body["data"]["v"], "2");
}

#[tokio::test]
async fn an_update_without_effect_writes_nothing() {
    let server = Server::start().await;
    let created = server.post(DEPLOYMENTS, &deployment("d", 1)).await;
    let path = format!("{DEPLOYMENTS}/d");
    assert_eq!(server.put(&path, &deployment("d", 1)).await.version(), created.version());
    assert_eq!(server.put(&path, &created.body).await.version(), created.version());
    assert_eq!(server.patch(&path, "merge", &json!({"spec": {"replicas": 1}})).await.version(), created.version());
}

#[tokio::test]
async fn generation_counts_changes_of_the_spec_only() {
    let server = Server::start().await;
    let path = format!("{DEPLOYMENTS}/d");
    let generation = |answer: &crate::registry::testing::Answer| answer.body["metadata"]["generation"].clone();
    assert_eq!(generation(&server.post(DEPLOYMENTS, &deployment("d", 1)).await), 1);
    let labelled = server.patch(&path, "merge", &json!({"metadata": {"labels": {"x": "y"}}})).await;
    assert_eq!(generation(&labelled), 1);
    assert_eq!(generation(&server.patch(&path, "merge", &json!({"spec": {"replicas": 2}})).await), 2);
    let status = json!({"status": {"replicas": 2, "observedGeneration": 2}});
    assert_eq!(generation(&server.patch(&format!("{path}/status"), "merge", &status).await), 2);
}

#[tokio::test]
async fn spec_and_status_are_written_apart() {
    let server = Server::start().await;
    let path = format!("{DEPLOYMENTS}/d");
    let mut with_status = deployment("d", 1);
    with_status["status"] = json!({"replicas": 7});
    let created = server.post(DEPLOYMENTS, &with_status).await;
    assert!(created.body["status"].get("replicas").is_none(), "{}", created.body);
    let mut status = created.body.clone();
    status["status"] = json!({"replicas": 3});
    status["spec"]["replicas"] = 9.into();
    let updated = server.put(&format!("{path}/status"), &status).await;
    assert_eq!((&updated.body["status"]["replicas"], &updated.body["spec"]["replicas"]), (&json!(3), &json!(1)));
    let replaced = server.put(&path, &deployment("d", 2)).await;
    assert_eq!((&replaced.body["status"]["replicas"], &replaced.body["spec"]["replicas"]), (&json!(3), &json!(2)));
}

#[tokio::test]
async fn what_the_server_owns_cannot_be_written() {
    let server = Server::start().await;
    let created = server.post(CONFIGS, &config("a", "1")).await.body;
    let forged = json!({"metadata": {
        "creationTimestamp": "2001-01-01T00:00:00Z", "deletionTimestamp": "2001-01-01T00:00:00Z", "generation": 99,
        "managedFields": [{"manager": "m"}],
    }});
    let patched = server.patch(&format!("{CONFIGS}/a"), "merge", &forged).await;
    assert_eq!(patched.body, created);
    let mut versioned = config("b", "1");
    versioned["metadata"]["resourceVersion"] = "1".into();
    assert_eq!(server.post(CONFIGS, &versioned).await.outcome(), "400 BadRequest");
    let mut elsewhere = config("b", "1");
    elsewhere["metadata"]["namespace"] = "other".into();
    assert_eq!(server.post(CONFIGS, &elsewhere).await.outcome(), "400 BadRequest");
    assert_eq!(server.put(&format!("{CONFIGS}/a"), &config("b", "1")).await.outcome(), "400 BadRequest");
}

#[tokio::test]
async fn patches_of_three_types_apply_and_the_fourth_is_refused() {
    let server = Server::start().await;
    server.post(CONFIGS, &config("a", "1")).await;
    let path = format!("{CONFIGS}/a");
    let merged = server.patch(&path, "merge", &json!({"data": {"w": "2"}})).await;
    assert_eq!(merged.body["data"], json!({"v": "1", "w": "2"}));
    let operations = json!([{"op": "test", "path": "/data/w", "value": "2"}, {"op": "remove", "path": "/data/w"}]);
    assert_eq!(server.patch(&path, "json", &operations).await.body["data"], json!({"v": "1"}));
    assert_eq!(server.patch(&path, "json", &operations).await.outcome(), "422 Invalid");
    let strategic = server.patch(&path, "strategic", &json!({"data": {"v": null, "x": "3"}})).await;
    assert_eq!(strategic.body["data"], json!({"x": "3"}));
    let apply = server.send("PATCH", &path, "application/apply-patch+yaml", "{}").await;
    assert_eq!(apply.status(), 415);
    let stale = json!({"metadata": {"resourceVersion": "1"}, "data": {"x": "4"}});
    assert_eq!(server.patch(&path, "merge", &stale).await.outcome(), "409 Conflict");
    assert_eq!(server.patch(&format!("{CONFIGS}/none"), "merge", &json!({})).await.outcome(), "404 NotFound");
}

#[tokio::test]
async fn a_rehearsal_answers_like_the_write_and_stores_nothing() {
    let server = Server::start().await;
    let dry = |path: &str| format!("{path}?dryRun=All");
    assert_eq!(server.post(&dry(CONFIGS), &config("a", "1")).await.code, 201);
    assert_eq!(server.get(&format!("{CONFIGS}/a")).await.code, 404);
    let created = server.post(CONFIGS, &config("a", "1")).await;
    assert_eq!(server.post(&dry(CONFIGS), &config("a", "1")).await.outcome(), "409 AlreadyExists");
    let path = format!("{CONFIGS}/a");
    assert_eq!(server.put(&dry(&path), &config("a", "2")).await.body["data"]["v"], "2");
    assert_eq!(server.patch(&dry(&path), "merge", &json!({"data": {"v": "3"}})).await.body["data"]["v"], "3");
    assert_eq!(server.delete(&dry(&path), &Value::Null).await.code, 200);
    assert_eq!(server.delete(&path, &json!({"dryRun": ["All"]})).await.code, 200);
    assert_eq!(server.delete(&dry(CONFIGS), &Value::Null).await.code, 200);
    assert_eq!(server.get(&path).await.body, created.body);
    assert_eq!(server.post(&format!("{CONFIGS}?dryRun=Some"), &config("b", "1")).await.code, 422);
}

#[tokio::test]
async fn scale_reads_and_writes_the_replica_count_alone() {
    let server = Server::start().await;
    server.post(DEPLOYMENTS, &deployment("d", 1)).await;
    let path = format!("{DEPLOYMENTS}/d/scale");
    let scale = server.get(&path).await;
    assert_eq!(scale.body["kind"], "Scale");
    assert_eq!(scale.body["spec"], json!({"replicas": 1}));
    assert_eq!(scale.body["status"]["selector"], "app=web");
    assert_eq!(server.patch(&path, "merge", &json!({"spec": {"replicas": 5}})).await.body["spec"]["replicas"], 5);
    assert_eq!(server.put(&path, &scale.body).await.outcome(), "409 Conflict", "made from an older state");
    let mut unconditional = scale.body.clone();
    unconditional["metadata"] = json!({"name": "d"});
    unconditional["spec"]["replicas"] = 2.into();
    assert_eq!(server.put(&path, &unconditional).await.code, 200);
    assert_eq!(server.get(&format!("{DEPLOYMENTS}/d")).await.body["spec"]["replicas"], 2);
    assert_eq!(server.patch(&path, "merge", &json!({"spec": {"replicas": -1}})).await.outcome(), "422 Invalid");
}

#[tokio::test]
async fn verbs_and_paths_that_are_not_served_say_so() {
    let server = Server::start().await;
    assert_eq!(server.get("/api/v1/namespaces/default/nothings").await.outcome(), "404 NotFound");
    assert_eq!(server.get("/api/v1/namespaces/default/nodes").await.outcome(), "404 NotFound");
    assert_eq!(server.post(&format!("{CONFIGS}/a"), &config("a", "1")).await.outcome(), "405 MethodNotAllowed");
    assert_eq!(server.put(CONFIGS, &config("a", "1")).await.outcome(), "405 MethodNotAllowed");
    assert_eq!(server.delete("/api/v1/namespaces", &Value::Null).await.outcome(), "405 MethodNotAllowed");
    let yaml = server.send("POST", CONFIGS, "application/yaml", "a: &a [*a]").await;
    assert_eq!(yaml.status(), 415);
    let html = server.send_accepting("GET", CONFIGS, ("", "text/html"), String::new()).await;
    assert_eq!(html.status(), 406);
    let large = server.send("POST", CONFIGS, "application/json", vec![b' '; (3 << 20) + 1]).await;
    assert_eq!(large.status(), 413);
}

#[tokio::test]
async fn unknown_fields_are_refused_or_dropped_with_a_warning() {
    let server = Server::start().await;
    let mut odd = config("a", "1");
    odd["dada"] = json!({});
    let strict = server.post(&format!("{CONFIGS}?fieldValidation=Strict"), &odd).await;
    assert_eq!(strict.outcome(), "400 BadRequest");
    assert!(strict.message().contains("strict decoding error: unknown field \"dada\""), "{}", strict.message());
    let warned = server.post(CONFIGS, &odd).await;
    assert_eq!(warned.code, 201);
    let warning = warned.headers.get("warning").and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    assert_eq!(warning, r#"299 - "unknown field \"dada\"""#);
}

#[tokio::test]
async fn a_pod_is_bound_once_through_its_binding() {
    let server = Server::start().await;
    server.post(PODS, &pod("p")).await;
    let binding = |node: &str| json!({"kind": "Binding", "apiVersion": "v1", "metadata": {"name": "p"}, "target": {"kind": "Node", "name": node}});
    let path = format!("{PODS}/p/binding");
    assert_eq!(server.post(&path, &binding("n1")).await.code, 201);
    assert_eq!(server.post(&path, &binding("n2")).await.outcome(), "409 Conflict");
    let bound = server.get(&format!("{PODS}/p")).await;
    assert_eq!(bound.body["spec"]["nodeName"], "n1");
    assert_eq!(bound.body["status"]["conditions"][0]["type"], "PodScheduled");
}

#[tokio::test]
async fn objects_come_as_tables_and_as_metadata_alone() {
    const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    const METADATA: &str = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
    const LIST: &str = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    let server = Server::start().await;
    server.post(CONFIGS, &config("a", "1")).await;
    let table = server.get_as(CONFIGS, TABLE).await.body;
    assert_eq!((&table["kind"], &table["apiVersion"]), (&json!("Table"), &json!("meta.k8s.io/v1")));
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    assert_eq!(table["rows"][0]["object"]["metadata"]["name"], "a");
    let bare = server.get_as(&format!("{CONFIGS}?includeObject=None"), TABLE).await.body;
    assert!(bare["rows"][0].get("object").is_none());
    let full = server.get_as(&format!("{CONFIGS}/a?includeObject=Object"), TABLE).await.body;
    assert_eq!(full["rows"][0]["object"]["data"]["v"], "1");
    let metadata = server.get_as(&format!("{CONFIGS}/a"), METADATA).await.body;
    assert_eq!((&metadata["kind"], metadata.get("data")), (&json!("PartialObjectMetadata"), None));
    let list = server.get_as(CONFIGS, LIST).await.body;
    assert_eq!(
        (&list["kind"], &list["items"][0]["metadata"]["name"]),
        (&json!("PartialObjectMetadataList"), &json!("a"))
    );
}

#[tokio::test]
async fn both_views_of_an_event_show_the_same_object() {
    let server = Server::start().await;
    let event = json!({
        "kind": "Event", "apiVersion": "v1", "metadata": {"name": "e"}, "reason": "Started", "message": "m", "type": "Normal",
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"}, "source": {"component": "c"},
    });
    let created = server.post("/api/v1/namespaces/default/events", &event).await;
    assert_eq!(created.code, 201, "{}", created.body);
    let path = "/apis/events.k8s.io/v1/namespaces/default/events";
    let view = server.get(&format!("{path}/e")).await.body;
    assert_eq!(
        (&view["apiVersion"], &view["note"], &view["regarding"]["name"]),
        (&json!("events.k8s.io/v1"), &json!("m"), &json!("p"))
    );
    assert_eq!(server.get(&format!("{path}?fieldSelector=regarding.name=p")).await.names(), ["e"]);
    assert_eq!(server.get(&format!("{path}?fieldSelector=regarding.name=q")).await.names().len(), 0);
    let series = json!({"series": {"count": 2, "lastObservedTime": "2020-01-01T00:00:00.000000Z"}});
    assert_eq!(server.patch(&format!("{path}/e"), "merge", &series).await.body["series"]["count"], 2);
    let delete = server.delete(&format!("{path}/e"), &Value::Null).await;
    assert_eq!(delete.code, 200);
    assert_eq!(server.get("/api/v1/namespaces/default/events/e").await.code, 404);
}
