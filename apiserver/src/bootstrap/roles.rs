//! The built-in ClusterRoles and who is bound to them.
//!
//! No wildcard but cluster-admin's. Nobody may write Endpoints or EndpointSlices through a namespace role
//! (CVE-2021-25740).

use serde_json::{Value, json};

use super::labelled;

const READ: &[&str] = &["get", "list", "watch"];
const WRITE: &[&str] = &["create", "delete", "deletecollection", "patch", "update"];
const ALL: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const RBAC: &str = "rbac.authorization.k8s.io";

pub(super) fn objects() -> Vec<Value> {
    let everything = vec![rule(&["*"], &["*"], &["*"]), paths(&["*"], &["*"])];
    let roles = [
        role("cluster-admin", &everything),
        role("admin", &admin()),
        role("edit", &edit()),
        role("view", &view()),
        role("system:discovery", &[paths(&["get"], DISCOVERY)]),
        role("system:public-info-viewer", &[paths(&["get"], HEALTH)]),
        role("system:basic-user", &basic_user()),
        role("system:monitoring", &[paths(&["get"], &["/metrics"])]),
        role("system:service-account-issuer-discovery", &[paths(&["get"], ISSUER)]),
        role("system:node", &node()),
    ];
    let bindings = [
        binding("cluster-admin", &["system:masters"]),
        binding("system:discovery", &["system:authenticated"]),
        binding("system:public-info-viewer", &["system:authenticated", "system:unauthenticated"]),
        binding("system:basic-user", &["system:authenticated"]),
        binding("system:monitoring", &["system:monitoring"]),
        binding("system:service-account-issuer-discovery", &["system:serviceaccounts"]),
        binding("system:node", &[]),
    ];
    roles.into_iter().chain(bindings).map(labelled).collect()
}

const HEALTH: &[&str] = &["/healthz", "/livez", "/readyz", "/version", "/version/"];
const ISSUER: &[&str] = &["/.well-known/openid-configuration", "/openid/v1/jwks"];
const DISCOVERY: &[&str] = &[
    "/api",
    "/api/*",
    "/apis",
    "/apis/*",
    "/healthz",
    "/livez",
    "/openapi",
    "/openapi/*",
    "/readyz",
    "/version",
    "/version/",
];

fn view() -> Vec<Value> {
    let core = &[
        "bindings",
        "configmaps",
        "endpoints",
        "events",
        "namespaces",
        "namespaces/status",
        "persistentvolumeclaims",
        "persistentvolumeclaims/status",
        "pods",
        "pods/log",
        "pods/status",
        "serviceaccounts",
        "services",
        "services/status",
    ];
    let apps = &[
        "controllerrevisions",
        "deployments",
        "deployments/scale",
        "deployments/status",
        "replicasets",
        "replicasets/scale",
        "replicasets/status",
    ];
    vec![
        rule(READ, &[""], core),
        rule(READ, &["apps"], apps),
        rule(READ, &["discovery.k8s.io"], &["endpointslices"]),
        rule(READ, &["events.k8s.io"], &["events"]),
        rule(READ, &["networking.k8s.io"], &["ingresses", "ingresses/status"]),
        rule(READ, &["policy"], &["poddisruptionbudgets", "poddisruptionbudgets/status"]),
        rule(&["get", "list"], &["metrics.k8s.io"], &["pods"]),
    ]
}

fn edit() -> Vec<Value> {
    let core = &[
        "configmaps",
        "events",
        "persistentvolumeclaims",
        "pods",
        "pods/attach",
        "pods/exec",
        "pods/portforward",
        "secrets",
        "serviceaccounts",
        "services",
    ];
    let apps = &["deployments", "deployments/scale", "replicasets", "replicasets/scale"];
    let mut rules = view();
    rules.extend([
        rule(READ, &[""], &["pods/attach", "pods/exec", "pods/portforward", "secrets"]),
        rule(&["impersonate"], &[""], &["serviceaccounts"]),
        rule(WRITE, &[""], core),
        rule(&["create"], &[""], &["pods/eviction", "serviceaccounts/token"]),
        rule(WRITE, &["apps"], apps),
        rule(WRITE, &["events.k8s.io"], &["events"]),
        rule(WRITE, &["networking.k8s.io"], &["ingresses"]),
        rule(WRITE, &["policy"], &["poddisruptionbudgets"]),
        rule(ALL, &["coordination.k8s.io"], &["leases"]),
    ]);
    rules
}

fn admin() -> Vec<Value> {
    let mut rules = edit();
    rules.push(rule(&["create"], &["authorization.k8s.io"], &["localsubjectaccessreviews"]));
    rules.push(rule(ALL, &[RBAC], &["rolebindings", "roles"]));
    rules
}

fn basic_user() -> Vec<Value> {
    vec![
        rule(&["create"], &["authorization.k8s.io"], &["selfsubjectaccessreviews", "selfsubjectrulesreviews"]),
        rule(&["create"], &["authentication.k8s.io"], &["selfsubjectreviews"]),
    ]
}

/// Bound to nobody: what nodes may do is the Node authorizer's to say. Here for those who look it up.
fn node() -> Vec<Value> {
    vec![
        rule(
            READ,
            &[""],
            &["configmaps", "nodes", "persistentvolumeclaims", "persistentvolumes", "pods", "secrets", "services"],
        ),
        rule(READ, &["discovery.k8s.io"], &["endpointslices"]),
        rule(READ, &["networking.k8s.io"], &["ingresses", "ingressclasses"]),
        rule(&["create", "patch", "update"], &["", "events.k8s.io"], &["events"]),
        rule(&["patch", "update"], &[""], &["nodes", "nodes/status", "pods/status"]),
        rule(&["create"], &[""], &["nodes", "pods/eviction", "serviceaccounts/token"]),
        rule(&["create", "delete", "get", "patch", "update"], &["coordination.k8s.io"], &["leases"]),
    ]
}

fn rule(verbs: &[&str], groups: &[&str], resources: &[&str]) -> Value {
    json!({"verbs": verbs, "apiGroups": groups, "resources": resources})
}

fn paths(verbs: &[&str], urls: &[&str]) -> Value {
    json!({"verbs": verbs, "nonResourceURLs": urls})
}

fn role(name: &str, rules: &[Value]) -> Value {
    json!({
        "apiVersion": format!("{RBAC}/v1"),
        "kind": "ClusterRole",
        "metadata": {"name": name},
        "rules": rules,
    })
}

fn binding(name: &str, groups: &[&str]) -> Value {
    let subject = |group: &&str| json!({"apiGroup": RBAC, "kind": "Group", "name": group});
    let mut binding = json!({
        "apiVersion": format!("{RBAC}/v1"),
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": name},
    });
    if !groups.is_empty() {
        binding["subjects"] = groups.iter().map(subject).collect();
    }
    binding
}
