//! `kubectl top` and a Prometheus scrape.

use std::{sync::Arc, time::Duration};

use http::Method;
use serde_json::{Value, json};

use super::Requests;
use crate::{
    front::{Body, Response},
    request::RequestInfo,
    server::testing::TestServer,
    tunnel::testing::serve,
};

#[tokio::test]
async fn usage_comes_from_the_agents_and_only_for_their_own_pods() {
    let server = TestServer::start().await;
    let admin = server.admin();
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    server.post(Some(&admin), "/api/v1/namespaces/default/serviceaccounts", &account).await;
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}});
    server.post(Some(&admin), "/api/v1/nodes", &node).await;
    let mut uids = Vec::new();
    for (name, node) in [("own", "n1"), ("other", "n2")] {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
            "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}]}});
        let created = server.post(Some(&admin), "/api/v1/namespaces/default/pods", &pod).await;
        uids.push(
            created.json()["metadata"]["uid"].as_str().unwrap_or_else(|| panic!("{}", created.text())).to_owned(),
        );
    }
    let numbers = |name: &str, uid: &str| {
        json!({"namespace": "default", "name": name, "uid": uid,
            "containers": [{"name": "c", "cpuNanoCores": 1_500_000, "memoryBytes": 3 << 20}]})
    };
    let stats = json!({"node": {"cpuNanoCores": 250_000_000, "memoryBytes": 1 << 30},
        "pods": [numbers("own", &uids[0]), numbers("other", &uids[1]), numbers("own", "stale")]});
    let (ours, agents) = tokio::io::duplex(64 << 10);
    serve(
        agents,
        Arc::new(move |_| {
            let text = stats.to_string();
            Box::pin(async move { Response::new(Body::from(text)) })
        }),
    );
    server.handle.tunnels.accept("n1", ours).await.unwrap();
    let get = async |path: &str| server.get(Some(&admin), &format!("/apis/metrics.k8s.io/v1beta1/{path}")).await;
    let nodes = get("nodes").await.json();
    assert_eq!(nodes["kind"], "NodeMetricsList");
    assert_eq!(nodes["items"][0]["usage"], json!({"cpu": "250000000n", "memory": "1048576Ki"}));
    let names = |list: &Value| -> Vec<String> {
        let items = list["items"].as_array().unwrap_or_else(|| panic!("{list}"));
        items.iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&get("pods").await.json()), ["own"]);
    assert_eq!(names(&get("namespaces/default/pods?labelSelector=app%3Down").await.json()), ["own"]);
    assert!(names(&get("pods?labelSelector=app%3Dx").await.json()).is_empty());
    let own = get("namespaces/default/pods/own").await.json();
    assert_eq!(own["containers"], json!([{"name": "c", "usage": {"cpu": "1500000n", "memory": "3072Ki"}}]));
    assert_eq!(get("namespaces/default/pods/other").await.code, 404);
    assert_eq!(get("nodes/n2").await.code, 404);
    server.stop().await;
}

#[tokio::test]
async fn requests_are_counted_under_kubernetes_names() {
    let server = TestServer::start().await;
    let admin = server.admin();
    server.get(Some(&admin), "/api/v1/namespaces/default/pods/none").await;
    let text = server.get(Some(&admin), "/metrics").await.text();
    let labels = "verb=\"GET\",group=\"\",version=\"v1\",resource=\"pods\",subresource=\"\"";
    assert!(text.contains(&format!("apiserver_request_total{{{labels},code=\"404\"}} 1\n")), "{text}");
    assert!(text.contains(&format!("apiserver_request_duration_seconds_count{{{labels}}} 1\n")), "{text}");
    assert_eq!(server.get(None, "/metrics").await.code, 401);
    server.stop().await;
}

#[test]
fn strangers_words_make_no_series() {
    let requests = Requests::default();
    for index in 0..100 {
        let path = format!("/apis/group-{index}/v1/things-{index}/x/y-{index}");
        let info = RequestInfo::parse(&Method::GET, &path, None).unwrap();
        requests.observe(Some(&info), 404, Duration::from_millis(1));
    }
    requests.observe(None, 400, Duration::ZERO);
    let series = requests.render().lines().filter(|line| line.starts_with("apiserver_request_total")).count();
    assert_eq!(series, 2);
}
