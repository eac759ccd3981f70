//! Several real servers on one store, over real TLS.

use std::{path::Path, sync::Arc, time::Duration};

use drover_store::{Backend, Operation, Transaction};
use http::Method;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::record::OWNER;
use crate::{
    front::Body,
    pki::Identity,
    server::{Error, testing::TestServer},
    tunnel::testing,
    volatile::Volatile,
};

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces";
const EVENTS: &str = "/api/v1/namespaces/default/events";

fn store() -> Arc<dyn Backend> {
    Arc::new(Volatile::new(1, Vec::new()))
}

/// A data directory with the authority of another one, as an operator makes it.
fn joined(first: &Path) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let pki = dir.path().join("pki");
    std::fs::create_dir(&pki).unwrap();
    std::fs::set_permissions(&pki, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    for file in ["ca.crt", "ca.key", "service-account.key", "sealing.keys"] {
        std::fs::copy(first.join("pki").join(file), pki.join(file)).unwrap();
    }
    dir
}

async fn pair(backend: &Arc<dyn Backend>) -> (TestServer, TestServer) {
    let first = TestServer::start_with(tempfile::tempdir().unwrap(), Arc::clone(backend), true).await.unwrap();
    let dir = joined(first.data_dir.path());
    let second = TestServer::start_with(dir, Arc::clone(backend), true).await.unwrap();
    (first, second)
}

fn lease(name: &str, holder: &str) -> Value {
    json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}, "spec": {"holderIdentity": holder}})
}

async fn holder(server: &TestServer, admin: &Identity, path: &str) -> Option<String> {
    let found = server.get(Some(admin), path).await;
    (found.code == 200).then(|| found.json()["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned())
}

async fn until(what: &str, mut probe: impl AsyncFnMut() -> bool) -> Duration {
    let started = Instant::now();
    while !probe().await {
        assert!(started.elapsed() < Duration::from_secs(60), "{what} did not happen");
        sleep(Duration::from_millis(20)).await;
    }
    started.elapsed()
}

#[tokio::test]
async fn leases_and_events_are_one_whichever_server_is_asked() {
    let (first, second) = pair(&store()).await;
    let admin = first.admin();
    let nodes = format!("{LEASES}/kube-node-lease/leases");
    let created = second.post(Some(&admin), &nodes, &lease("n1", "n1")).await;
    assert_eq!(created.code, 201, "{}", created.text());
    assert_eq!(holder(&first, &admin, &format!("{nodes}/n1")).await.as_deref(), Some("n1"));
    assert_eq!(first.post(Some(&admin), &nodes, &lease("n1", "x")).await.code, 409);
    // Of two writes over the same state, through two servers, one is refused.
    let mut body = created.json();
    body["spec"]["holderIdentity"] = "one".into();
    let path = format!("{nodes}/n1");
    assert_eq!(first.send(Some(&admin), first.request("PUT", &path, body.to_string())).await.code, 200);
    assert_eq!(second.send(Some(&admin), second.request("PUT", &path, body.to_string())).await.code, 409);
    assert_eq!(holder(&second, &admin, &path).await.as_deref(), Some("one"));
    second.stop().await;
    first.stop().await;
}

#[tokio::test]
async fn when_the_owner_leaves_the_other_goes_on_with_all_it_had() {
    let (first, second) = pair(&store()).await;
    let admin = first.admin();
    let event = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e1"}, "reason": "Test",
        "involvedObject": {"kind": "Pod", "namespace": "default", "name": "p"}, "type": "Normal"});
    assert_eq!(first.post(Some(&admin), EVENTS, &event).await.code, 201);
    let elections = format!("{LEASES}/default/leases");
    assert_eq!(first.post(Some(&admin), &elections, &lease("operator", "a")).await.code, 201);
    let before = second.get(Some(&admin), EVENTS).await.json();
    first.stop().await;
    until("the other server owning Leases and Events", async || {
        second.post(Some(&admin), &elections, &lease("later", "b")).await.code == 201
    })
    .await;
    let after = second.get(Some(&admin), EVENTS).await.json();
    assert_eq!(after["items"][0]["metadata"]["uid"], before["items"][0]["metadata"]["uid"]);
    let revision = |list: &Value| list["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap();
    assert!(revision(&after) >> 32 > revision(&before) >> 32, "a new epoch");
    let old = format!("{EVENTS}?watch=1&timeoutSeconds=1&resourceVersion={}", revision(&before));
    let watch = second.get(Some(&admin), &old).await;
    assert!(watch.code == 410 || watch.text().contains("410"), "{}", watch.text());
    assert_eq!(holder(&second, &admin, &format!("{elections}/operator")).await.as_deref(), Some("a"));
    second.stop().await;
}

#[tokio::test]
async fn a_dead_owner_is_replaced_within_five_seconds_and_its_last_word_on_elections_stands() {
    let backend = store();
    let first = TestServer::start_with(tempfile::tempdir().unwrap(), Arc::clone(&backend), true).await.unwrap();
    let (admin, dir) = (first.admin(), joined(first.data_dir.path()));
    let elections = format!("{LEASES}/default/leases");
    assert_eq!(first.post(Some(&admin), &elections, &lease("operator", "a")).await.code, 201);
    first.stop().await;
    // As a killed server leaves it: its record, and nobody behind it.
    let dead = json!({"id": "dead", "address": "127.0.0.1:1"}).to_string();
    let put = Operation::Put { key: OWNER.into(), value: dead.into() };
    backend.commit(Transaction { compares: vec![], operations: vec![put] }).await.unwrap();
    let second = TestServer::start_with(dir, backend, true).await.unwrap();
    let path = format!("{elections}/operator");
    let took = until("a takeover", async || {
        let put = second.post(Some(&admin), &elections, &lease("probe", "b")).await;
        put.code == 201 || put.code == 409
    })
    .await;
    assert!(took < Duration::from_secs(5), "took {took:?}");
    assert_eq!(holder(&second, &admin, &path).await.as_deref(), Some("a"));
    second.stop().await;
}

#[tokio::test]
async fn an_agent_is_reached_through_whichever_server_is_asked() {
    let (first, second) = pair(&store()).await;
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    testing::serve(theirs, testing::says("hello from the agent"));
    first.handle.tunnels.accept("n1", ours).await.unwrap();
    let mut request = http::Request::new(Body::empty());
    *request.method_mut() = Method::GET;
    *request.uri_mut() = "http://agent/v1/logs/n/p/c?uid=a%26b".parse().unwrap();
    let answer = second.handle.tunnels.send("n1", request).await.unwrap();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "hello from the agent");
    let refused = second.handle.tunnels.send("n2", http::Request::new(Body::empty())).await;
    assert_eq!(refused.map_err(|error| error.code).err(), Some(503));
    second.stop().await;
    first.stop().await;
}

#[tokio::test]
async fn nobody_but_a_server_is_answered_where_servers_talk() {
    let first = TestServer::start_with(tempfile::tempdir().unwrap(), store(), true).await.unwrap();
    let (admin, node) = (first.admin(), first.handle.issue_node_certificate("n1").await.unwrap());
    for path in ["/drover/peer/v1/ping", "/drover/peer/v1/nodes/n1", "/drover/peer/v1/nodes/n1/agent/v1/stats"] {
        assert_eq!(first.get(Some(&admin), path).await.code, 403, "{path}");
        assert_eq!(first.get(Some(&node), path).await.code, 403, "{path}");
        assert_eq!(first.get(None, path).await.code, 403, "{path}");
    }
    first.stop().await;
}

#[tokio::test]
async fn a_directory_of_another_cluster_is_refused_with_what_to_do() {
    let backend = store();
    let first = TestServer::start_with(tempfile::tempdir().unwrap(), Arc::clone(&backend), true).await.unwrap();
    let empty = TestServer::start_with(tempfile::tempdir().unwrap(), Arc::clone(&backend), true).await;
    let text = |result: Result<TestServer, Error>| match result {
        Err(Error::Identity(error)) => error.to_string(),
        other => panic!("not refused: {:?}", other.map(|server| server.handle.url)),
    };
    let message = text(empty);
    assert!(message.contains("copy ca.crt, ca.key, service-account.key and sealing.keys"), "{message}");
    let other = TestServer::start().await;
    let dir = joined(other.data_dir.path());
    let message = text(TestServer::start_with(dir, backend, true).await);
    assert!(message.contains("authority (ca.crt)"), "{message}");
    other.stop().await;
    first.stop().await;
}
