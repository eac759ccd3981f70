//! Watches: where they start, what they tell, how they end.

use serde_json::json;

use crate::registry::testing::{Server, config};

const CONFIGS: &str = "/api/v1/namespaces/default/configmaps";

async fn put(server: &Server, name: &str, value: &str) -> u64 {
    let path = format!("{CONFIGS}/{name}");
    let updated = server.put(&path, &config(name, value)).await;
    if updated.code == 200 { updated.version() } else { server.post(CONFIGS, &config(name, value)).await.version() }
}

#[tokio::test]
async fn a_watch_starts_with_the_present_and_goes_on_with_changes() {
    let server = Server::start().await;
    put(&server, "a", "1").await;
    let mut watch = server.watch(&format!("{CONFIGS}?watch=true")).await;
    assert_eq!(watch.told().await, "ADDED a 1");
    put(&server, "a", "2").await;
    put(&server, "b", "1").await;
    server.delete(&format!("{CONFIGS}/a"), &json!(null)).await;
    assert_eq!(watch.told().await, "MODIFIED a 2");
    assert_eq!(watch.told().await, "ADDED b 1");
    let deleted = watch.next().await.expect("open");
    assert_eq!((&deleted["type"], &deleted["object"]["data"]["v"]), (&json!("DELETED"), &json!("2")));
    let list = server.get(CONFIGS).await;
    assert_eq!(deleted["object"]["metadata"]["resourceVersion"], list.body["metadata"]["resourceVersion"]);
}

#[tokio::test]
async fn a_watch_resumes_after_any_recent_revision() {
    let server = Server::start().await;
    let first = put(&server, "a", "1").await;
    put(&server, "a", "2").await;
    put(&server, "a", "3").await;
    let mut watch = server.watch(&format!("{CONFIGS}?watch=true&resourceVersion={first}")).await;
    assert_eq!(watch.told().await, "MODIFIED a 2");
    assert_eq!(watch.told().await, "MODIFIED a 3");
}

#[tokio::test]
async fn leaving_a_selection_is_a_deletion_and_entering_one_an_addition() {
    let server = Server::start().await;
    let labelled = |value: &str, app: &str| {
        let mut object = config("a", value);
        object["metadata"]["labels"] = json!({"app": app});
        object
    };
    server.post(CONFIGS, &labelled("1", "other")).await;
    let mut watch = server.watch(&format!("{CONFIGS}?watch=true&labelSelector=app%3Dweb")).await;
    for (value, app) in [("2", "web"), ("3", "web"), ("4", "other"), ("5", "other"), ("6", "web")] {
        server.put(&format!("{CONFIGS}/a"), &labelled(value, app)).await;
    }
    server.delete(&format!("{CONFIGS}/a"), &json!(null)).await;
    for expected in ["ADDED a 2", "MODIFIED a 3", "DELETED a 3", "ADDED a 6", "DELETED a 6"] {
        assert_eq!(watch.told().await, expected);
    }
}

#[tokio::test]
async fn history_that_is_gone_is_an_error_event() {
    let server = Server::start().await;
    put(&server, "a", "1").await;
    let mut watch = server.watch(&format!("{CONFIGS}?watch=true&resourceVersion=1")).await;
    let frame = watch.next().await.expect("an error");
    assert_eq!(
        (&frame["type"], &frame["object"]["code"], &frame["object"]["reason"]),
        (&json!("ERROR"), &json!(410), &json!("Expired"))
    );
    let message = frame["object"]["message"].as_str().unwrap_or_default();
    assert!(message.starts_with("too old resource version: 1 ("), "{message}");
    assert_eq!(watch.told().await, "END");
}

#[tokio::test(start_paused = true)]
async fn a_watch_from_the_future_is_refused() {
    let server = Server::start().await;
    let future = server.get(&format!("{CONFIGS}?watch=true&resourceVersion=99999999999999")).await;
    assert_eq!(future.outcome(), "504 Timeout");
}

#[tokio::test(start_paused = true)]
async fn bookmarks_come_every_minute_and_at_the_end_and_never_before_their_events() {
    let server = Server::start().await;
    let first = put(&server, "a", "1").await;
    let query = format!("watch=true&allowWatchBookmarks=true&timeoutSeconds=90&resourceVersion={first}");
    let mut watch = server.watch(&format!("{CONFIGS}?{query}")).await;
    assert_eq!(watch.told().await, format!("BOOKMARK {first}"));
    let second = put(&server, "a", "2").await;
    assert_eq!(watch.told().await, "MODIFIED a 2");
    assert_eq!(watch.told().await, format!("BOOKMARK {second}"), "the last one, at the time-out");
    assert_eq!(watch.told().await, "END");
}

#[tokio::test(start_paused = true)]
async fn a_watch_without_bookmarks_just_ends() {
    let server = Server::start().await;
    let mut watch = server.watch(&format!("{CONFIGS}?watch=true&timeoutSeconds=100")).await;
    assert_eq!(watch.told().await, "END");
}

#[tokio::test]
async fn initial_events_end_with_an_annotated_bookmark() {
    let server = Server::start().await;
    put(&server, "a", "1").await;
    let query = "watch=true&sendInitialEvents=true&allowWatchBookmarks=true";
    let mut watch = server.watch(&format!("{CONFIGS}?{query}&resourceVersionMatch=NotOlderThan")).await;
    assert_eq!(watch.told().await, "ADDED a 1");
    let bookmark = watch.next().await.expect("open");
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(bookmark["object"]["metadata"]["annotations"], json!({"k8s.io/initial-events-end": "true"}));
    put(&server, "a", "2").await;
    assert_eq!(watch.told().await, "MODIFIED a 2");
    assert_eq!(server.get(&format!("{CONFIGS}?{query}")).await.outcome(), "422 Invalid");
}

#[tokio::test]
async fn a_table_watch_names_its_columns_once() {
    let server = Server::start().await;
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let mut watch = server.watch_as(&format!("{CONFIGS}?watch=true"), table).await;
    put(&server, "a", "1").await;
    put(&server, "a", "2").await;
    let columns = |frame: serde_json::Value| frame["object"]["columnDefinitions"].as_array().map(Vec::len);
    let (first, second) = (watch.next().await.expect("open"), watch.next().await.expect("open"));
    assert_eq!(first["object"]["rows"][0]["object"]["metadata"]["name"], "a");
    let all = drover_api::table::columns(crate::registry::testing::kind("", "configmaps")).len();
    assert_eq!(columns(first), Some(all));
    assert_eq!(columns(second), Some(0));
}

#[tokio::test]
async fn leases_have_revisions_of_their_own() {
    let server = Server::start().await;
    let leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    let lease = json!({"kind": "Lease", "apiVersion": "coordination.k8s.io/v1", "metadata": {"name": "n"}, "spec": {"holderIdentity": "x"}});
    let created = server.post(leases, &lease).await;
    assert!(created.version() > 1 << 32, "{}", created.body);
    let unconditional = server.put(&format!("{leases}/n"), &lease).await;
    assert_eq!(unconditional.outcome(), "422 Invalid");
    let mut watch = server.watch(&format!("{leases}?watch=true&resourceVersion={}", created.version())).await;
    server.patch(&format!("{leases}/n"), "merge", &json!({"spec": {"holderIdentity": "y"}})).await;
    assert_eq!(watch.next().await.expect("open")["object"]["spec"]["holderIdentity"], "y");
}
