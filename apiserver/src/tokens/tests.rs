//! Tokens from order to use, over TLS, and every way in which one stops being valid.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{Tokens, claims::Claims, jwt::Key};
use crate::server::testing::{Answer, TestServer};

fn key() -> Key {
    Key::from_pem(&rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap()
}

#[test]
fn only_the_signing_key_and_only_its_algorithm_verify() {
    let (key, other) = (key(), key());
    let claims = json!({"sub": "x"});
    let token = key.sign(&claims);
    assert_eq!(key.verify(&token), Some(claims));
    assert_eq!(other.verify(&token), None);
    let parts: Vec<&str> = token.split('.').collect();
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let header = |alg: &str| encode(&json!({"alg": alg, "kid": key.to_jwk()["kid"]}));
    let forged = [
        format!("{}.{}.", header("none"), parts[1]),
        format!("{}.{}.{}", header("HS256"), parts[1], parts[2]),
        format!("{}.{}.{}", parts[0], encode(&json!({"sub": "y"})), parts[2]),
        format!("{}.{}", parts[0], parts[1]),
        format!("{token}."),
        String::new(),
        "a".repeat(100_000),
    ];
    for token in forged {
        assert_eq!(key.verify(&token), None, "{}", &token[..token.len().min(80)]);
    }
}

#[test]
fn claims_that_contradict_each_other_are_none() {
    let good = json!({"iss": super::ISSUER, "sub": "system:serviceaccount:a:b", "aud": ["x"], "jti": "1", "nbf": 100,
        "exp": 200, "kubernetes.io": {"namespace": "a", "serviceaccount": {"name": "b", "uid": "u"}}});
    let read = Claims::read(&good).unwrap();
    assert!(read.check_time(150).is_ok() && read.check_time(95).is_ok());
    assert!(read.check_time(200).is_err() && read.check_time(89).is_err());
    assert_eq!(read.common_audiences(&["y".to_owned()]), None);
    assert!(read.user().in_group("system:serviceaccounts:a"));
    let changes = [
        ("iss", json!("https://evil")),
        ("sub", json!("system:serviceaccount:kube-system:b")),
        ("exp", json!("never")),
        ("aud", json!(7)),
        ("kubernetes.io", json!({"namespace": "a", "serviceaccount": {"name": "b", "uid": ""}})),
        ("kubernetes.io", json!({"namespace": "a", "serviceaccount": {"name": "b", "uid": "u"}, "pod": {}})),
    ];
    for (key, value) in changes {
        let mut bad = good.clone();
        bad[key] = value.clone();
        assert_eq!(Claims::read(&bad), None, "{key} {value}");
    }
}

struct World {
    server: TestServer,
}

impl World {
    async fn start() -> Self {
        let world = Self { server: TestServer::start().await };
        let account = |name: &str| json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}});
        for name in ["default", "bot"] {
            // The cluster may have made `default` already.
            world.post("serviceaccounts", &account(name)).await;
        }
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
            "spec": {"serviceAccountName": "bot", "nodeName": "n1", "containers": [{"name": "c", "image": "i"}]}});
        let created = world.post("pods", &pod).await;
        assert_eq!(created.code, 201, "{}", created.text());
        world
    }

    async fn post(&self, resource: &str, body: &Value) -> Answer {
        let path = format!("/api/v1/namespaces/default/{resource}");
        self.server.post(Some(&self.server.admin()), &path, body).await
    }

    async fn order(&self, account: &str, spec: Value) -> Answer {
        let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
        self.post(&format!("serviceaccounts/{account}/token"), &body).await
    }

    async fn use_token(&self, token: &str) -> Answer {
        let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}).to_string();
        let mut request = self.server.request("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", body);
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        self.server.send(None, request).await
    }

    async fn delete(&self, resource: &str) {
        let path = format!("/api/v1/namespaces/default/{resource}?gracePeriodSeconds=0");
        let deleted = self.server.send(Some(&self.server.admin()), self.server.request("DELETE", &path, "")).await;
        assert_eq!(deleted.code, 200, "{}", deleted.text());
    }
}

fn token_of(answer: &Answer) -> String {
    answer.json()["status"]["token"].as_str().unwrap_or_else(|| panic!("{}", answer.text())).to_owned()
}

#[tokio::test]
async fn a_bound_token_works_until_its_pod_is_gone() {
    let world = World::start().await;
    let answer = world.order("bot", json!({"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p"}})).await;
    assert_eq!(answer.code, 201, "{}", answer.text());
    assert_eq!(answer.json()["spec"]["expirationSeconds"], 3600);
    let token = token_of(&answer);
    let review = world.use_token(&token).await;
    assert_eq!(review.code, 201, "{}", review.text());
    let user = review.json()["status"]["userInfo"].clone();
    assert_eq!(user["username"], "system:serviceaccount:default:bot");
    assert_eq!(user["extra"]["authentication.kubernetes.io/pod-name"], json!(["p"]));
    world.delete("pods/p").await;
    assert_eq!(world.use_token(&token).await.code, 401);
    world.server.stop().await;
}

#[tokio::test]
async fn a_token_dies_with_its_account_even_when_another_of_the_name_comes() {
    let world = World::start().await;
    let token = token_of(&world.order("bot", json!({})).await);
    assert_eq!(world.use_token(&token).await.code, 201);
    world.delete("serviceaccounts/bot").await;
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "bot"}});
    assert_eq!(world.post("serviceaccounts", &account).await.code, 201);
    assert_eq!(world.use_token(&token).await.code, 401);
    world.server.stop().await;
}

#[tokio::test]
async fn audiences_are_kept_apart() {
    let world = World::start().await;
    let token = token_of(&world.order("bot", json!({"audiences": ["api"]})).await);
    assert_eq!(world.use_token(&token).await.code, 401, "not for this API");
    let review = async |spec: Value| {
        let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec});
        let path = "/apis/authentication.k8s.io/v1/tokenreviews";
        world.server.post(Some(&world.server.admin()), path, &body).await.json()["status"].clone()
    };
    let status = review(json!({"token": token, "audiences": ["api", "other"]})).await;
    assert_eq!((&status["authenticated"], &status["audiences"]), (&json!(true), &json!(["api"])));
    assert_eq!(status["user"]["username"], "system:serviceaccount:default:bot");
    let status = review(json!({"token": token})).await;
    assert_eq!(status["error"], "the token is for another audience");
    world.server.stop().await;
}

#[tokio::test]
async fn orders_that_make_no_sense_are_refused() {
    let world = World::start().await;
    let table = [
        ("none", json!({}), 404),
        ("bot", json!({"expirationSeconds": 599}), 422),
        ("bot", json!({"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "gone"}}), 404),
        ("bot", json!({"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": "other"}}), 409),
        ("default", json!({"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p"}}), 400),
        ("bot", json!({"boundObjectRef": {"kind": "Deployment", "apiVersion": "apps/v1", "name": "p"}}), 422),
    ];
    for (account, spec, code) in table {
        let answer = world.order(account, spec.clone()).await;
        assert_eq!(answer.code, code, "{spec}: {}", answer.text());
    }
    world.server.stop().await;
}

#[tokio::test]
async fn a_node_gets_tokens_for_its_own_pods_only() {
    let world = World::start().await;
    let [n1, n2] = [world.server.handle.issue_node_certificate("n1"), world.server.handle.issue_node_certificate("n2")];
    let (n1, n2) = (n1.await.unwrap(), n2.await.unwrap());
    let order = async |identity, spec: Value| {
        let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
        world.server.post(Some(identity), "/api/v1/namespaces/default/serviceaccounts/bot/token", &body).await.code
    };
    let bound = json!({"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p"}});
    assert_eq!(order(&n1, bound.clone()).await, 201);
    assert_eq!(order(&n1, json!({})).await, 403, "never unbound");
    assert_eq!(order(&n2, bound).await, 403);
    world.server.stop().await;
}

#[tokio::test]
async fn the_issuer_describes_itself() {
    let world = World::start().await;
    let admin = world.server.admin();
    let configuration = world.server.get(Some(&admin), "/.well-known/openid-configuration").await.json();
    assert_eq!(configuration["issuer"], super::ISSUER);
    let keys = world.server.get(Some(&admin), "/openid/v1/jwks").await;
    assert_eq!(keys.headers["content-type"], "application/jwk-set+json");
    assert_eq!((&keys.json()["keys"][0]["kty"], &keys.json()["keys"][0]["crv"]), (&json!("EC"), &json!("P-256")));
    assert_eq!(world.server.get(None, "/openid/v1/jwks").await.code, 401);
    world.server.stop().await;
}

#[test]
fn a_key_that_is_none_is_refused() {
    let objects = std::sync::Arc::new(crate::objects::Nothing);
    let environment = std::sync::Arc::new(crate::registry::System);
    assert!(Tokens::new("junk", objects, environment, "https://x").is_err());
}
