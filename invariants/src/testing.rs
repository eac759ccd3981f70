//! A good world, and what tests break it with.

use k8s_openapi::api::{
    apps::v1::ReplicaSet,
    core::v1::{PersistentVolumeClaim, Pod},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{Container, ContainerPhase, NodeView, World, check_invariants};

pub(crate) fn object<T: DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).expect("the test's object is one")
}

const MADE: &str = "2026-01-01T11:50:00Z";

/// A Deployment of two ready pods on two nodes behind a Service, all as it should be.
pub(crate) fn good() -> World {
    let node = |number: u32| {
        object(&json!({"metadata": {"name": format!("n{number}"), "creationTimestamp": MADE},
            "spec": {"podCIDR": format!("10.1.{number}.0/24")},
            "status": {"allocatable": {"cpu": "2", "pods": "9"},
                "conditions": [{"type": "Ready", "status": "True", "reason": "AgentReady"}]}}))
    };
    let endpoint = |number: u32| json!({"addresses": [format!("10.1.{number}.{number}")], "conditions": {"ready": true, "serving": true, "terminating": false}});
    let mut world = World {
        now: "2026-01-01T12:00:00Z".parse().expect("a time"),
        deployments: vec![object(&json!({
            "metadata": {"name": "web", "namespace": "d", "uid": "dep", "generation": 1, "creationTimestamp": MADE},
            "spec": {"replicas": 2, "selector": {}, "template": {}, "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}},
            "status": {"observedGeneration": 1, "replicas": 2, "readyReplicas": 2,
                "conditions": [{"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}]}}))],
        replica_sets: vec![set("web-1", "rs-1", 2)],
        pods: vec![pod(1, "n1"), pod(2, "n2")],
        services: vec![object(&json!({
            "metadata": {"name": "web", "namespace": "d", "creationTimestamp": MADE},
            "spec": {"clusterIP": "10.9.0.1", "selector": {"app": "web"}, "ports": [{"name": "http", "port": 80}]}}))],
        slices: vec![object(&json!({
            "metadata": {"name": "web-x", "namespace": "d", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4", "ports": [{"name": "http", "port": 80}], "endpoints": [endpoint(1), endpoint(2)]}))],
        nodes: vec![node(1), node(2)],
        ..World::default()
    };
    for number in [1u32, 2] {
        let uid = format!("u{number}");
        let targets = [1, 2].map(|number| format!("10.1.{number}.{number}:80"));
        let view = NodeView {
            containers: vec![container(&uid, "c", 0)],
            sandboxes: [(uid, format!("10.1.{number}.{number}"))].into(),
            routes: [("d/web:http".to_owned(), targets.into())].into(),
            routes_seen: true,
            ..NodeView::default()
        };
        world.hosts.insert(format!("n{number}"), view);
    }
    world
}

pub(crate) fn set(name: &str, uid: &str, replicas: i64) -> ReplicaSet {
    object(&json!({
        "metadata": {"name": name, "namespace": "d", "uid": uid, "generation": 1, "creationTimestamp": MADE, "ownerReferences": [
            {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "dep", "controller": true}]},
        "spec": {"replicas": replicas, "selector": {}},
        "status": {"observedGeneration": 1, "replicas": replicas, "readyReplicas": replicas}}))
}

/// A ready pod of the good world's set.
pub(crate) fn pod(number: u32, node: &str) -> Pod {
    let address = format!("10.1.{}.{number}", node.trim_start_matches('n'));
    let is = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": MADE});
    object(&json!({
        "metadata": {"name": format!("web-{number}"), "namespace": "d", "uid": format!("u{number}"), "labels": {"app": "web"},
            "creationTimestamp": MADE, "ownerReferences": [
            {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-1", "uid": "rs-1", "controller": true}]},
        "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}]},
        "status": {"phase": "Running", "podIP": address, "conditions": [is("PodScheduled"), is("ContainersReady"), is("Ready")],
            "containerStatuses": [{"name": "c", "image": "i", "imageID": "", "ready": true, "restartCount": 0,
                "state": {"running": {"startedAt": MADE}}}]}}))
}

/// A pod of nobody that found no node and says so.
pub(crate) fn unscheduled(number: u32, cpu: &str) -> Pod {
    object(&json!({
        "metadata": {"name": format!("web-{number}"), "namespace": "d", "uid": format!("u{number}"), "creationTimestamp": MADE},
        "spec": {"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}]},
        "status": {"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/2 nodes are available"}]}}))
}

pub(crate) fn claim(name: &str, phase: &str, volume: &str) -> PersistentVolumeClaim {
    object(&json!({
        "metadata": {"name": name, "namespace": "d", "uid": "claim", "creationTimestamp": MADE},
        "spec": {"volumeName": volume, "accessModes": ["ReadWriteOnce"]}, "status": {"phase": phase}}))
}

pub(crate) fn container(pod: &str, name: &str, attempt: u32) -> Container {
    Container {
        name: format!("drover_{name}_{pod}_{attempt}"),
        pod_uid: Some(pod.to_owned()),
        container: name.to_owned(),
        attempt,
        phase: ContainerPhase::Running,
        starts: 1,
    }
}

/// What a change of the good world breaks.
pub(crate) type Case<'a> = (&'a str, &'a dyn Fn(&mut World), &'a [&'a str]);

/// Checks that each change of the good world breaks exactly these rules.
pub(crate) fn check_tables(cases: &[Case<'_>]) {
    for quiet_secs in [0.0, 500.0] {
        assert_eq!(check_invariants(&World { quiet_secs, ..good() }), [], "the good world after {quiet_secs} s");
    }
    for (what, change, expected) in cases {
        let mut world = good();
        change(&mut world);
        let found = check_invariants(&world);
        let rules: Vec<&str> = found.iter().map(|violation| violation.rule).collect();
        assert_eq!(&rules, expected, "{what}: {found:#?}");
    }
}
