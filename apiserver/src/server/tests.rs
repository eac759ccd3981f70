//! A real server over real TLS.

use std::{os::unix::fs::PermissionsExt, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower::ServiceExt;

use super::testing::TestServer;
use crate::{pki::Identity, request::User};

#[tokio::test]
async fn health_and_version_are_all_that_strangers_get() {
    let server = TestServer::start().await;
    for (path, body) in [("/livez", "ok"), ("/readyz", "ok"), ("/healthz", "ok"), ("/readyz?verbose", "ok")] {
        let answer = server.get(None, path).await;
        assert_eq!((answer.code, answer.text().as_str()), (200, body), "{path}");
    }
    let version = server.get(None, "/version").await.json();
    assert_eq!((version["minor"].as_str(), version["gitVersion"].as_str()), (Some("33"), Some("v1.33.0+drover")));
    let paths = ["/", "/api", "/apis", "/api/v1", "/api/v1/pods", "/openapi/v3", "/metrics", "/livez/ping", "/x"];
    for path in paths {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            let answer = server.send(None, server.request(method, path, "")).await;
            assert_eq!(answer.code, 401, "{method} {path}");
            assert_eq!(answer.json()["reason"], "Unauthorized");
        }
    }
    assert_eq!(server.send(None, server.request("POST", "/livez", "")).await.code, 401);
    server.stop().await;
}

#[tokio::test]
async fn the_administrators_kubeconfig_opens_the_door() {
    let server = TestServer::start().await;
    let admin = server.admin();
    let answer = server.get(Some(&admin), "/api/v1/namespaces").await;
    assert_eq!((answer.code, answer.json()["kind"].as_str()), (200, Some("NamespaceList")), "{}", answer.text());
    assert_eq!(answer.headers["cache-control"], "no-cache, private");
    assert_eq!(answer.headers["audit-id"].len(), 36);
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}});
    let created = server.post(Some(&admin), "/api/v1/namespaces/default/configmaps", &map).await;
    assert_eq!(created.code, 201, "{}", created.text());
    let verbose = server.get(Some(&admin), "/readyz?verbose").await.text();
    assert!(verbose.contains("[+]start-bootstrap ok") && verbose.ends_with("readyz check passed\n"), "{verbose}");
    let mode = std::fs::metadata(&server.handle.admin_kubeconfig).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    server.stop().await;
}

#[tokio::test]
async fn refusals_are_worded_as_kubernetes_words_them() {
    let server = TestServer::start().await;
    let (admin, node) = (server.admin(), server.handle.issue_node_certificate("n1").await.unwrap());
    let answer = server.get(Some(&node), "/api/v1/namespaces/y/secrets").await;
    assert_eq!(answer.code, 403);
    let status = answer.json();
    assert_eq!(
        status["message"],
        "secrets is forbidden: User \"system:node:n1\" cannot list resource \"secrets\" in API group \"\" in the \
         namespace \"y\": no relationship found between node \"n1\" and this object"
    );
    assert_eq!((status["reason"].as_str(), status["code"].as_u64()), (Some("Forbidden"), Some(403)));
    assert_eq!(server.get(Some(&admin), "/nothing").await.json()["reason"], "NotFound");
    assert_eq!(server.get(Some(&admin), "/api/v1/nothing").await.code, 404);
    assert_eq!(server.get(Some(&admin), "/api//v1/pods").await.code, 400);
    let answer = server.send(Some(&admin), server.request("POST", "/version", "")).await;
    assert_eq!((answer.code, answer.json()["reason"].as_str()), (405, Some("MethodNotAllowed")));
    server.stop().await;
}

#[tokio::test]
async fn a_body_above_three_mebibytes_is_refused() {
    let server = TestServer::start().await;
    let body = vec![b' '; 3 * 1024 * 1024 + 1];
    let request = server.request("POST", "/api/v1/namespaces/default/configmaps", body);
    let answer = server.send(Some(&server.admin()), request).await;
    assert_eq!(answer.code, 413);
    assert_eq!(answer.json()["message"], "Request entity too large: limit is 3145728");
    server.stop().await;
}

#[tokio::test]
async fn bad_credentials_are_never_taken_for_none() {
    let server = TestServer::start().await;
    for value in ["Bearer nonsense", "Bearer ", "Bearer", "Basic YTpi", "bearer a.b.c"] {
        let mut request = server.request("GET", "/livez", "");
        request.headers_mut().insert("authorization", value.parse().unwrap());
        assert_eq!(server.send(None, request).await.code, 401, "{value}");
    }
    server.stop().await;
}

#[tokio::test]
async fn certificates_that_are_not_ours_do_not_finish_the_handshake() {
    let server = TestServer::start().await;
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "drover-admin");
    params.distinguished_name.push(DnType::OrganizationName, "system:masters");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let forged = Identity { certificate_pem: params.self_signed(&key).unwrap().pem(), key_pem: key.serialize_pem() };
    let pki = server.data_dir.path().join("pki");
    let read = |file: &str| std::fs::read_to_string(pki.join(file)).unwrap();
    let servers_own = Identity { certificate_pem: read("server.crt"), key_pem: read("server.key") };
    for identity in [forged, servers_own] {
        // With TLS 1.3 the client learns of the refusal at its first read.
        let refused = match server.connect(Some(&identity), "http/1.1").await {
            Err(_) => true,
            Ok(mut stream) => {
                stream.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.is_err()
                    || !matches!(stream.read(&mut [0; 64]).await, Ok(1..))
            }
        };
        assert!(refused);
    }
    server.stop().await;
}

#[tokio::test]
async fn both_protocols_are_spoken() {
    let server = TestServer::start().await;
    for alpn in ["h2", "http/1.1"] {
        let stream = server.connect(None, alpn).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(alpn.as_bytes()));
    }
    let stream = server.connect(None, "http/1.1").await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::get("/livez").header("host", "localhost").body(Empty::<Bytes>::new()).unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status(), 200);
    server.stop().await;
}

#[tokio::test]
async fn the_in_process_transport_is_the_same_door_with_a_fixed_identity() {
    let server = TestServer::start().await;
    let admin = server.handle.local_service(User::new("system:drover:controllers", &["system:masters"]));
    let request = |path: &str| http::Request::get(path).body(Full::new(Bytes::new())).unwrap();
    let response = admin.clone().oneshot(request("/api/v1/pods")).await.unwrap();
    assert_eq!(response.status(), 200);
    let nobody = server.handle.local_service(User::new("nobody", &[]));
    let mut forged = request("/api/v1/pods");
    forged.headers_mut().insert("impersonate-user", "drover-admin".parse().unwrap());
    forged.headers_mut().insert("impersonate-group", "system:masters".parse().unwrap());
    for request in [request("/api/v1/pods"), forged] {
        assert_eq!(nobody.clone().oneshot(request).await.unwrap().status(), 403);
    }
    server.stop().await;
}

/// What `kube::Client::new` demands of a service, without the dependency.
fn satisfies_kube<S, B>(_: &S)
where
    S: tower::Service<http::Request<Full<Bytes>>, Response = http::Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<tower::BoxError>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<tower::BoxError>,
{
}

#[tokio::test]
async fn shutdown_ends_watches_and_returns_in_time() {
    let server = TestServer::start().await;
    let local = server.handle.local_service(User::new("w", &["system:masters"]));
    satisfies_kube(&local);
    let stream = server.connect(Some(&server.admin()), "h2").await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let watch = server.request("GET", "/api/v1/pods?watch=true", "");
    let remote = sender.send_request(watch).await.unwrap();
    assert_eq!(remote.status(), 200);
    let request = http::Request::get("/api/v1/pods?watch=1").body(Full::new(Bytes::new())).unwrap();
    let local = local.oneshot(request).await.unwrap();
    server.shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(5), server.handle.join()).await.expect("the server is gone within 5 s");
    assert!(local.into_body().collect().await.is_ok());
    assert!(remote.into_body().collect().await.is_ok(), "a watch ends, it is not cut");
}

#[tokio::test]
async fn a_second_start_keeps_every_identity() {
    let server = TestServer::start().await;
    let (admin, ca) = (server.admin(), server.handle.ca_pem.clone());
    let TestServer { handle, shutdown, data_dir } = server;
    shutdown.cancel();
    handle.join().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let backend = std::sync::Arc::new(crate::volatile::Volatile::new(1, Vec::new()));
    let config = super::Config::new(data_dir.path().to_owned(), vec![listener], backend);
    let shutdown = tokio_util::sync::CancellationToken::new();
    let handle = super::start(config, shutdown.clone()).await.unwrap();
    let server = TestServer { handle, shutdown, data_dir };
    assert_eq!(server.handle.ca_pem, ca);
    assert_eq!(server.get(Some(&admin), "/api/v1/pods").await.code, 200);
    server.stop().await;
}
