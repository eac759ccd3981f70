use proptest::prelude::*;
use serde_json::{Value, json};

use super::{apply, arbitrary};
use crate::kinds::{self, Kind};

fn kind(api_version: &str, name: &str) -> &'static Kind {
    kinds::by_gvk(api_version, name).unwrap_or_else(|| panic!("{api_version} {name} is not served"))
}

fn defaulted(api_version: &str, name: &str, mut object: Value) -> Value {
    apply(kind(api_version, name), &mut object);
    let mut again = object.clone();
    apply(kind(api_version, name), &mut again);
    assert_eq!(again, object, "defaulting twice changes nothing");
    object
}

#[test]
fn a_pod_gets_what_kubernetes_gives_it() {
    let pod = defaulted(
        "v1",
        "Pod",
        json!({"spec": {"containers": [{
        "name": "a", "image": "web",
        "ports": [{"containerPort": 80}],
        "resources": {"limits": {"cpu": "1000m", "memory": "1024Mi"}, "requests": {"cpu": "0.5"}},
        "env": [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
        "readinessProbe": {"httpGet": {"port": 80}, "timeoutSeconds": 0, "periodSeconds": 3},
        "lifecycle": {"preStop": {"httpGet": {"port": 80}}},
    }], "serviceAccount": "robot"}}),
    );
    assert_eq!(
        pod,
        json!({
            "spec": {
                "containers": [{
                    "name": "a", "image": "web", "imagePullPolicy": "Always",
                    "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                    "ports": [{"containerPort": 80, "protocol": "TCP"}],
                    "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m", "memory": "1Gi"}},
                    "env": [{"name": "IP", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIP"}}}],
                    "readinessProbe": {
                        "httpGet": {"port": 80, "path": "/", "scheme": "HTTP"},
                        "timeoutSeconds": 1, "periodSeconds": 3, "successThreshold": 1, "failureThreshold": 3,
                    },
                    "lifecycle": {"preStop": {"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}}},
                }],
                "serviceAccount": "robot", "serviceAccountName": "robot",
                "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "schedulerName": "default-scheduler",
                "terminationGracePeriodSeconds": 30, "securityContext": {}, "enableServiceLinks": true,
            },
            "status": {"phase": "Pending", "qosClass": "Burstable"},
        })
    );
}

#[test]
fn the_pull_policy_follows_from_the_tag() {
    for (image, policy) in [
        ("web", "Always"),
        ("web:latest", "Always"),
        ("web:v1", "IfNotPresent"),
        ("host:5000/web", "Always"),
        ("host:5000/web:1", "IfNotPresent"),
        ("web@sha256:abc", "IfNotPresent"),
        ("web:latest@sha256:abc", "Always"),
    ] {
        let pod = defaulted("v1", "Pod", json!({"spec": {"containers": [{"image": image}]}}));
        assert_eq!(pod["spec"]["containers"][0]["imagePullPolicy"], policy, "{image}");
    }
}

#[test]
fn volume_sources_get_their_modes() {
    let pod = defaulted(
        "v1",
        "Pod",
        json!({"spec": {"volumes": [
            {"name": "a"},
            {"name": "b", "configMap": {"name": "c"}},
            {"name": "c", "hostPath": {"path": "/x"}},
            {"name": "d", "projected": {"sources": [
                {"serviceAccountToken": {"path": "token"}},
                {"downwardAPI": {"items": [{"path": "n", "fieldRef": {"fieldPath": "metadata.name"}}]}},
            ]}},
            {"name": "e", "downwardAPI": {"items": [{"path": "m", "resourceFieldRef": {"resource": "limits.cpu"}}]}},
        ]}}),
    );
    assert_eq!(
        pod["spec"]["volumes"],
        json!([
            {"name": "a", "emptyDir": {}},
            {"name": "b", "configMap": {"name": "c", "defaultMode": 420}},
            {"name": "c", "hostPath": {"path": "/x", "type": ""}},
            {"name": "d", "projected": {"defaultMode": 420, "sources": [
                {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}},
                {"downwardAPI": {"items": [{"path": "n", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}]}},
            ]}},
            {"name": "e", "downwardAPI": {"defaultMode": 420, "items": [
                {"path": "m", "resourceFieldRef": {"divisor": "0", "resource": "limits.cpu"}},
            ]}},
        ])
    );
}

#[test]
fn host_network_opens_the_container_ports_on_the_host() {
    let spec = json!({"hostNetwork": true, "containers": [{"ports": [{"containerPort": 80}, {"containerPort": 81, "hostPort": 9}]}]});
    let pod = defaulted("v1", "Pod", json!({"spec": spec}));
    let ports = &pod["spec"]["containers"][0]["ports"];
    assert_eq!((&ports[0]["hostPort"], &ports[1]["hostPort"]), (&json!(80), &json!(9)));
    let template = json!({"spec": {"template": {"spec": spec}}});
    let deployment = defaulted("apps/v1", "Deployment", template);
    assert_eq!(deployment["spec"]["template"]["spec"]["containers"][0]["ports"][0].get("hostPort"), None);
}

#[test]
fn qos_classes_follow_requests_and_limits() {
    let class = |containers: Value| super::qos_class(&json!({"containers": containers}));
    let full = json!({"resources": {"limits": {"cpu": "1", "memory": "1Gi"}}});
    assert_eq!(class(json!([{}])), "BestEffort");
    assert_eq!(class(json!([full])), "Guaranteed");
    assert_eq!(class(json!([full, {}])), "Burstable");
    assert_eq!(class(json!([{"resources": {"requests": {"cpu": "1"}}}])), "Burstable");
}

#[test]
fn a_deployment_gets_a_strategy_but_no_labels() {
    let deployment =
        defaulted("apps/v1", "Deployment", json!({"spec": {"template": {"metadata": {"labels": {"a": "b"}}}}}));
    assert_eq!(
        deployment["spec"],
        json!({
            "replicas": 1, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
            "template": {
                "metadata": {"labels": {"a": "b"}},
                "spec": {
                    "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "schedulerName": "default-scheduler",
                    "terminationGracePeriodSeconds": 30, "securityContext": {},
                },
            },
        })
    );
    let recreate =
        defaulted("apps/v1", "Deployment", json!({"spec": {"replicas": 0, "strategy": {"type": "Recreate"}}}));
    assert_eq!(
        (&recreate["spec"]["replicas"], &recreate["spec"]["strategy"]),
        (&json!(0), &json!({"type": "Recreate"}))
    );
    let set = defaulted("apps/v1", "ReplicaSet", json!({}));
    assert_eq!(
        (&set["spec"]["replicas"], &set["spec"]["template"]["spec"]["restartPolicy"]),
        (&json!(1), &json!("Always"))
    );
}

#[test]
fn services_default_by_type() {
    let service =
        defaulted("v1", "Service", json!({"spec": {"ports": [{"port": 80}, {"port": 1, "targetPort": "http"}]}}));
    assert_eq!(
        service["spec"],
        json!({
            "type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
            "ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4"],
            "ports": [
                {"port": 80, "protocol": "TCP", "targetPort": 80},
                {"port": 1, "protocol": "TCP", "targetPort": "http"},
            ],
        })
    );
    let sticky = defaulted("v1", "Service", json!({"spec": {"type": "NodePort", "sessionAffinity": "ClientIP"}}));
    assert_eq!(sticky["spec"]["sessionAffinityConfig"], json!({"clientIP": {"timeoutSeconds": 10800}}));
    assert_eq!(sticky["spec"]["externalTrafficPolicy"], "Cluster");
    let external = defaulted("v1", "Service", json!({"spec": {"type": "ExternalName", "externalName": "x"}}));
    assert_eq!(external["spec"].get("ipFamilies"), None);
}

#[test]
fn a_secrets_strings_become_data_and_win() {
    let secret = defaulted("v1", "Secret", json!({"data": {"a": "eA==", "b": "eQ=="}, "stringData": {"a": "hello"}}));
    assert_eq!(secret, json!({"type": "Opaque", "data": {"a": "aGVsbG8=", "b": "eQ=="}}));
}

#[test]
fn cluster_kinds_get_their_defaults() {
    let namespace = defaulted("v1", "Namespace", json!({"metadata": {"name": "n"}}));
    assert_eq!(
        namespace,
        json!({
            "metadata": {"name": "n", "labels": {"kubernetes.io/metadata.name": "n"}},
            "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"},
        })
    );
    let finished = defaulted("v1", "Namespace", json!({"metadata": {"name": "n"}, "spec": {"finalizers": []}}));
    assert_eq!(finished["spec"]["finalizers"], json!([]));
    let binding = defaulted(
        "rbac.authorization.k8s.io/v1",
        "RoleBinding",
        json!({"roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "name": "s"}]}),
    );
    assert_eq!(binding["roleRef"]["apiGroup"], "rbac.authorization.k8s.io");
    assert_eq!(binding["subjects"][0]["apiGroup"], "rbac.authorization.k8s.io");
    assert_eq!(binding["subjects"][1].get("apiGroup"), None);
    let class = defaulted("storage.k8s.io/v1", "StorageClass", json!({"provisioner": "x"}));
    assert_eq!((&class["reclaimPolicy"], &class["volumeBindingMode"]), (&json!("Delete"), &json!("Immediate")));
    let claim =
        defaulted("v1", "PersistentVolumeClaim", json!({"spec": {"resources": {"requests": {"storage": "1024Mi"}}}}));
    assert_eq!(
        claim,
        json!({"spec": {"volumeMode": "Filesystem", "resources": {"requests": {"storage": "1Gi"}}}, "status": {"phase": "Pending"}})
    );
    let node = defaulted("v1", "Node", json!({"status": {"capacity": {"cpu": "2000m"}}}));
    assert_eq!(node["status"], json!({"capacity": {"cpu": "2"}, "allocatable": {"cpu": "2"}}));
}

proptest! {
    #[test]
    fn defaulting_is_total_and_idempotent(object in arbitrary::arb_json()) {
        for kind in kinds::all() {
            let mut once = object.clone();
            apply(kind, &mut once);
            let mut twice = once.clone();
            apply(kind, &mut twice);
            prop_assert_eq!(&twice, &once);
        }
    }
}
