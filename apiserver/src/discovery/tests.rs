//! Documents as clients read them.

use http::{HeaderMap, HeaderValue, Method, header};
use http_body_util::BodyExt;
use serde_json::Value;

use super::Discovery;
use crate::{front::Response, request::RequestInfo};

async fn get(path: &str, headers: &[(header::HeaderName, &str)]) -> (Response, Value) {
    let discovery = Discovery::new("127.0.0.1:6443");
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(name, HeaderValue::from_str(value).unwrap());
    }
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    let info = RequestInfo::parse(&Method::GET, path, query).unwrap();
    let response = match discovery.answer(&info, &map).expect("a discovery path") {
        Ok(response) => response,
        Err(error) => crate::front::error_response(&error),
    };
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let value = serde_json::from_slice(&bytes).unwrap_or_default();
    (Response::from_parts(parts, bytes.into()), value)
}

fn header_of(response: &Response, name: header::HeaderName) -> &str {
    response.headers()[name].to_str().unwrap()
}

#[tokio::test]
async fn legacy_documents_have_what_kubectl_reads() {
    let (_, api) = get("/api", &[]).await;
    assert_eq!((api["kind"].as_str(), api["versions"][0].as_str()), (Some("APIVersions"), Some("v1")));
    let (_, core) = get("/api/v1", &[]).await;
    let resources = core["resources"].as_array().unwrap();
    let named = |name: &str| resources.iter().find(|entry| entry["name"] == name).unwrap_or_else(|| panic!("{name}"));
    assert_eq!(named("pods")["shortNames"][0], "po");
    assert_eq!(named("pods")["categories"][0], "all");
    assert_eq!(named("pods/eviction")["group"], "policy");
    assert_eq!(named("pods/log")["kind"], "Pod");
    assert_eq!(named("serviceaccounts/token")["kind"], "TokenRequest");
    let (_, groups) = get("/apis", &[]).await;
    let names: Vec<&str> = groups["groups"].as_array().unwrap().iter().filter_map(|g| g["name"].as_str()).collect();
    assert!(names.contains(&"apps") && names.contains(&"metrics.k8s.io") && !names.contains(&""), "{names:?}");
    let (_, apps) = get("/apis/apps", &[]).await;
    assert_eq!(apps["preferredVersion"]["groupVersion"], "apps/v1");
    let (_, apps) = get("/apis/apps/v1", &[]).await;
    let scale = apps["resources"].as_array().unwrap().iter().find(|entry| entry["name"] == "deployments/scale");
    assert_eq!(scale.unwrap()["kind"], "Scale");
}

#[tokio::test]
async fn aggregated_discovery_is_negotiated_in_the_clients_order() {
    let v2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let v2beta1 = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";
    let all = format!("{v2},{v2beta1},application/json");
    let (response, body) = get("/apis", &[(header::ACCEPT, &all)]).await;
    assert_eq!(header_of(&response, header::CONTENT_TYPE), v2);
    assert_eq!(header_of(&response, header::VARY), "Accept");
    assert_eq!(body["apiVersion"], "apidiscovery.k8s.io/v2");
    let older = format!("{v2beta1},application/json");
    let (response, body) = get("/api", &[(header::ACCEPT, &older)]).await;
    assert_eq!(header_of(&response, header::CONTENT_TYPE), v2beta1);
    let pods = body["items"][0]["versions"][0]["resources"].as_array().unwrap();
    let pods = pods.iter().find(|entry| entry["resource"] == "pods").unwrap();
    assert_eq!(pods["scope"], "Namespaced");
    assert!(pods["subresources"].as_array().unwrap().iter().any(|sub| sub["subresource"] == "log"));
    let (response, _) = get("/apis/apps", &[(header::ACCEPT, &all)]).await;
    assert_eq!(header_of(&response, header::CONTENT_TYPE), "application/json");
}

#[tokio::test]
async fn nothing_acceptable_is_406() {
    let (response, body) = get("/apis/apps", &[(header::ACCEPT, "application/vnd.kubernetes.protobuf")]).await;
    assert_eq!((response.status().as_u16(), body["reason"].as_str()), (406, Some("NotAcceptable")));
}

#[tokio::test]
async fn a_client_that_has_the_document_gets_304() {
    let (response, _) = get("/apis", &[]).await;
    let etag = header_of(&response, header::ETAG).to_owned();
    let (response, _) = get("/apis", &[(header::IF_NONE_MATCH, &etag)]).await;
    assert_eq!(response.status(), 304);
}

#[tokio::test]
async fn the_openapi_index_names_every_document_by_its_fingerprint() {
    let (_, index) = get("/openapi/v3", &[]).await;
    for (path, entry) in index["paths"].as_object().unwrap() {
        let url = entry["serverRelativeURL"].as_str().unwrap();
        assert!(url.starts_with(&format!("/openapi/v3/{path}?hash=")), "{url}");
        let (response, document) = get(url, &[]).await;
        assert_eq!(header_of(&response, header::CACHE_CONTROL), "public, immutable");
        assert!(document["openapi"].is_string());
        let (response, _) = get(&format!("/openapi/v3/{path}?hash=old"), &[]).await;
        assert_eq!((response.status().as_u16(), header_of(&response, header::LOCATION)), (301, url));
    }
}
