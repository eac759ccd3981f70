//! Decisions over a small cluster of objects.

use drover_api::object;
use serde_json::{Value, json};

use super::{Attributes, decide, escalation, index_of, node_restriction};
use crate::{
    objects::{Objects, Resource},
    request::{RequestInfo, User},
};

/// Objects by group and plural.
#[derive(Default)]
pub(super) struct Fake(pub(super) Vec<(Resource, Value)>);

impl Objects for Fake {
    fn find(&self, resource: Resource, namespace: &str, name: &str) -> Option<Value> {
        let exact = |found: &Value| object::namespace(found) == namespace && object::name(found) == name;
        self.list(resource, namespace, None).into_iter().find(exact)
    }

    fn list(&self, resource: Resource, namespace: &str, field: Option<(&str, &str)>) -> Vec<Value> {
        let of_kind = self.0.iter().filter(|(kind, _)| *kind == resource).map(|(_, value)| value);
        let there = of_kind.filter(|value| namespace.is_empty() || object::namespace(value) == namespace);
        let wanted = there.filter(|value| {
            field.is_none_or(|(path, wanted)| object::str_at(value, &path.split('.').collect::<Vec<_>>()) == wanted)
        });
        wanted.cloned().collect()
    }

    fn version(&self, _: Resource) -> u64 {
        0
    }
}

fn node(name: &str) -> User {
    User::new(format!("system:node:{name}"), &["system:nodes"])
}

/// A pod on n1 that uses one of everything, and one on n2 that uses nothing.
fn cluster() -> Fake {
    let pod = json!({
        "metadata": {"name": "p", "namespace": "a"},
        "spec": {
            "nodeName": "n1",
            "serviceAccountName": "sa",
            "imagePullSecrets": [{"name": "pull"}],
            "containers": [{"name": "c",
                "env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "env-secret", "key": "k"}}}],
                "envFrom": [{"configMapRef": {"name": "from-map"}}]}],
            "initContainers": [{"name": "i", "envFrom": [{"secretRef": {"name": "init-secret"}}]}],
            "volumes": [
                {"name": "s", "secret": {"secretName": "mounted"}},
                {"name": "m", "configMap": {"name": "map"}},
                {"name": "d", "persistentVolumeClaim": {"claimName": "data"}},
                {"name": "t", "projected": {"sources": [
                    {"configMap": {"name": "kube-root-ca.crt"}}, {"secret": {"name": "projected"}}]}},
            ],
        },
    });
    let other = json!({"metadata": {"name": "q", "namespace": "a"}, "spec": {"nodeName": "n2", "containers": []}});
    let volume = |name: &str, node: &str| {
        json!({"metadata": {"name": name}, "spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}]}}}})
    };
    Fake(vec![
        (("", "pods"), pod),
        (("", "pods"), other),
        (("", "persistentvolumes"), volume("v1", "n1")),
        (("", "persistentvolumes"), volume("v2", "n2")),
        (
            ("", "nodes"),
            json!({"metadata": {"name": "n1"}, "spec": {"podCIDR": "10.128.0.0/22"},
            "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]}}),
        ),
        (
            ("", "nodes"),
            json!({"metadata": {"name": "n2"}, "spec": {"podCIDR": "10.128.4.0/22"},
            "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.2"}]}}),
        ),
    ])
}

fn may(user: &User, method: &str, target: &str) -> bool {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let info = RequestInfo::parse(&method.parse().unwrap(), path, query).unwrap();
    let objects = cluster();
    decide(user, &Attributes::of(&info), &index_of(&objects), &objects).is_ok()
}

#[test]
fn a_node_reaches_what_its_pods_use_and_nothing_else() {
    let allowed = [
        ("GET", "/api/v1/nodes/n1"),
        ("POST", "/api/v1/nodes"),
        ("PATCH", "/api/v1/nodes/n1/status"),
        ("GET", "/api/v1/nodes?watch=1"),
        ("GET", "/api/v1/nodes/n2"),
        ("GET", "/api/v1/pods?watch=1&fieldSelector=spec.nodeName%3Dn1"),
        ("GET", "/api/v1/namespaces/a/pods/p"),
        ("PATCH", "/api/v1/namespaces/a/pods/p/status"),
        ("DELETE", "/api/v1/namespaces/a/pods/p"),
        ("GET", "/api/v1/namespaces/a/secrets/pull"),
        ("GET", "/api/v1/namespaces/a/secrets/env-secret"),
        ("GET", "/api/v1/namespaces/a/secrets/init-secret"),
        ("GET", "/api/v1/namespaces/a/secrets/mounted"),
        ("GET", "/api/v1/namespaces/a/secrets?watch=1&fieldSelector=metadata.name%3Dprojected"),
        ("GET", "/api/v1/namespaces/a/configmaps/from-map"),
        ("GET", "/api/v1/namespaces/a/configmaps/map"),
        ("GET", "/api/v1/namespaces/a/configmaps/kube-root-ca.crt"),
        ("GET", "/api/v1/namespaces/a/persistentvolumeclaims/data"),
        ("PATCH", "/api/v1/persistentvolumes/v1"),
        ("GET", "/api/v1/persistentvolumes?watch=1"),
        ("GET", "/api/v1/services?watch=1"),
        ("GET", "/apis/discovery.k8s.io/v1/endpointslices?watch=1"),
        ("POST", "/api/v1/namespaces/a/serviceaccounts/sa/token"),
        ("POST", "/api/v1/namespaces/a/events"),
        ("POST", "/apis/drover.dev/v1alpha1/nodes/n1/tunnel"),
    ];
    for (method, target) in allowed {
        assert!(may(&node("n1"), method, target), "{method} {target}");
        let anyone = User::new("system:node:n1", &[]);
        assert!(!may(&anyone, method, target), "the name alone is nothing: {method} {target}");
    }
    let refused = [
        ("DELETE", "/api/v1/nodes/n1"),
        ("PATCH", "/api/v1/nodes/n2/status"),
        ("PATCH", "/api/v1/nodes/n2"),
        ("GET", "/api/v1/pods"),
        ("GET", "/api/v1/pods?fieldSelector=spec.nodeName!%3Dn1"),
        ("GET", "/api/v1/pods?fieldSelector=spec.nodeName%3Dn2"),
        ("GET", "/api/v1/namespaces/a/pods/q"),
        ("POST", "/api/v1/namespaces/a/pods"),
        ("PATCH", "/api/v1/namespaces/a/pods/p"),
        ("POST", "/api/v1/namespaces/a/pods/p/exec"),
        ("GET", "/api/v1/namespaces/a/secrets"),
        ("GET", "/api/v1/namespaces/a/secrets/other"),
        ("GET", "/api/v1/namespaces/b/secrets/mounted"),
        ("PATCH", "/api/v1/namespaces/a/secrets/mounted"),
        ("GET", "/api/v1/secrets"),
        ("PATCH", "/api/v1/persistentvolumes/v2"),
        ("GET", "/api/v1/namespaces/a/persistentvolumeclaims/other"),
        ("GET", "/api/v1/namespaces/a/persistentvolumeclaims"),
        ("GET", "/api/v1/persistentvolumeclaims?watch=1"),
        ("POST", "/api/v1/namespaces/a/serviceaccounts/default/token"),
        ("POST", "/apis/drover.dev/v1alpha1/nodes/n2/tunnel"),
        ("GET", "/apis/apps/v1/deployments"),
    ];
    for (method, target) in refused {
        assert!(!may(&node("n1"), method, target), "{method} {target}");
    }
}

#[test]
fn a_node_renews_its_own_lease_and_reads_what_the_controllers_publish() {
    let may_use = |method: &str, namespace: &str, rest: &str| {
        let target = format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases{rest}");
        may(&node("n1"), method, &target)
    };
    let own = "kube-node-lease";
    assert!(may_use("GET", own, "/n1") && may_use("PATCH", own, "/n1"));
    for published in ["drover-proxies", "drover-roll-call"] {
        let watch = format!("?watch=1&fieldSelector=metadata.name%3D{published}");
        assert!(may_use("GET", own, &watch), "{published}");
        assert!(!may_use("PATCH", own, &format!("/{published}")), "{published}");
    }
    for (method, namespace, rest) in [
        ("PATCH", own, "/n2"),
        ("GET", own, "?watch=1"),
        ("GET", own, "?watch=1&fieldSelector=metadata.name%3Dn2"),
        ("GET", "kube-system", "/n1"),
    ] {
        assert!(!may_use(method, namespace, rest), "{method} {namespace} {rest}");
    }
}

#[test]
fn masters_may_do_everything_and_strangers_nothing() {
    let master = User::new("m", &["system:masters"]);
    for (method, target) in
        [("DELETE", "/api/v1/nodes"), ("GET", "/metrics"), ("POST", "/api/v1/namespaces/a/pods/p/exec")]
    {
        assert!(may(&master, method, target));
        assert!(!may(&User::new("s", &[]), method, target));
    }
}

const SERVICES: (std::net::Ipv4Addr, u8) = (std::net::Ipv4Addr::new(10, 96, 0, 0), 16);

fn restricted(plural: &str, subresource: &str, object: &Value, old: Option<&Value>) -> Result<(), String> {
    let write =
        node_restriction::Write { group: "", plural, subresource, namespace: "", object, old, service_cidr: SERVICES };
    node_restriction::check("n1", &write, &cluster())
}

#[test]
fn a_node_cannot_label_taint_or_own_its_way_to_other_pods() {
    let base = json!({"metadata": {"name": "n1", "labels": {"kubernetes.io/hostname": "n1"}}, "spec": {"taints": []}});
    let with = |path: &[&str], value: Value| {
        let mut changed = base.clone();
        let mut place = &mut changed;
        for key in path {
            place = &mut place[*key];
        }
        *place = value;
        changed
    };
    assert_eq!(restricted("nodes", "", &base, None), Ok(()));
    assert_eq!(restricted("nodes", "", &with(&["metadata", "labels", "disk"], "ssd".into()), Some(&base)), Ok(()));
    let refused = [
        with(&["metadata", "name"], "n2".into()),
        with(&["metadata", "labels", "node-restriction.kubernetes.io/x"], "y".into()),
        with(&["metadata", "labels", "node-role.kubernetes.io/control-plane"], "".into()),
        with(&["spec", "podCIDR"], "0.0.0.0/0".into()),
        with(&["spec", "taints"], json!([{"key": "x"}])),
        with(&["metadata", "ownerReferences"], json!([{"name": "x"}])),
        with(&["metadata", "finalizers"], json!(["x"])),
    ];
    for object in refused {
        assert!(restricted("nodes", "", &object, Some(&base)).is_err(), "{object}");
        if object["spec"] == base["spec"] {
            assert!(restricted("nodes", "status", &object, Some(&base)).is_err(), "through the status: {object}");
        }
        let joins = object["spec"]["taints"] != json!([]);
        assert_eq!(restricted("nodes", "", &object, None).is_ok(), joins, "when it joins: {object}");
    }
}

#[test]
fn a_node_says_of_itself_only_what_is_not_anybody_elses() {
    let node = |ip: &str| {
        json!({"metadata": {"name": "n1"}, "status": {"addresses": [
        {"type": "InternalIP", "address": ip}, {"type": "Hostname", "address": "n1"}]}})
    };
    for ip in ["192.0.2.1", "192.0.2.77", "10.128.9.9", "2001:db8::1"] {
        assert_eq!(restricted("nodes", "status", &node(ip), Some(&node(""))), Ok(()), "{ip}");
    }
    let refused = [
        "127.0.0.1",
        "169.254.169.254",
        "0.0.0.0",
        "224.0.0.1",
        "::1",
        "::ffff:127.0.0.1",
        "fe80::1",
        "10.96.0.1",  // a Service
        "192.0.2.2",  // another node
        "10.128.4.7", // another node's pod
    ];
    for ip in refused {
        assert!(restricted("nodes", "status", &node(ip), Some(&node(""))).is_err(), "{ip}");
        assert!(restricted("nodes", "", &node(ip), None).is_err(), "when it joins: {ip}");
    }
    assert_eq!(restricted("nodes", "status", &node("127.0.0.1"), Some(&node("127.0.0.1"))), Ok(()), "not news");
}

#[test]
fn a_node_speaks_in_its_own_name_about_itself_and_its_pods() {
    let event = |host: &str, kind: &str, namespace: &str, name: &str| {
        json!({"metadata": {"name": "e", "namespace": "a"}, "source": {"component": "x", "host": host},
            "involvedObject": {"kind": kind, "namespace": namespace, "name": name}})
    };
    let (own, gone) = (event("n1", "Pod", "a", "p"), event("n1", "Pod", "a", "gone"));
    for event in [&own, &gone, &event("n1", "Node", "", "n1")] {
        assert_eq!(restricted("events", "", event, None), Ok(()), "{event}");
    }
    let foreign = [
        event("n1", "Pod", "a", "q"),
        event("n2", "Pod", "a", "p"),
        event("", "Pod", "a", "p"),
        event("n1", "Node", "", "n2"),
        event("n1", "Secret", "a", "s"),
    ];
    for event in &foreign {
        assert!(restricted("events", "", event, None).is_err(), "{event}");
        assert!(restricted("events", "", &own, Some(event)).is_err(), "taken over: {event}");
    }
}

#[test]
fn a_node_reports_only_addresses_of_its_own() {
    let pod = |ip: &str| json!({"metadata": {"name": "p"}, "status": {"podIP": ip, "podIPs": [{"ip": ip}]}});
    let report = |pod: &Value| restricted("pods", "status", pod, Some(&json!({"metadata": {"name": "p"}})));
    for ip in ["10.128.0.5", "10.128.3.255", ""] {
        assert_eq!(report(&pod(ip)), Ok(()), "{ip}");
    }
    let others = ["10.128.4.1", "10.96.0.1", "127.0.0.1", "169.254.169.254", "::1", "x"];
    for ip in others.into_iter().chain(["192.0.2.1"]) {
        assert!(report(&pod(ip)).is_err(), "{ip}");
    }
    for ip in others.into_iter().chain(["192.0.2.2"]) {
        let host = json!({"metadata": {"name": "p"}, "status": {"hostIP": ip}});
        assert!(report(&host).is_err(), "as the host's: {ip}");
        let listed = json!({"metadata": {"name": "p"}, "status": {"hostIPs": [{"ip": ip}]}});
        assert!(report(&listed).is_err(), "as one of the host's: {ip}");
    }
    let mut on_host = pod("192.0.2.1");
    on_host["spec"]["hostNetwork"] = true.into();
    on_host["status"]["hostIP"] = "192.0.2.1".into();
    assert_eq!(report(&on_host), Ok(()));
    on_host["status"]["podIP"] = "10.128.0.5".into();
    assert!(report(&on_host).is_err(), "a pod on the host's network has no other address");
}

/// A user who may read pods in namespace a, and manage roles there.
fn with_roles(extra_verb: Option<&str>) -> Fake {
    let rbac = "rbac.authorization.k8s.io";
    let mut rules = vec![
        json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}),
        json!({"verbs": ["create"], "apiGroups": [rbac], "resources": ["roles", "rolebindings"]}),
    ];
    rules.extend(
        extra_verb.map(|verb| json!({"verbs": [verb], "apiGroups": [rbac], "resources": ["roles", "clusterroles"]})),
    );
    Fake(vec![
        ((rbac, "roles"), json!({"metadata": {"name": "r", "namespace": "a"}, "rules": rules})),
        (
            (rbac, "rolebindings"),
            json!({"metadata": {"name": "b", "namespace": "a"}, "roleRef": {"kind": "Role", "name": "r"},
                "subjects": [{"kind": "User", "name": "u"}]}),
        ),
        (
            (rbac, "clusterroles"),
            json!({"metadata": {"name": "cluster-admin"},
                "rules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]}),
        ),
    ])
}

fn escalates(objects: &Fake, resource: &str, object: &Value, old: Option<&Value>) -> u16 {
    let request =
        escalation::Request { index: &index_of(objects), objects, user: &User::new("u", &[]), resource, object, old };
    escalation::check(&request).map_or_else(|error| error.code, |()| 200)
}

#[test]
fn nobody_gives_away_what_they_do_not_have() {
    let role = |verb: &str, resource: &str| {
        json!({"metadata": {"name": "x", "namespace": "a"},
            "rules": [{"verbs": [verb], "apiGroups": [""], "resources": [resource]}]})
    };
    let binding = |kind: &str, name: &str| {
        json!({"metadata": {"name": "x", "namespace": "a"}, "roleRef": {"kind": kind, "name": name},
            "subjects": [{"kind": "User", "name": "u"}]})
    };
    let objects = with_roles(None);
    assert_eq!(escalates(&objects, "roles", &role("get", "pods"), None), 200);
    assert_eq!(escalates(&objects, "roles", &role("list", "pods"), None), 403);
    assert_eq!(escalates(&objects, "roles", &role("get", "secrets"), None), 403);
    assert_eq!(escalates(&objects, "roles", &role("*", "*"), None), 403);
    let mut elsewhere = role("get", "pods");
    elsewhere["metadata"]["namespace"] = "b".into();
    assert_eq!(escalates(&objects, "roles", &elsewhere, None), 403, "rights count where they are given");
    let unchanged = role("*", "*");
    assert_eq!(escalates(&objects, "roles", &unchanged, Some(&unchanged)), 200, "labels may change");
    let aggregate = json!({"metadata": {"name": "x"}, "rules": [], "aggregationRule": {"clusterRoleSelectors": [{}]}});
    assert_eq!(escalates(&objects, "clusterroles", &aggregate, None), 403);
    assert_eq!(escalates(&objects, "rolebindings", &binding("Role", "r"), None), 200);
    assert_eq!(escalates(&objects, "rolebindings", &binding("ClusterRole", "cluster-admin"), None), 403);
    assert_eq!(escalates(&objects, "rolebindings", &binding("Role", "none"), None), 404);
    assert_eq!(escalates(&with_roles(Some("escalate")), "roles", &role("*", "*"), None), 200);
    assert_eq!(
        escalates(&with_roles(Some("bind")), "rolebindings", &binding("ClusterRole", "cluster-admin"), None),
        200
    );
}
