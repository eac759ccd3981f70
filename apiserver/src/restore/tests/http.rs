//! The requests: who may, what is refused, what is told.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::{request::User, server::testing::TestServer};

const BACKUP: &str = "/apis/drover.dev/v1alpha1/backups/cluster";
const RESTORES: &str = "/apis/drover.dev/v1alpha1/restores";
const CONFIGS: &str = "/api/v1/namespaces/default/configmaps";

async fn send(server: &TestServer, user: User, method: &str, path: &str, body: Bytes) -> (u16, Bytes) {
    let request = http::Request::builder().method(method).uri(path).body(Full::new(body)).unwrap();
    let response = server.handle.local_service(user).oneshot(request).await.unwrap();
    (response.status().as_u16(), response.into_body().collect().await.unwrap().to_bytes())
}

async fn admin(server: &TestServer, method: &str, path: &str, body: impl Into<Bytes>) -> (u16, Value) {
    let user = User::new("root", &["system:masters"]);
    let (code, body) = send(server, user, method, path, body.into()).await;
    (code, serde_json::from_slice(&body).unwrap_or_default())
}

async fn backup(server: &TestServer) -> Bytes {
    let (code, file) = send(server, User::new("root", &["system:masters"]), "GET", BACKUP, Bytes::new()).await;
    assert_eq!(code, 200);
    file
}

fn config(name: &str) -> String {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": "v"}}).to_string()
}

#[tokio::test]
async fn only_administrators_back_up_restore_and_confirm_and_nodes_may_ask_for_the_state() {
    let server = TestServer::start().await;
    let confirm = format!("{RESTORES}/cluster/confirm");
    let state = format!("{RESTORES}/cluster");
    let node = || User::new("system:node:n1", &["system:nodes"]);
    for user in [User::new("someone", &[]), node()] {
        for (method, path) in [("GET", BACKUP), ("POST", RESTORES), ("POST", confirm.as_str())] {
            assert_eq!(send(&server, user.clone(), method, path, Bytes::new()).await.0, 403, "{method} {path}");
        }
    }
    assert_eq!(send(&server, User::new("someone", &[]), "GET", &state, Bytes::new()).await.0, 403);
    assert_eq!(send(&server, node(), "GET", &state, Bytes::new()).await.0, 404, "nothing was restored");
    assert_eq!(admin(&server, "POST", &confirm, "").await.0, 404);
    assert_eq!(admin(&server, "DELETE", &state, "").await.0, 405);
    assert_eq!(admin(&server, "GET", &format!("{RESTORES}/other"), "").await.0, 404);
    server.stop().await;
}

#[tokio::test]
async fn a_restore_is_tried_done_told_and_confirmed() {
    let server = TestServer::start().await;
    assert_eq!(admin(&server, "POST", CONFIGS, config("kept")).await.0, 201);
    let file = backup(&server).await;
    assert_eq!(admin(&server, "DELETE", &format!("{CONFIGS}/kept"), "").await.0, 200);
    assert_eq!(admin(&server, "POST", CONFIGS, config("later")).await.0, 201);

    let (code, tried) = admin(&server, "POST", &format!("{RESTORES}?dryRun=All"), file.clone()).await;
    assert_eq!((code, tried["status"]["phase"].as_str()), (200, Some("DryRun")), "{tried}");
    assert_eq!(tried["status"]["changes"]["configmaps"], json!({"created": 1, "changed": 0, "removed": 1}));
    assert_eq!(admin(&server, "GET", &format!("{CONFIGS}/later"), "").await.0, 200, "a dry run changes nothing");

    let (code, done) = admin(&server, "POST", RESTORES, file.clone()).await;
    assert_eq!((code, done["status"]["phase"].as_str()), (200, Some("Restored")), "{done}");
    assert_eq!(done["status"]["changes"], tried["status"]["changes"]);
    assert_eq!(done["status"]["conditions"][0]["reason"], drover_api::restored::HELD_REASON);
    assert!(drover_api::restored::unconfirmed(&done).is_some());
    assert_eq!(admin(&server, "GET", &format!("{CONFIGS}/kept"), "").await.0, 200);
    assert_eq!(admin(&server, "GET", &format!("{CONFIGS}/later"), "").await.0, 404);
    let told = async {
        loop {
            let (_, events) = admin(&server, "GET", "/api/v1/namespaces/kube-system/events", "").await;
            let said = |event: &Value| event["reason"] == drover_api::restored::HELD_REASON;
            if events["items"].as_array().is_some_and(|items| items.iter().any(said)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), told).await.expect("an event");

    let (code, confirmed) = admin(&server, "POST", &format!("{RESTORES}/cluster/confirm"), "").await;
    assert_eq!((code, confirmed["status"]["phase"].as_str()), (200, Some("Confirmed")), "{confirmed}");
    assert_eq!(drover_api::restored::unconfirmed(&confirmed), None);
    assert_eq!(admin(&server, "GET", &format!("{RESTORES}/cluster"), "").await.1, confirmed);
    server.stop().await;
}

#[tokio::test]
async fn what_is_no_backup_of_this_cluster_is_refused_with_a_reason() {
    let server = TestServer::start().await;
    let file = backup(&server).await;
    let mut damaged = file.to_vec();
    damaged[200] ^= 1;
    let header = drover_api::backup::Header { cluster: "other".to_owned(), ..Default::default() };
    let (mut encoder, mut foreign) = drover_api::backup::Encoder::begin(&header);
    encoder.record(b"/registry/core/configmaps/default/x", b"{}", &mut foreign);
    foreign.extend(encoder.finish());
    let (encoder, mut empty) =
        drover_api::backup::Encoder::begin(&drover_api::backup::Header { cluster: "drover".to_owned(), ..header });
    empty.extend(encoder.finish());
    for (what, upload, said) in [
        ("something else", b"apiVersion: v1".to_vec(), "this is not a backup file"),
        ("nothing", Vec::new(), "cut short"),
        ("a cut file", file[..file.len() - 10].to_vec(), "cut short"),
        ("a damaged file", damaged, "damaged"),
        ("another cluster's", foreign, "the backup is of cluster \"other\" and this is \"drover\""),
        ("an empty file", empty, "no object at all"),
    ] {
        let (code, status) = admin(&server, "POST", RESTORES, upload).await;
        let message = status["message"].as_str().unwrap_or_default();
        assert!(code == 422 && message.contains(said), "{what}: {code} {message}");
    }
    assert_eq!(admin(&server, "GET", &format!("{RESTORES}/cluster"), "").await.0, 404, "nothing was restored");
    assert_eq!(admin(&server, "GET", "/api/v1/namespaces/default", "").await.0, 200);
    server.stop().await;
}
