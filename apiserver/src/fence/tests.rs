//! A stale leader's write is refused by the store, in every verb; the newest leader's is not.

use http::HeaderValue;
use serde_json::{Value, json};

use crate::{
    pki::Identity,
    server::testing::{Answer, TestServer},
};

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const BACKUP: &str = "/apis/drover.dev/v1alpha1/backups/cluster";
const RESTORES: &str = "/apis/drover.dev/v1alpha1/restores";

async fn raise(server: &TestServer, admin: &Identity) -> u64 {
    let answer = server.post(Some(admin), "/drover/v1/fences/controllers", &json!({})).await;
    assert_eq!(answer.code, 201, "{}", answer.text());
    answer.json()["epoch"].as_u64().unwrap()
}

async fn send(server: &TestServer, admin: &Identity, epoch: u64, method: &str, path: &str, body: &Value) -> Answer {
    let mut request = server.request(method, path, body.to_string());
    request.headers_mut().insert("drover-fence", HeaderValue::from_str(&format!("controllers/{epoch}")).unwrap());
    if method == "PATCH" {
        request.headers_mut().insert("content-type", HeaderValue::from_static("application/merge-patch+json"));
    }
    server.send(Some(admin), request).await
}

fn config_map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}})
}

#[tokio::test]
async fn every_write_of_a_leader_that_was_replaced_is_refused() {
    let server = TestServer::start().await;
    let admin = server.admin();
    let old = raise(&server, &admin).await;
    assert_eq!(send(&server, &admin, old, "POST", CONFIG_MAPS, &config_map("a")).await.code, 201);
    let new = raise(&server, &admin).await;
    assert!(new > old);
    let one = format!("{CONFIG_MAPS}/a");
    let patch = json!({"data": {"by": "nobody"}});
    for (method, path, body) in [
        ("POST", CONFIG_MAPS, &config_map("b")),
        ("PATCH", one.as_str(), &patch),
        (
            "PUT",
            one.as_str(),
            &config_map("a")
                .as_object()
                .map(
                    |_| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"x": "y"}}),
                )
                .unwrap(),
        ),
        ("DELETE", one.as_str(), &json!({})),
    ] {
        let refused = send(&server, &admin, old, method, path, body).await;
        assert_eq!(refused.code, 409, "{method}: {}", refused.text());
        assert_eq!(refused.headers.get("drover-fence").map(HeaderValue::as_bytes), Some(&b"stale"[..]), "{method}");
        let message = refused.json()["message"].as_str().unwrap().to_owned();
        assert!(message.contains("another leader has taken over"), "{message}");
    }
    assert_eq!(server.get(Some(&admin), &one).await.code, 200, "nothing was deleted");
    assert_eq!(send(&server, &admin, new, "PATCH", &one, &patch).await.code, 200);
    server.stop().await;
}

#[tokio::test]
async fn a_conflict_of_the_object_itself_is_not_taken_for_a_lost_lead() {
    let server = TestServer::start().await;
    let admin = server.admin();
    let epoch = raise(&server, &admin).await;
    assert_eq!(send(&server, &admin, epoch, "POST", CONFIG_MAPS, &config_map("a")).await.code, 201);
    let again = send(&server, &admin, epoch, "POST", CONFIG_MAPS, &config_map("a")).await;
    assert_eq!((again.code, again.headers.get("drover-fence")), (409, None), "{}", again.text());
    server.stop().await;
}

#[tokio::test]
async fn a_malformed_fence_is_refused_and_only_the_mighty_may_raise_one() {
    let server = TestServer::start().await;
    let admin = server.admin();
    for value in ["controllers", "controllers/", "controllers/x", "/7", "UPPER/7", "controllers/0"] {
        let mut request = server.request("GET", CONFIG_MAPS, "");
        request.headers_mut().insert("drover-fence", HeaderValue::from_static(value));
        assert_eq!(server.send(Some(&admin), request).await.code, 400, "{value}");
    }
    let node = server.handle.issue_node_certificate("n1").await.unwrap();
    assert_eq!(server.post(Some(&node), "/drover/v1/fences/controllers", &json!({})).await.code, 403);
    assert_eq!(server.post(None, "/drover/v1/fences/controllers", &json!({})).await.code, 401);
    assert_eq!(server.post(Some(&admin), "/drover/v1/fences/..%2fx", &json!({})).await.code, 400);
    assert_eq!(server.get(Some(&admin), "/drover/v1/fences/controllers").await.code, 405);
    server.stop().await;
}

#[tokio::test]
async fn a_restore_ends_every_lead() {
    let server = TestServer::start().await;
    let admin = server.admin();
    let epoch = raise(&server, &admin).await;
    let file = server.send(Some(&admin), server.request("GET", BACKUP, String::new())).await.body;
    assert_eq!(send(&server, &admin, epoch, "POST", CONFIG_MAPS, &config_map("a")).await.code, 201);
    let restored = server.send(Some(&admin), server.request("POST", RESTORES, file)).await;
    assert_eq!(restored.code, 200, "{}", restored.text());
    assert_eq!(send(&server, &admin, epoch, "POST", CONFIG_MAPS, &config_map("b")).await.code, 409);
    let epoch = raise(&server, &admin).await;
    assert_eq!(send(&server, &admin, epoch, "POST", CONFIG_MAPS, &config_map("b")).await.code, 201);
    server.stop().await;
}
