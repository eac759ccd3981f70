//! The objects that users apply.

use serde_json::{Value, json};

/// Seconds that pods stay bound to a node that is lost: short, so that a run sees them move.
const TOLERATION_SECS: u64 = 10;

/// A Deployment of `image`. The first app can be surged, the second makes room first.
pub(super) fn deployment(name: &str, replicas: u32, image: &str) -> Value {
    let (surge, unavailable) = if name == "web" { (1, 0) } else { (0, 1) };
    let toleration = |key: &str| {
        json!({
            "key": format!("node.kubernetes.io/{key}"), "operator": "Exists", "effect": "NoExecute",
            "tolerationSeconds": TOLERATION_SECS,
        })
    };
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {
                    "terminationGracePeriodSeconds": 5,
                    "tolerations": [toleration("unreachable"), toleration("not-ready")],
                    "containers": [{
                        "name": "app", "image": image, "imagePullPolicy": "IfNotPresent",
                        "ports": [{"containerPort": 8080}],
                        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
                    }],
                },
            },
        },
    })
}

/// The Service in front of an app.
pub(super) fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
        "spec": {"selector": {"app": name}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
    })
}

/// At most one pod of an app may be taken away on purpose.
pub(super) fn budget(name: &str) -> Value {
    json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": name, "namespace": "default"},
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": name}}},
    })
}

/// A receipt: an object that must be there for ever once its creation was acknowledged.
pub(super) fn receipt(number: u64) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": format!("receipt-{number}"), "namespace": "default"},
        "data": {"number": number.to_string()},
    })
}
