use jiff::{SignedDuration, Timestamp};
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P384_SHA384};
use serde_json::{Value, json};

use super::plan::{self, Asked, Known, Step};
use crate::{
    pki::{Identity, identity::fingerprint},
    server::testing::{Answer, TestServer},
};

const SECRET: &str = "0f1e2d3c";

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn token(uses: u64, used_by: &[&str]) -> Value {
    let nodes: Vec<Value> = used_by.iter().map(|name| json!({"name": name, "publicKeyHash": "k"})).collect();
    json!({
        "metadata": {"name": "abc"},
        "spec": {"secretHash": fingerprint(SECRET.as_bytes()), "maxUses": uses, "expirationTimestamp": "2026-01-01T00:00:01Z"},
        "status": {"nodes": nodes},
    })
}

fn key(hash: &str, revoked: bool) -> Value {
    json!({"metadata": {"name": "n1"}, "spec": {"publicKeyHash": hash, "revoked": revoked}})
}

/// What node n1 with key `mine` gets: the step, or code and text.
fn outcome(token_sent: Option<&str>, known: &Known) -> String {
    let asked = Asked { node: "n1", key_hash: "mine", token: token_sent };
    match plan::plan(&asked, known, now()) {
        Ok(step) => format!("{step:?}"),
        Err(error) => format!("{} {}", error.code, error.message),
    }
}

#[test]
fn who_is_let_in() {
    let good = format!("abc.{SECRET}");
    let known = |token: Value| Known { token: Some(token), ..Known::default() };
    let admit = format!("{:?}", Step::Admit { token: "abc".to_owned() });
    let cases: Vec<(&str, Option<&str>, Known, &str)> = vec![
        ("a good token", Some(&good), known(token(1, &[])), &admit),
        ("again, as the answer was lost", Some(&good), known(token(1, &["n1"])), &admit),
        ("one of two uses", Some(&good), known(token(2, &["n2"])), &admit),
        ("used up", Some(&good), known(token(1, &["n2"])), "403 join token \"abc\" is used up: it has let in n2"),
        ("no token", None, known(token(1, &[])), "401 Unauthorized"),
        ("no such token", Some(&good), Known::default(), "401 Unauthorized"),
        ("another secret", Some("abc.0f1e2d3d"), known(token(1, &[])), "401 Unauthorized"),
        ("no secret", Some("abc."), known(token(1, &[])), "401 Unauthorized"),
        ("no id", Some(".0f1e2d3c"), known(token(1, &[])), "401 Unauthorized"),
        ("the hash as the secret", Some("abc.hash"), known(token(1, &[])), "401 Unauthorized"),
        ("its own key", None, Known { key: Some(key("mine", false)), ..Known::default() }, "Renew"),
        (
            "its own key, revoked, with a token",
            Some(&good),
            Known { key: Some(key("mine", true)), ..known(token(1, &[])) },
            "403 the key of node \"n1\" is revoked",
        ),
        ("another key", None, Known { key: Some(key("theirs", false)), ..Known::default() }, "401 Unauthorized"),
    ];
    for (what, sent, known, expected) in cases {
        assert_eq!(outcome(sent, &known), expected, "{what}");
    }
    let taken = outcome(Some(&good), &Known { key: Some(key("theirs", false)), ..known(token(1, &[])) });
    assert!(taken.starts_with("409 node \"n1\" has joined with another key"), "{taken}");
    let mut ended = token(1, &[]);
    ended["spec"]["expirationTimestamp"] = "2026-01-01T00:00:00Z".into();
    let ended = outcome(Some(&good), &known(ended));
    assert!(ended.starts_with("403 join token \"abc\" has ended at 2026-01-01T00:00:00Z"), "{ended}");
    let lease = |age: i64| {
        let renewed = now() - SignedDuration::from_secs(age);
        Known { lease: Some(json!({"spec": {"renewTime": renewed.to_string()}})), ..known(token(1, &[])) }
    };
    let alive = outcome(Some(&good), &lease(39));
    assert!(alive.starts_with("409 a node named \"n1\" is alive"), "{alive}");
    assert_eq!(outcome(Some(&good), &lease(40)), admit);
}

/// A host with a key of its own.
struct Host {
    name: &'static str,
    key: KeyPair,
}

impl Host {
    fn new(name: &'static str) -> Self {
        Self { name, key: KeyPair::generate().unwrap() }
    }

    fn csr(&self, common_name: &str) -> String {
        csr(&self.key, common_name)
    }

    async fn join(&self, server: &TestServer, token: Option<&str>) -> Answer {
        let body = json!({"node": self.name, "csr": self.csr(&format!("system:node:{}", self.name))});
        post(server, token, &body).await
    }

    fn identity(&self, answer: &Answer) -> Identity {
        let certificate_pem = answer.json()["certificate"].as_str().unwrap().to_owned();
        Identity { certificate_pem, key_pem: self.key.serialize_pem() }
    }
}

fn csr(key: &KeyPair, common_name: &str) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.serialize_request(key).unwrap().pem().unwrap()
}

async fn post(server: &TestServer, token: Option<&str>, body: &Value) -> Answer {
    let mut request = server.request("POST", "/drover/v1/join", body.to_string());
    if let Some(token) = token {
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    server.send(None, request).await
}

async fn make_token(server: &TestServer, id: &str, uses: u64) -> String {
    let end = Timestamp::now() + SignedDuration::from_hours(1);
    let token = json!({
        "apiVersion": "drover.dev/v1alpha1", "kind": "JoinToken", "metadata": {"name": id},
        "spec": {"secretHash": fingerprint(SECRET.as_bytes()), "maxUses": uses, "expirationTimestamp": end.to_string()},
    });
    let made = server.post(Some(&server.admin()), "/apis/drover.dev/v1alpha1/jointokens", &token).await;
    assert_eq!(made.code, 201, "{}", made.text());
    format!("{id}.{SECRET}")
}

#[tokio::test]
async fn a_host_joins_once_by_its_token_and_then_by_its_key_until_that_is_revoked() {
    let server = TestServer::start().await;
    let token = make_token(&server, "abc", 1).await;
    let host = Host::new("n1");
    assert_eq!(host.join(&server, None).await.code, 401);
    let joined = host.join(&server, Some(&token)).await;
    assert_eq!(joined.code, 201, "{}", joined.text());
    let told = joined.json();
    assert_eq!(told["certificateAuthority"].as_str().unwrap(), server.handle.ca_pem);
    assert_eq!(
        (&told["clusterName"], &told["clusterCidr"], &told["serviceCidr"]),
        (&json!("drover"), &json!("10.128.0.0/9"), &json!("10.96.0.0/16"))
    );
    let identity = host.identity(&joined);
    // The node is itself and nothing more.
    assert_eq!(server.get(Some(&identity), "/api/v1/nodes/n1").await.code, 404);
    assert_eq!(server.get(Some(&identity), "/apis/drover.dev/v1alpha1/nodekeys").await.code, 403);
    assert_eq!(server.get(Some(&identity), "/apis/drover.dev/v1alpha1/jointokens").await.code, 403);
    // Its key alone renews, with or without what was used up.
    let renewed = host.join(&server, None).await;
    assert_eq!(renewed.code, 201, "{}", renewed.text());
    assert_ne!(renewed.json()["certificate"], told["certificate"]);
    assert_eq!(host.join(&server, Some("nonsense")).await.code, 201);
    // Another host has neither the key nor a use.
    let other = Host::new("n2").join(&server, Some(&token)).await;
    assert_eq!(other.code, 403, "{}", other.text());
    let twin = Host::new("n1").join(&server, Some(&make_token(&server, "more", 5).await)).await;
    assert_eq!(twin.code, 409, "{}", twin.text());
    let shown = server.get(Some(&server.admin()), "/apis/drover.dev/v1alpha1/jointokens/abc").await.json();
    assert_eq!(shown["status"]["nodes"][0]["name"], "n1");
    assert!(!shown.to_string().contains(SECRET));
    // Revoked: at once, on connections that are open as well as on new ones.
    let revoke = json!({"spec": {"revoked": true}}).to_string();
    let mut request = server.request("PATCH", "/apis/drover.dev/v1alpha1/nodekeys/n1", revoke);
    request.headers_mut().insert("content-type", "application/merge-patch+json".parse().unwrap());
    let revoked = server.send(Some(&server.admin()), request).await;
    assert_eq!(revoked.code, 200, "{}", revoked.text());
    assert_eq!(server.get(Some(&identity), "/api/v1/nodes/n1").await.code, 401);
    assert_eq!(host.join(&server, None).await.code, 403);
    // Deleted: the certificate is as worthless, and the name is free for who has a token.
    let gone = server.request("DELETE", "/apis/drover.dev/v1alpha1/nodekeys/n1", "");
    assert_eq!(server.send(Some(&server.admin()), gone).await.code, 200);
    assert_eq!(server.get(Some(&identity), "/api/v1/nodes/n1").await.code, 401);
    assert_eq!(host.join(&server, None).await.code, 401);
    let again = Host::new("n1").join(&server, Some(&token)).await;
    assert_eq!(again.code, 201, "{}", again.text());
    assert_eq!(server.get(Some(&identity), "/api/v1/nodes/n1").await.code, 401, "the old key stays out");
    server.stop().await;
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_and_uses_nothing_up() {
    let server = TestServer::start().await;
    let token = make_token(&server, "abc", 1).await;
    let host = Host::new("n1");
    let good = host.csr("system:node:n1");
    let stronger = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    let mut forged = pem_bytes(&good);
    let last = forged.len() - 1;
    forged[last] ^= 1;
    for (body, code, says) in [
        (json!({"node": "n1", "csr": "x"}), 400, "csr: not a certificate signing request"),
        (json!({"node": "n1", "csr": to_pem(&forged)}), 400, "csr: not a certificate signing request"),
        (json!({"node": "n2", "csr": good}), 400, "csr: the common name must be \"system:node:n2\""),
        (json!({"node": "N_1", "csr": good}), 400, "node: \"N_1\""),
        (json!({"node": "n1", "csr": csr(&stronger, "system:node:n1")}), 400, "csr: the key must be ECDSA P-256"),
        (json!({"node": "n1"}), 400, "missing field `csr`"),
        (json!({"node": "n1", "csr": good, "nonsense": 1}), 400, "unknown field `nonsense`"),
        (json!({"node": "n1", "csr": "x".repeat(20_000)}), 400, "length limit exceeded"),
        (json!({"node": "n1", "csr": good, "clusterName": "other"}), 409, "this is cluster \"drover\", not \"other\""),
    ] {
        let answer = post(&server, Some(&token), &body).await;
        assert_eq!(answer.code, code, "{}", answer.text());
        assert!(answer.json()["message"].as_str().unwrap().contains(says), "{}", answer.text());
    }
    assert_eq!(server.get(None, "/drover/v1/join").await.code, 405);
    let mut basic = server.request("POST", "/drover/v1/join", json!({"node": "n1", "csr": good}).to_string());
    basic.headers_mut().insert("authorization", "Basic eDp5".parse().unwrap());
    assert_eq!(server.send(None, basic).await.code, 401);
    assert_eq!(host.join(&server, Some(&token)).await.code, 201, "nothing was used up");
    server.stop().await;
}

#[tokio::test]
async fn of_many_that_come_with_one_token_as_many_get_in_as_it_allows() {
    let server = TestServer::start().await;
    let token = make_token(&server, "abc", 2).await;
    let hosts = ["a", "b", "c", "d", "e", "f"].map(Host::new);
    let answers = futures::future::join_all(hosts.iter().map(|host| host.join(&server, Some(&token)))).await;
    let codes: Vec<u16> = answers.iter().map(|answer| answer.code).collect();
    assert_eq!(codes.iter().filter(|code| **code == 201).count(), 2, "{codes:?}");
    assert!(codes.iter().all(|code| [201, 403].contains(code)), "{codes:?}");
    let keys = server.get(Some(&server.admin()), "/apis/drover.dev/v1alpha1/nodekeys").await.json();
    assert_eq!(keys["items"].as_array().unwrap().len(), 2);
    server.stop().await;
}

fn pem_bytes(pem: &str) -> Vec<u8> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    STANDARD.decode(body).unwrap()
}

fn to_pem(der: &[u8]) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    format!("-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n", STANDARD.encode(der))
}
