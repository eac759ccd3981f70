//! Lists: selectors, versions and pages.

use serde_json::json;

use crate::{
    registry::testing::{Server, config, pod},
    request::User,
};

const CONFIGS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test]
async fn selectors_choose_by_labels_and_fields() {
    let server = Server::start().await;
    let pods = "/api/v1/namespaces/default/pods";
    for name in ["a", "b", "c"] {
        let mut object = pod(name);
        object["metadata"]["labels"] = json!({"name": name, "app": "web"});
        assert_eq!(server.post(pods, &object).await.code, 201);
    }
    let path = |query: &str| format!("{pods}?{query}");
    assert_eq!(server.get(&path("labelSelector=name+in+(a,c)")).await.names(), ["a", "c"]);
    assert_eq!(server.get(&path("labelSelector=name!%3Da,app%3Dweb")).await.names(), ["b", "c"]);
    assert_eq!(server.get(&path("fieldSelector=metadata.name%3Db")).await.names(), ["b"]);
    assert_eq!(server.get(&path("fieldSelector=spec.nodeName!%3D")).await.names().len(), 0);
    assert_eq!(server.get("/api/v1/pods?fieldSelector=status.phase%3DPending").await.names(), ["a", "b", "c"]);
    assert_eq!(server.get(&path("fieldSelector=spec.nothing%3Db")).await.outcome(), "400 BadRequest");
    assert_eq!(server.get(&path("labelSelector=%3D%3D%3D")).await.outcome(), "400 BadRequest");
}

#[tokio::test]
async fn pages_show_one_moment_however_much_is_written_between_them() {
    let server = Server::start().await;
    for index in 0..10 {
        server.post(CONFIGS, &config(&format!("c{index}"), "old")).await;
    }
    let first = server.get(&format!("{CONFIGS}?limit=4")).await;
    assert_eq!(first.body["metadata"]["remainingItemCount"], 6);
    let mut names: Vec<String> = first.names().into_iter().map(str::to_owned).collect();
    let mut token = first.body["metadata"]["continue"].as_str().unwrap_or_default().to_owned();
    let mut step = 0;
    while !token.is_empty() {
        step += 1;
        server.delete(&format!("{CONFIGS}/c{}", 9 - step), &json!(null)).await;
        server.post(CONFIGS, &config(&format!("c5{step}"), "new")).await;
        server.put(&format!("{CONFIGS}/c9"), &config("c9", "new")).await;
        let page = server.get(&format!("{CONFIGS}?limit=4&continue={token}")).await;
        assert_eq!(page.version(), first.version());
        names.extend(page.names().into_iter().map(str::to_owned));
        assert!(page.body["items"].as_array().is_some_and(|items| items.iter().all(|item| item["data"]["v"] == "old")));
        token = page.body["metadata"]["continue"].as_str().unwrap_or_default().to_owned();
    }
    assert_eq!(names, (0..10).map(|index| format!("c{index}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_token_serves_only_the_query_it_was_made_for() {
    let server = Server::start().await;
    for name in ["a", "b", "c"] {
        server.post(CONFIGS, &config(name, "1")).await;
    }
    let page = server.get(&format!("{CONFIGS}?limit=1")).await;
    let token = page.body["metadata"]["continue"].as_str().unwrap_or_default();
    let with = |path: &str, query: &str| format!("{path}?limit=1&continue={token}{query}");
    assert_eq!(server.get(&with("/api/v1/namespaces/default/secrets", "")).await.outcome(), "400 BadRequest");
    assert_eq!(server.get(&with("/api/v1/configmaps", "")).await.outcome(), "400 BadRequest");
    assert_eq!(server.get(&with(CONFIGS, "&labelSelector=a%3Db")).await.outcome(), "400 BadRequest");
    assert_eq!(server.get(&with(CONFIGS, "x")).await.outcome(), "400 BadRequest");
    assert_eq!(server.get(&with(CONFIGS, "&resourceVersion=5")).await.outcome(), "400 BadRequest");
    let other = server.as_user(User::new("eve", &["system:masters"]));
    assert_eq!(other.get(&with(CONFIGS, "")).await.outcome(), "400 BadRequest");
    assert_eq!(server.get(&with(CONFIGS, "")).await.names(), ["b"]);
}

#[tokio::test(start_paused = true)]
async fn versions_are_exact_at_least_or_refused() {
    let server = Server::start().await;
    let first = server.post(CONFIGS, &config("a", "1")).await.version();
    server.post(CONFIGS, &config("b", "1")).await;
    let path = |query: &str| format!("{CONFIGS}?{query}");
    let exact = server.get(&path(&format!("resourceVersion={first}&resourceVersionMatch=Exact"))).await;
    assert_eq!((exact.names(), exact.version()), (vec!["a"], first));
    let newer = server.get(&path(&format!("resourceVersion={first}&resourceVersionMatch=NotOlderThan"))).await;
    assert_eq!(newer.names(), ["a", "b"]);
    assert_eq!(server.get(&path("resourceVersion=0")).await.names(), ["a", "b"]);
    let outcome = async |query: &str| server.get(&path(query)).await.outcome();
    assert_eq!(outcome("resourceVersion=0&resourceVersionMatch=Exact").await, "422 Invalid");
    assert_eq!(outcome("resourceVersionMatch=Exact").await, "422 Invalid");
    assert_eq!(outcome("resourceVersion=abc").await, "400 BadRequest");
    assert_eq!(outcome("resourceVersion=-1").await, "400 BadRequest");
    assert_eq!(outcome("resourceVersion=99999999999999999999").await, "400 BadRequest");
    assert_eq!(outcome("limit=x").await, "400 BadRequest");
    let future = server.get(&path("resourceVersion=18446744073709551615")).await;
    assert_eq!(future.outcome(), "504 Timeout");
    assert_eq!(future.body["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
    assert!(future.message().contains("Too large resource version"));
}
