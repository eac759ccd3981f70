//! Over a real connection and a real store: canaries, keys, the report, and who may ask.

use std::{io::Write, path::Path, sync::Mutex};

use base64::{Engine, engine::general_purpose::STANDARD};
use drover_store::Backend;
use http::Method;
use serde_json::json;

use super::*;
use crate::{registry::testing::Fixed, server::testing::TestServer, volatile::Volatile};

const CANARY: &str = "canary-7c1f4e0d92";

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Finds the files under a directory that hold any of `needles`.
fn holders(dir: &Path, needles: &[Vec<u8>]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(holders(&path, needles));
        } else if holds(&std::fs::read(&path).unwrap(), needles) {
            found.push(path);
        }
    }
    found
}

/// The needles are ASCII, which reading as text does not change.
fn holds(bytes: &[u8], needles: &[Vec<u8>]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    needles.iter().any(|needle| text.contains(&*String::from_utf8_lossy(needle)))
}

#[tokio::test]
async fn a_canary_in_a_secret_is_in_no_file_and_no_log_line() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone());
    let _guard = tracing::subscriber::set_default(subscriber.finish());
    let data_dir = tempfile::tempdir().unwrap();
    let store: Arc<dyn Backend> =
        drover_store::Embedded::open(&data_dir.path().join("store"), drover_store::embedded::Options::default())
            .unwrap();
    let server = TestServer::start_on(store, data_dir).await;
    let admin = server.admin();
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a", "namespace": "default"},
        "stringData": {"password": CANARY},
    });
    let path = "/api/v1/namespaces/default/secrets";
    assert_eq!(server.post(Some(&admin), path, &secret).await.code, 201);
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "app"}});
    server.post(Some(&admin), "/api/v1/namespaces/default/serviceaccounts", &account).await;
    let order = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
    let made = server.post(Some(&admin), "/api/v1/namespaces/default/serviceaccounts/app/token", &order).await;
    let token = made.json()["status"]["token"].as_str().expect("a token").to_owned();
    let read = server.get(Some(&admin), &format!("{path}/a")).await;
    assert_eq!(read.json()["data"]["password"], STANDARD.encode(CANARY));
    assert_eq!(server.post(Some(&admin), path, &secret).await.code, 409);
    let mut broken = secret.clone();
    broken["metadata"]["name"] = CANARY.to_uppercase().into();
    assert_eq!(server.post(Some(&admin), path, &broken).await.code, 422);
    let data_dir = server.data_dir.path().to_owned();
    let kept = std::fs::read(data_dir.join("pki/sealing.keys")).unwrap();
    assert!(kept.starts_with(b"#"));
    let TestServer { handle, shutdown, data_dir: _keep } = server;
    shutdown.cancel();
    handle.join().await;
    let needles = [CANARY.as_bytes().to_vec(), STANDARD.encode(CANARY).into_bytes(), token.into_bytes()];
    assert_eq!(holders(&data_dir, &needles), [""; 0].map(PathBuf::from));
    let audit = std::fs::read_to_string(data_dir.join("audit/audit.log")).unwrap();
    assert!(audit.contains("\"resource\":\"secrets\""), "the requests themselves are recorded: {audit}");
    let log = log.0.lock().unwrap();
    assert!(!log.is_empty() && !holds(&log, &needles), "{}", String::from_utf8_lossy(&log));
}

#[tokio::test]
async fn an_administrator_changes_keys_while_the_server_runs() {
    let server = TestServer::start().await;
    let admin = server.admin();
    let sealing = || async { server.get(Some(&admin), "/drover/v1/sealing").await.json() };
    let old = sealing().await["keys"][0]["id"].as_str().unwrap().to_owned();
    let retire = format!("/drover/v1/sealing/retire?key={old}");
    assert_eq!(server.post(Some(&admin), &retire, &json!({})).await.code, 409);
    let new = server.post(Some(&admin), "/drover/v1/sealing/rotate", &json!({})).await.json()["key"].clone();
    assert_eq!(server.post(Some(&admin), "/drover/v1/sealing/reseal", &json!({})).await.code, 200);
    assert_eq!(server.post(Some(&admin), &retire, &json!({})).await.code, 200);
    let report = sealing().await;
    assert_eq!((report["keys"].as_array().unwrap().len(), &report["keys"][0]["id"]), (1, &new));
    let bad = server.post(Some(&admin), "/drover/v1/sealing/retire", &json!({})).await;
    assert_eq!((bad.code, bad.json()["message"].clone()), (400, json!("query parameter \"key\" is required")));
    assert_eq!(server.get(Some(&admin), "/drover/v1/sealing/rotate").await.code, 404);
    server.stop().await;
}

#[tokio::test]
async fn the_report_holds_facts_and_only_an_administrator_gets_it() {
    let server = TestServer::start().await;
    let admin = server.admin();
    let report = server.get(Some(&admin), "/drover/v1/security-report").await.json();
    let modes = report["files"].as_array().unwrap();
    assert!(modes.iter().any(|file| file["path"].as_str().unwrap().ends_with("pki/ca.key") && file["mode"] == "0600"));
    assert_eq!(report["audit"]["enabled"], true);
    assert_eq!(report["tlsVersions"], json!(["1.3"]));
    assert_eq!(report["sealing"]["plain"], 0);
    let node = server.handle.issue_node_certificate("n1").await.unwrap();
    for path in ["/drover/v1/security-report", "/drover/v1/sealing"] {
        assert_eq!(server.get(Some(&node), path).await.code, 403);
        assert_eq!(server.get(None, path).await.code, 401);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_secret_that_cannot_be_opened_is_named_and_can_be_discarded() {
    let store = Arc::new(Volatile::new(1, Vec::new()));
    let server = TestServer::start_on(store.clone(), tempfile::tempdir().unwrap()).await;
    let admin = server.admin();
    // Sealed with a key that nobody has any more.
    let stranger = crate::sealing::tests_support::sealed_elsewhere(&Fixed::default());
    let key = bytes::Bytes::from(format!("{SECRETS}default/lost"));
    let put = drover_store::Operation::Put { key, value: stranger };
    let transaction = drover_store::Transaction { compares: Vec::new(), operations: vec![put] };
    store.commit(transaction).await.unwrap();
    for path in ["/api/v1/namespaces/default/secrets/lost", "/api/v1/namespaces/default/secrets", "/api/v1/secrets"] {
        let answer = server.get(Some(&admin), path).await;
        assert_eq!(answer.code, 500, "{path}");
        assert!(answer.text().contains("default/lost") && answer.text().contains("sealing key"), "{}", answer.text());
    }
    let other = server.get(Some(&admin), "/api/v1/namespaces/kube-system/secrets").await;
    assert_eq!(other.code, 200, "other namespaces are not held up");
    let report = server.get(Some(&admin), "/drover/v1/sealing").await.json();
    assert_eq!(report["unreadable"], json!([format!("{SECRETS}default/lost")]));
    let discard = "/drover/v1/sealing/discard?secret=default/lost";
    assert_eq!(server.post(Some(&admin), discard, &json!({})).await.code, 200);
    assert_eq!(server.post(Some(&admin), discard, &json!({})).await.code, 409);
    assert_eq!(server.get(Some(&admin), "/api/v1/namespaces/default/secrets").await.code, 200);
    server.stop().await;
}

#[test]
fn only_paths_below_the_root_are_served() {
    for (path, expected) in
        [("/drover/v1/sealing", true), ("/drover/v2/x", false), ("/drover", false), ("/metrics", false)]
    {
        let info = RequestInfo::parse(&Method::GET, path, None).unwrap();
        assert_eq!(Administration::serves(&info), expected, "{path}");
    }
}
