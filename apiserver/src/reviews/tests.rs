//! Questions over TLS, as `kubectl auth` asks them.

use serde_json::{Value, json};

use crate::server::testing::TestServer;

async fn ask(server: &TestServer, kind: &str, plural: &str, spec: Value) -> (u16, Value) {
    let body = json!({"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec});
    let path = format!("/apis/authorization.k8s.io/v1/{plural}");
    let answer = server.post(Some(&server.admin()), &path, &body).await;
    (answer.code, answer.json())
}

#[tokio::test]
async fn access_reviews_decide_as_requests_are_decided() {
    let server = TestServer::start().await;
    let of_pods = |verb: &str| json!({"namespace": "default", "verb": verb, "resource": "pods"});
    let spec = json!({"resourceAttributes": of_pods("delete")});
    let (code, own) = ask(&server, "SelfSubjectAccessReview", "selfsubjectaccessreviews", spec).await;
    assert_eq!((code, &own["status"]["allowed"]), (201, &json!(true)));
    let spec = json!({"user": "u", "resourceAttributes": of_pods("list")});
    let (_, other) = ask(&server, "SubjectAccessReview", "subjectaccessreviews", spec).await;
    assert_eq!(other["status"], json!({"allowed": false}));
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "b"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "User", "name": "u", "apiGroup": "rbac.authorization.k8s.io"}]});
    let path = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings";
    let created = server.post(Some(&server.admin()), path, &binding).await;
    assert_eq!(created.code, 201, "{}", created.text());
    for (verb, plural, allowed) in [("list", "pods", true), ("delete", "pods", false), ("get", "secrets", false)] {
        let spec =
            json!({"user": "u", "resourceAttributes": {"namespace": "default", "verb": verb, "resource": plural}});
        let (_, review) = ask(&server, "LocalSubjectAccessReview", "localsubjectaccessreviews", spec.clone()).await;
        assert_eq!(review["code"], 404, "a local review lives in a namespace");
        let (_, review) = ask(&server, "SubjectAccessReview", "subjectaccessreviews", spec).await;
        assert_eq!(review["status"]["allowed"], allowed, "{verb} {plural}");
    }
    let path = json!({"nonResourceAttributes": {"verb": "get", "path": "/metrics"}, "user": "u", "groups": ["system:authenticated"]});
    let (_, review) = ask(&server, "SubjectAccessReview", "subjectaccessreviews", path).await;
    assert_eq!(review["status"]["allowed"], false);
    let (code, _) = ask(&server, "SubjectAccessReview", "subjectaccessreviews", json!({"user": "u"})).await;
    assert_eq!(code, 422);
    server.stop().await;
}

#[tokio::test]
async fn rules_reviews_list_what_a_user_may_do() {
    let server = TestServer::start().await;
    let (_, review) =
        ask(&server, "SelfSubjectRulesReview", "selfsubjectrulesreviews", json!({"namespace": "default"})).await;
    assert_eq!(review["status"]["resourceRules"][0]["verbs"], json!(["*"]));
    assert_eq!(review["status"]["incomplete"], false);
    server.stop().await;
}

#[tokio::test]
async fn impersonation_needs_the_right_and_then_counts_everywhere() {
    let server = TestServer::start().await;
    let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}).to_string();
    let request = |headers: &[(&'static str, &'static str)]| {
        let mut request = server.request("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", body.clone());
        for (name, value) in headers {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        request
    };
    let as_u = [("impersonate-user", "u"), ("impersonate-group", "g"), ("impersonate-extra-scopes", "s")];
    let answer = server.send(Some(&server.admin()), request(&as_u)).await;
    let info = answer.json()["status"]["userInfo"].clone();
    assert_eq!(info["username"], "u", "{}", answer.text());
    assert_eq!(info["groups"], json!(["g", "system:authenticated"]));
    assert_eq!(info["extra"], json!({"scopes": ["s"]}));
    let node = server.handle.issue_node_certificate("n1").await.unwrap();
    let refused = server.send(Some(&node), request(&as_u)).await;
    assert_eq!(refused.code, 403);
    assert!(refused.text().contains("cannot impersonate resource \\\"users\\\""), "{}", refused.text());
    let nobody = server.send(Some(&server.admin()), request(&[("impersonate-group", "g")])).await;
    assert_eq!(nobody.code, 400);
    server.stop().await;
}
