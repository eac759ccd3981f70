use expect_test::{Expect, expect};
use serde_json::json;

use super::*;

fn check(found: &Value, related: &Related, expected: &Expect) {
    let now = "2026-01-01T01:00:00Z".parse::<jiff::Timestamp>().unwrap().as_second();
    let lines: Vec<String> =
        describe(found, related, now).iter().map(|line| line.bare().trim_end().to_owned()).collect();
    expected.assert_eq(&(lines.join("\n") + "\n"));
}

#[test]
fn a_pod_is_described_with_its_containers_and_events() {
    let pod = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web-1", "namespace": "shop", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {"app": "web"},
            "ownerReferences": [{"kind": "ReplicaSet", "name": "web", "controller": true}]},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "web:1", "ports": [{"containerPort": 80, "protocol": "TCP"}],
            "env": [{"name": "P", "valueFrom": {"secretKeyRef": {"name": "db", "key": "p"}}}],
            "readinessProbe": {"httpGet": {"path": "/ok", "port": "http"}}, "resources": {"limits": {"memory": "64Mi"}},
            "volumeMounts": [{"name": "data", "mountPath": "/d"}]}],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "claim"}}]},
        "status": {"phase": "Running", "podIP": "10.128.0.2", "hostIP": "10.0.0.1",
            "conditions": [{"type": "Ready", "status": "False", "reason": "ContainersNotReady"}],
            "containerStatuses": [{"name": "c", "ready": false, "started": true, "restartCount": 1, "state": {"running": {"startedAt": "2026-01-01T00:00:10Z"}},
                "lastState": {"terminated": {"exitCode": 1, "reason": "Error"}}}]}});
    let event = json!({"type": "Warning", "reason": "Unhealthy", "message": "Readiness probe failed: 503", "involvedObject": {"kind": "Pod", "name": "web-1", "uid": "u"},
        "lastTimestamp": "2026-01-01T00:59:30Z"});
    let related = Related { events: vec![event], ..Related::default() };
    check(
        &pod,
        &related,
        &expect![[r#"
        Name:             web-1
        Namespace:        shop
        Kind:             Pod (v1)
        Created:          2026-01-01T00:00:00Z (60m ago)
        Labels:           app=web
        Controlled by:    ReplicaSet/web
        Status:           Running
        Waits for:        container "c" is not ready: readiness probe failed: 503
        Try:              droverctl logs web-1 -c c
        Node:             n1/10.0.0.1
        IP:               10.128.0.2
        Containers:
          c
            Image:        web:1
            State:        running, since 2026-01-01T00:00:10Z
            Last state:   terminated, Error, exit code 1
            Ready:        false
            Restarts:     1
            Ports:        80/TCP
            Limits:       memory 64Mi
            Readiness:    HTTP GET :http/ok, every 10 s, timeout 1 s, 3 failures
            Env:          P=<secret db key p>
            Mount:        /d from data
        Volumes:
          data:           persistentVolumeClaim claim
        Conditions:
          TYPE    STATUS   REASON               MESSAGE
          Ready   False    ContainersNotReady
        Events:
          LAST SEEN   TYPE      REASON      OBJECT      MESSAGE
          30s         Warning   Unhealthy   pod/web-1   Readiness probe failed: 503
    "#]],
    );
}

#[test]
fn a_service_shows_its_endpoints_and_their_state() {
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"type": "NodePort", "clusterIP": "10.96.0.9", "selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": "http", "nodePort": 30080}]}});
    let slice = json!({"endpoints": [
        {"addresses": ["10.128.0.2"], "conditions": {"ready": true}, "targetRef": {"name": "web-1"}, "nodeName": "n1"},
        {"addresses": ["10.128.0.3"], "conditions": {"ready": false, "terminating": true}, "targetRef": {"name": "web-2"}, "nodeName": "n1"}]});
    check(
        &service,
        &Related { slices: vec![slice], ..Related::default() },
        &expect![[r#"
        Name:             web
        Namespace:        shop
        Kind:             Service (v1)
        Type:             NodePort
        Cluster IP:       10.96.0.9
        Selector:         app=web
        Port:             http 80/TCP → http, node port 30080
        Endpoints:
          ADDRESS      POD     NODE   STATE
          10.128.0.2   web-1   n1     ready
          10.128.0.3   web-2   n1     terminating
        Events:           <none>
    "#]],
    );
}

#[test]
fn a_deployment_shows_its_revisions_and_a_secret_hides_its_values() {
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "uid": "d", "generation": 1},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": "25%"}},
            "template": {"spec": {"containers": [{"name": "c", "image": "web:1"}]}}},
        "status": {"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}});
    let set = json!({"metadata": {"name": "web-abc", "annotations": {"deployment.kubernetes.io/revision": "1"}, "ownerReferences": [{"uid": "d"}]},
        "spec": {"replicas": 2}, "status": {"readyReplicas": 2}});
    check(
        &deployment,
        &Related { replica_sets: vec![set], ..Related::default() },
        &expect![[r#"
        Name:             web
        Kind:             Deployment (apps/v1)
        State:            2 of 2 available
        Selector:         app=web
        Replicas:         2 desired, 2 updated, 2 total, 2 available
        Strategy:         RollingUpdate (max surge 1, max unavailable 25%)
        Pod template:
          c
            Image:        web:1
        ReplicaSets:
          REVISION   NAME      DESIRED   READY
          1          web-abc   2         2
        Events:           <none>
    "#]],
    );
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "type": "Opaque", "data": {"password": "aHVudGVyMg=="}});
    check(
        &secret,
        &Related::default(),
        &expect![[r#"
        Name:             s
        Kind:             Secret (v1)
        Type:             Opaque
        Data:
          password:       7 bytes
        Events:           <none>
    "#]],
    );
}

#[test]
fn a_node_a_claim_and_a_kind_without_sections() {
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}, "spec": {"unschedulable": true, "podCIDR": "10.128.0.0/22"},
        "status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}], "allocatable": {"cpu": "2"}}});
    let pod = json!({"metadata": {"name": "web-1", "namespace": "shop"}, "spec": {"containers": [
        {"resources": {"requests": {"cpu": "100m", "memory": "64Mi"}}}, {"resources": {"requests": {"cpu": "50m"}}}],
        "volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": "data"}}]}});
    let related = Related { pods: vec![pod], ..Related::default() };
    check(
        &node,
        &related,
        &expect![[r#"
        Name:             n1
        Kind:             Node (v1)
        Unschedulable:    true: cordoned
        Pod CIDR:         10.128.0.0/22
        InternalIP:       10.0.0.1
        Allocatable:      cpu=2
        Pods:             1
          NAMESPACE   NAME    CPU    MEMORY
          shop        web-1   150m   64Mi
        Events:           <none>
    "#]],
    );
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"},
        "spec": {"storageClassName": "local", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}, "status": {"phase": "Pending"}});
    check(
        &claim,
        &related,
        &expect![[r#"
        Name:             data
        Kind:             PersistentVolumeClaim (v1)
        Status:           Pending
        Class:            local
        Asked:            1Gi
        Access:           ReadWriteOnce
        Used by:          web-1
        Events:           <none>
    "#]],
    );
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"a": "1\n2\n"}});
    check(
        &map,
        &Related::default(),
        &expect![[r#"
        Name:             m
        Kind:             ConfigMap (v1)
        Data:
          a: |
            1
            2
        Events:           <none>
    "#]],
    );
}
