//! Table tests of the canonical reading.

use http::Method;

use super::RequestInfo;

fn parse(method: &str, target: &str) -> Result<RequestInfo, u16> {
    let method: Method = method.parse().unwrap();
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    RequestInfo::parse(&method, path, query).map_err(|error| error.code)
}

/// verb group/version namespace resource subresource name
fn words(method: &str, target: &str) -> String {
    match parse(method, target) {
        Err(code) => code.to_string(),
        Ok(info) if !info.is_resource => format!("{} {}", info.verb, info.path),
        Ok(info) => format!(
            "{} {}/{} ns={} {}/{} name={}",
            info.verb, info.api_group, info.api_version, info.namespace, info.resource, info.subresource, info.name
        ),
    }
}

#[test]
fn reads_every_shape_of_resource_path() {
    let table = [
        ("GET", "/api/v1/pods", "list /v1 ns= pods/ name="),
        ("GET", "/api/v1/namespaces/a/pods", "list /v1 ns=a pods/ name="),
        ("GET", "/api/v1/namespaces/a/pods/p", "get /v1 ns=a pods/ name=p"),
        ("HEAD", "/api/v1/namespaces/a/pods/p", "get /v1 ns=a pods/ name=p"),
        ("GET", "/api/v1/namespaces/a/pods/p/log?follow=true", "get /v1 ns=a pods/log name=p"),
        ("POST", "/api/v1/namespaces/a/pods/p/exec?command=a&command=b", "create /v1 ns=a pods/exec name=p"),
        ("GET", "/api/v1/namespaces/a/pods/p?watch=true", "get /v1 ns=a pods/ name=p"),
        ("GET", "/api/v1/namespaces/a/pods/p/exec?command=a", "create /v1 ns=a pods/exec name=p"),
        ("GET", "/api/v1/namespaces/a/pods/p/portforward", "create /v1 ns=a pods/portforward name=p"),
        ("GET", "/api/v1/namespaces", "list /v1 ns= namespaces/ name="),
        ("GET", "/api/v1/namespaces/a", "get /v1 ns=a namespaces/ name=a"),
        ("PUT", "/api/v1/namespaces/a/finalize", "update /v1 ns=a namespaces/finalize name=a"),
        ("PATCH", "/api/v1/namespaces/a/status", "patch /v1 ns=a namespaces/status name=a"),
        ("DELETE", "/apis/apps/v1/namespaces/a/deployments", "deletecollection apps/v1 ns=a deployments/ name="),
        ("DELETE", "/apis/apps/v1/namespaces/a/deployments/d", "delete apps/v1 ns=a deployments/ name=d"),
        ("GET", "/apis/apps/v1/deployments?watch=1", "watch apps/v1 ns= deployments/ name="),
        ("GET", "/apis/apps/v1/deployments?watch=true", "watch apps/v1 ns= deployments/ name="),
        ("GET", "/apis/apps/v1/deployments?watch=False", "list apps/v1 ns= deployments/ name="),
        ("GET", "/api/v1/nodes?fieldSelector=metadata.name%3Dn1&watch=t", "watch /v1 ns= nodes/ name=n1"),
        ("GET", "/api/v1/nodes?fieldSelector=spec.unschedulable%3D%3Dfalse", "list /v1 ns= nodes/ name="),
        (
            "GET",
            "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode",
            "get rbac.authorization.k8s.io/v1 ns= clusterroles/ name=system:node",
        ),
        ("GET", "/api", "get /api"),
        ("GET", "/apis/", "get /apis"),
        ("GET", "/api/v1", "get /api/v1"),
        ("GET", "/apis/apps/v1", "get /apis/apps/v1"),
        ("GET", "/", "get /"),
        ("POST", "/version", "post /version"),
    ];
    for (method, target, expected) in table {
        assert_eq!(words(method, target), expected, "{method} {target}");
    }
}

#[test]
fn refuses_every_ambiguous_spelling() {
    let targets = [
        "//api/v1/pods",
        "/api//v1/pods",
        "/api/v1/pods//",
        "//",
        "/api/v1/../v1/pods",
        "/api/v1/./pods",
        "/%2e%2e/api/v1/pods",
        "/api/v1/%2E/pods",
        "/api/v1/namespaces/a%2fpods",
        "/api/v1/namespaces/a%2Fpods/x",
        "/api/v1/namespaces/a%5Cb",
        "/api/v1/pods%00",
        "/api/v1/pods%0a",
        "/api/v1/pods;x=1",
        "/api/v1/pods%3Bx",
        "/api/v1/pods%252f",
        "/api/v1/pods%",
        "/api/v1/pods%zz",
        "/api/v1/pods%c0%af",
        "/api/v1/pods%3Fwatch=1",
        "api/v1/pods",
        "/api/v1/pods?watch=true&watch=false",
        "/api/v1/pods?watch=maybe",
        "/api/v1/pods?limit=1&limit=2",
        "/api/v1/pods?a=%zz",
    ];
    for target in targets {
        assert_eq!(words("GET", target), "400", "{target}");
    }
}

#[test]
fn methods_that_no_resource_has_are_refused() {
    for method in ["OPTIONS", "TRACE", "CONNECT", "PROPFIND"] {
        assert_eq!(words(method, "/api/v1/pods"), "405", "{method}");
        assert_eq!(words(method, "/version"), "405", "{method}");
    }
}

#[test]
fn an_encoded_path_is_decoded_once_for_everyone() {
    let info = parse("GET", "/apis/rbac.authorization.k8s.io/v1/clusterroles/a%3Ab").unwrap();
    assert_eq!(info.path, "/apis/rbac.authorization.k8s.io/v1/clusterroles/a:b");
}

#[test]
fn query_values_are_form_decoded_and_repeatable_keys_kept_in_order() {
    let info = parse("POST", "/api/v1/namespaces/a/pods/p/exec?command=sh&command=-c&command=echo+a%2Bb&tty").unwrap();
    assert_eq!(info.query_all("command").collect::<Vec<_>>(), ["sh", "-c", "echo a+b"]);
    assert!(info.flag("tty").unwrap());
    assert!(!info.flag("stdin").unwrap());
}

#[test]
fn a_selector_names_an_object_only_when_the_name_can_be_one() {
    let name = |selector: &str| {
        RequestInfo::parse(&Method::GET, "/api/v1/pods", Some(&format!("fieldSelector={selector}"))).unwrap().name
    };
    assert_eq!(name("metadata.name%3Da"), "a");
    for bad in ["a%2Fb", "..", "."] {
        assert_eq!(name(&format!("metadata.name%3D{bad}")), "", "{bad}");
    }
}
