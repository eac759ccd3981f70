//! Slices as tables, and their laws.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::plan::{Action, SLICE_MAX, plan};
use super::{legacy, selects};

fn service(extra: &Value) -> Service {
    let mut service = json!({"metadata": {"name": "web", "namespace": "shop", "uid": "s-1", "labels": {"team": "a"}},
        "spec": {"clusterIP": "10.96.0.9", "selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": "web"}]}});
    json_patch::merge(&mut service, extra);
    serde_json::from_value(service).unwrap()
}

fn pod_value(number: usize, extra: &Value) -> Value {
    let mut pod = json!({
        "metadata": {"name": format!("p{number:04}"), "namespace": "shop", "uid": format!("u{number}"), "labels": {"app": "web"}},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "ports": [{"name": "web", "containerPort": 8080}]}]},
        "status": {"phase": "Running", "podIP": format!("10.128.{}.{}", number / 200, number % 200),
            "conditions": [{"type": "ContainersReady", "status": "True"}, {"type": "Ready", "status": "False"}]}});
    json_patch::merge(&mut pod, extra);
    pod
}

fn pod(number: usize, extra: &Value) -> Arc<Pod> {
    Arc::new(serde_json::from_value(pod_value(number, extra)).unwrap())
}

fn zone(_: &str) -> Option<String> {
    Some("z1".to_owned())
}

/// Carries out a plan as the API server would.
fn enact(actions: &[Action], slices: &mut Vec<Arc<EndpointSlice>>) {
    for action in actions {
        match action {
            Action::Create { slice } => {
                let mut slice = slice.clone();
                slice.metadata.uid = Some(format!("uid-{}", slice.metadata.name.as_ref().unwrap()));
                slices.push(Arc::new(*slice));
            }
            Action::Update { slice } => {
                let found = slices.iter_mut().find(|other| other.metadata.uid == slice.metadata.uid).unwrap();
                *found = Arc::new(*slice.clone());
            }
            Action::Delete { uid, .. } => slices.retain(|slice| slice.metadata.uid.as_ref() != Some(uid)),
        }
    }
}

fn settled(service: &Service, pods: &[Arc<Pod>]) -> Vec<Arc<EndpointSlice>> {
    let mut slices = Vec::new();
    enact(&plan(Some(service), pods, &slices, &zone), &mut slices);
    slices
}

fn conditions(extra: &Value) -> Value {
    let slices = settled(&service(&json!({})), &[pod(1, extra)]);
    serde_json::to_value(&slices[0].endpoints[0].conditions).unwrap()
}

#[test]
fn a_slice_says_all_that_a_proxy_needs() {
    let slices = settled(&service(&json!({})), &[pod(1, &json!({}))]);
    let slice = serde_json::to_value(&*slices[0]).unwrap();
    assert_eq!(
        slice["metadata"]["labels"],
        json!({"team": "a", "kubernetes.io/service-name": "web",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"})
    );
    assert_eq!(slice["metadata"]["ownerReferences"][0]["uid"], "s-1");
    assert_eq!(slice["ports"], json!([{"name": "http", "port": 8080, "protocol": "TCP"}]));
    assert_eq!(
        slice["endpoints"],
        json!([{"addresses": ["10.128.0.1"], "nodeName": "n1", "zone": "z1",
        "conditions": {"ready": true, "serving": true, "terminating": false},
        "targetRef": {"kind": "Pod", "namespace": "shop", "name": "p0001", "uid": "u1"}}])
    );
}

#[test]
fn an_endpoint_is_ready_before_its_pod_is_and_stays_while_it_drains() {
    assert_eq!(conditions(&json!({})), json!({"ready": true, "serving": true, "terminating": false}));
    let terminating = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    assert_eq!(conditions(&terminating), json!({"ready": false, "serving": true, "terminating": true}));
    let starting = json!({"status": {"conditions": [{"type": "ContainersReady", "status": "False"}]}});
    assert_eq!(conditions(&starting), json!({"ready": false, "serving": false, "terminating": false}));
    let gated = json!({"spec": {"readinessGates": [{"conditionType": "example.com/gate"}]}});
    assert_eq!(conditions(&gated), json!({"ready": false, "serving": true, "terminating": false}));
}

#[test]
fn a_pod_without_an_address_or_at_its_end_is_no_endpoint() {
    for extra in [json!({"status": {"podIP": null}}), json!({"status": {"phase": "Failed"}})] {
        assert!(settled(&service(&json!({})), &[pod(1, &extra)])[0].endpoints.is_empty());
    }
}

#[test]
fn a_headless_service_is_labelled_and_publishes_host_names() {
    let headless = service(&json!({"spec": {"clusterIP": "None"}}));
    let slices = settled(&headless, &[pod(1, &json!({"spec": {"hostname": "db-0", "subdomain": "web"}}))]);
    assert!(slices[0].metadata.labels.as_ref().unwrap().contains_key("service.kubernetes.io/headless"));
    assert_eq!(slices[0].endpoints[0].hostname.as_deref(), Some("db-0"));
}

#[test]
fn pods_that_resolve_a_named_port_differently_are_in_different_slices() {
    let other = json!({"spec": {"containers": [{"name": "c", "ports": [{"name": "web", "containerPort": 9090}]}]}});
    let slices = settled(&service(&json!({})), &[pod(1, &json!({})), pod(2, &other)]);
    let mut ports: Vec<_> = slices.iter().map(|slice| slice.ports.as_ref().unwrap()[0].port).collect();
    ports.sort();
    assert_eq!(ports, [Some(8080), Some(9090)]);
}

#[test]
fn a_service_without_a_selector_has_no_slices_of_ours_and_keeps_those_of_others() {
    let with = service(&json!({}));
    let mut slices = settled(&with, &[pod(1, &json!({}))]);
    let foreign: EndpointSlice = serde_json::from_value(json!({"addressType": "IPv4", "endpoints": [], "metadata": {
        "name": "by-hand", "namespace": "shop", "uid": "x", "labels": {"kubernetes.io/service-name": "web"}}}))
    .unwrap();
    slices.push(Arc::new(foreign));
    let without = service(&json!({"spec": {"selector": null}}));
    let actions = plan(Some(&without), &[], &slices, &zone);
    assert_eq!(actions.len(), 1, "{actions:?}");
    assert!(matches!(&actions[0], Action::Delete { uid, .. } if uid != "x"));
    assert!(!selects(&without, &pod(1, &json!({}))));
}

#[test]
fn one_pods_change_is_one_write_of_one_slice() {
    let service = service(&json!({}));
    let mut pods: Vec<_> = (0..250).map(|number| pod(number, &json!({}))).collect();
    let slices = settled(&service, &pods);
    assert_eq!(slices.iter().map(|slice| slice.endpoints.len()).collect::<Vec<_>>(), [100, 100, 50]);
    pods[120] = pod(120, &json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}));
    let actions = plan(Some(&service), &pods, &slices, &zone);
    assert_eq!(
        actions.iter().map(|action| action.to_string().split(' ').next().unwrap().to_owned()).collect::<Vec<_>>(),
        ["update"]
    );
    pods.push(pod(300, &json!({})));
    assert_eq!(plan(Some(&service), &pods, &slices, &zone).len(), 2, "the new pod fills a hole");
}

#[test]
fn names_of_slices_repeat() {
    let one = plan(Some(&service(&json!({}))), &[pod(1, &json!({}))], &[], &zone);
    assert_eq!(one, plan(Some(&service(&json!({}))), &[pod(1, &json!({}))], &[], &zone));
}

#[test]
fn the_older_form_tells_ready_from_not_ready_and_settles() {
    let starting = json!({"status": {"conditions": [{"type": "ContainersReady", "status": "False"}]}});
    let pods = [pod(1, &json!({})), pod(2, &starting)];
    let service = service(&json!({}));
    let legacy::Action::Create(endpoints) = legacy::plan(Some(&service), &pods, None) else { panic!("no create") };
    let subsets = serde_json::to_value(&endpoints.subsets).unwrap();
    assert_eq!(subsets[0]["addresses"][0]["ip"], "10.128.0.1");
    assert_eq!(subsets[0]["notReadyAddresses"][0]["ip"], "10.128.0.2");
    assert_eq!(subsets[0]["ports"], json!([{"name": "http", "port": 8080, "protocol": "TCP"}]));
    assert_eq!(legacy::plan(Some(&service), &pods, Some(&endpoints)), legacy::Action::None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_pod_is_in_exactly_one_slice_and_a_second_pass_writes_nothing(
        before in proptest::collection::btree_set(0usize..400, 0..260), after in proptest::collection::btree_set(0usize..400, 0..260),
    ) {
        let service = service(&json!({}));
        let make = |numbers: &BTreeSet<usize>| numbers.iter().map(|number| pod(*number, &json!({}))).collect::<Vec<_>>();
        let mut slices = settled(&service, &make(&before));
        let pods = make(&after);
        enact(&plan(Some(&service), &pods, &slices, &zone), &mut slices);
        let mut found: Vec<String> = slices.iter().flat_map(|slice| &slice.endpoints)
            .map(|endpoint| endpoint.target_ref.as_ref().unwrap().uid.clone().unwrap()).collect();
        found.sort();
        let mut wanted: Vec<String> = after.iter().map(|number| format!("u{number}")).collect();
        wanted.sort();
        prop_assert_eq!(found, wanted);
        prop_assert!(slices.iter().all(|slice| slice.endpoints.len() <= SLICE_MAX));
        let again = plan(Some(&service), &pods, &slices, &zone);
        prop_assert!(again.is_empty(), "{:?}", again);
        let mut reversed = pods.clone();
        reversed.reverse();
        prop_assert_eq!(plan(Some(&service), &reversed, &[], &zone), plan(Some(&service), &pods, &[], &zone));
    }
}
