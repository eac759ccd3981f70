//! The chain over a world of values.

use std::{collections::BTreeMap, sync::Arc};

use drover_api::object::at;
use serde_json::json;

use super::*;
use crate::{
    cache::Object,
    registry::testing::{Fixed, kind, pod},
};

/// Objects by kind and place.
#[derive(Default)]
struct Fake(BTreeMap<(String, String, String), Arc<Object>>);

impl Fake {
    fn with(mut self, group: &str, plural: &str, object: &Value) -> Self {
        let kind = kind(group, plural);
        let (object, _) = Object::encode(kind, 7, object).expect("an object");
        let key = (plural.to_owned(), object.namespace().to_owned(), object.name().to_owned());
        self.0.insert(key, Arc::new(object));
        self
    }

    /// The namespace and service account that every pod needs.
    fn usual() -> Self {
        Self::default().with("", "namespaces", &json!({"metadata": {"name": "default"}})).with(
            "",
            "serviceaccounts",
            &json!({"metadata": {"name": "default", "namespace": "default"}}),
        )
    }
}

impl World for Fake {
    fn get(&self, _: &str, plural: &str, namespace: &str, name: &str) -> Option<Arc<Object>> {
        self.0.get(&(plural.to_owned(), namespace.to_owned(), name.to_owned())).cloned()
    }

    fn list(&self, _: &str, plural: &str, namespace: &str) -> Vec<Arc<Object>> {
        let wanted = |key: &&(String, String, String)| key.0 == plural && (namespace.is_empty() || key.1 == namespace);
        self.0.iter().filter(|(key, _)| wanted(key)).map(|(_, object)| Arc::clone(object)).collect()
    }

    /// A user of group `may:<verb>:<resource>` may do just that.
    fn allows(&self, user: &User, attributes: &Attributes) -> bool {
        let right = format!("may:{}:{}", attributes.verb, attributes.full_resource());
        user.in_group("system:masters") || user.in_group(&right)
    }

    fn check_escalation(&self, user: &User, _: &str, _: &Value, _: Option<&Value>) -> Result<(), ApiError> {
        if user.in_group("system:masters") { Ok(()) } else { Err(ApiError::new(403, "Forbidden", "would escalate")) }
    }
}

fn run(
    world: &Fake,
    user: &User,
    place: (&str, &str),
    object: &mut Value,
    old: Option<&Value>,
) -> Result<Effects, String> {
    let (plural, subresource) = place.1.split_once('/').unwrap_or((place.1, ""));
    let kind = kind(place.0, plural);
    let name = drover_api::object::name(object).to_owned();
    let request = Request {
        kind,
        operation: if old.is_some() { Operation::Update } else { Operation::Create },
        subresource,
        namespace: if kind.namespaced { "default" } else { "" },
        name: &name,
        user,
        old,
        world,
        environment: &Fixed::default(),
        allocation_revision: Some(3),
    };
    Admission::default().admit(&request, object).map_err(|error| error.message)
}

fn admin() -> User {
    User::new("admin", &["system:masters"])
}

fn created(world: &Fake, place: (&str, &str), object: &Value) -> Result<Value, String> {
    let mut object = object.clone();
    run(world, &admin(), place, &mut object, None).map(|_| object)
}

const PODS: (&str, &str) = ("", "pods");
const SERVICES: (&str, &str) = ("", "services");

#[test]
fn a_pod_gets_account_token_priority_and_tolerations() {
    let pod = created(&Fake::usual(), PODS, &pod("p")).expect("admitted");
    let spec = &pod["spec"];
    assert_eq!((&spec["serviceAccountName"], &spec["serviceAccount"]), (&json!("default"), &json!("default")));
    let volume = &spec["volumes"][0];
    let name = volume["name"].as_str().unwrap_or_default();
    assert!(name.starts_with("kube-api-access-") && name.len() == 21, "{name}");
    assert_eq!(volume["projected"]["sources"].as_array().map(Vec::len), Some(3));
    let mount = json!({"name": name, "readOnly": true, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"});
    assert_eq!(spec["containers"][0]["volumeMounts"], json!([mount]));
    assert_eq!((&spec["priority"], &spec["preemptionPolicy"]), (&json!(0), &json!("PreemptLowerPriority")));
    assert_eq!(spec["tolerations"].as_array().map(Vec::len), Some(2));
    let again = created(&Fake::usual(), PODS, &pod).expect("admitted");
    assert_eq!(again, pod, "what is there is not added twice");
}

#[test]
fn a_token_is_mounted_unless_somebody_says_no() {
    let mut quiet = pod("p");
    quiet["spec"]["automountServiceAccountToken"] = false.into();
    assert!(created(&Fake::usual(), PODS, &quiet).expect("admitted")["spec"].get("volumes").is_none());
    let account = json!({"metadata": {"name": "default", "namespace": "default"}, "automountServiceAccountToken": false,
        "imagePullSecrets": [{"name": "pull"}]});
    let world = Fake::usual().with("", "serviceaccounts", &account);
    let made = created(&world, PODS, &pod("p")).expect("admitted");
    assert!(made["spec"].get("volumes").is_none());
    assert_eq!(made["spec"]["imagePullSecrets"], json!([{"name": "pull"}]));
    let mut own = pod("p");
    own["spec"]["containers"][0]["volumeMounts"] =
        json!([{"name": "x", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}]);
    assert!(created(&Fake::usual(), PODS, &own).expect("admitted")["spec"].get("volumes").is_none());
}

#[test]
fn a_pod_without_namespace_account_or_class_is_refused() {
    let missing = created(&Fake::default(), PODS, &pod("p"));
    assert_eq!(missing, Err("namespaces \"default\" not found".to_owned()));
    let mut robot = pod("p");
    robot["spec"]["serviceAccountName"] = "robot".into();
    let unknown =
        "pods \"p\" is forbidden: error looking up service account default/robot: serviceaccount \"robot\" not found";
    assert_eq!(created(&Fake::usual(), PODS, &robot), Err(unknown.to_owned()));
    let mut classy = pod("p");
    classy["spec"]["priorityClassName"] = "gold".into();
    let unknown = "pods \"p\" is forbidden: no PriorityClass with name gold was found";
    assert_eq!(created(&Fake::usual(), PODS, &classy), Err(unknown.to_owned()));
}

#[test]
fn priorities_come_from_classes() {
    let gold = json!({"metadata": {"name": "gold"}, "value": 9, "preemptionPolicy": "Never", "globalDefault": true});
    let world = Fake::usual().with("scheduling.k8s.io", "priorityclasses", &gold);
    let made = created(&world, PODS, &pod("p")).expect("admitted");
    assert_eq!((&made["spec"]["priorityClassName"], &made["spec"]["priority"]), (&json!("gold"), &json!(9)));
    assert_eq!(made["spec"]["preemptionPolicy"], "Never");
    let mut system = pod("p");
    system["spec"]["priorityClassName"] = "system-node-critical".into();
    assert_eq!(created(&world, PODS, &system).expect("admitted")["spec"]["priority"], 2_000_001_000);
    let second = json!({"metadata": {"name": "silver"}, "value": 8, "globalDefault": true});
    let refused = created(&world, ("scheduling.k8s.io", "priorityclasses"), &second);
    assert!(refused.is_err_and(|text| {
        text.ends_with("PriorityClass gold is already marked as default. Only one default can exist")
    }));
}

#[test]
fn a_new_object_depends_on_its_namespace_staying_as_it_is() {
    let effects = run(&Fake::usual(), &admin(), ("", "configmaps"), &mut json!({"metadata": {"name": "c"}}), None);
    let compare = &effects.expect("admitted").compares[0];
    assert_eq!((&compare.key[..], compare.mod_revision), (&b"/registry/core/namespaces/default"[..], 7));
}

#[test]
fn claims_get_the_newest_default_class_and_protection() {
    let class = |name: &str, created: &str, default: &str| {
        json!({"metadata": {"name": name, "creationTimestamp": created,
            "annotations": {"storageclass.kubernetes.io/is-default-class": default}}})
    };
    let storage = "storage.k8s.io";
    let world = Fake::usual()
        .with(storage, "storageclasses", &class("old", "2020-01-01T00:00:00Z", "true"))
        .with(storage, "storageclasses", &class("new", "2021-01-01T00:00:00Z", "true"))
        .with(storage, "storageclasses", &class("other", "2022-01-01T00:00:00Z", "false"));
    let claims = ("", "persistentvolumeclaims");
    let made = created(&world, claims, &json!({"metadata": {"name": "c"}, "spec": {}})).expect("admitted");
    assert_eq!(made["spec"]["storageClassName"], "new");
    assert_eq!(made["metadata"]["finalizers"], json!(["kubernetes.io/pvc-protection"]));
    let none = json!({"metadata": {"name": "c"}, "spec": {"storageClassName": ""}});
    assert_eq!(created(&world, claims, &none).expect("admitted")["spec"]["storageClassName"], "");
    let volume = created(&world, ("", "persistentvolumes"), &json!({"metadata": {"name": "v"}})).expect("admitted");
    assert_eq!(volume["metadata"]["finalizers"], json!(["kubernetes.io/pv-protection"]));
}

fn service(name: &str, spec: &Value) -> Value {
    json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec})
}

fn node_port(port: u16) -> Value {
    json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]})
}

#[test]
fn addresses_and_ports_are_given_kept_and_refused() {
    let taken = service(
        "a",
        &json!({"type": "NodePort", "clusterIP": "10.96.0.10", "ports": [{"port": 80, "nodePort": 30080}]}),
    );
    let world = Fake::usual().with("", "services", &taken);
    let made =
        created(&world, SERVICES, &service("b", &json!({"type": "NodePort", "ports": [{"port": 80}]}))).expect("free");
    assert!(made["spec"]["clusterIP"].as_str().is_some_and(|address| address.starts_with("10.96.")));
    assert_eq!(made["spec"]["clusterIPs"], json!([made["spec"]["clusterIP"]]));
    assert!(made["spec"]["ports"][0]["nodePort"].as_u64().is_some_and(|port| (30000..=32767).contains(&port)));
    let refused = |spec: &Value| created(&world, SERVICES, &service("b", spec)).expect_err("taken");
    assert_eq!(
        refused(&node_port(30080)),
        "Service \"b\" is invalid: spec.ports[0].nodePort: Invalid value: 30080: provided port is already allocated"
    );
    assert!(
        refused(&node_port(80))
            .ends_with("provided port is not in the valid range. The range of valid ports is 30000-32767")
    );
    assert!(
        refused(&json!({"clusterIP": "10.96.0.10"}))
            .ends_with("failed to allocate IP 10.96.0.10: provided IP is already allocated")
    );
    assert!(refused(&json!({"clusterIP": "10.97.0.10"})).ends_with("The range of valid IPs is 10.96.0.0/16"));
    let headless = created(&world, SERVICES, &service("b", &json!({"clusterIP": "None"}))).expect("nothing to take");
    assert_eq!(headless["spec"]["clusterIPs"], json!(["None"]));
    let external =
        created(&world, SERVICES, &service("b", &json!({"type": "ExternalName", "externalName": "x"}))).expect("none");
    assert!(at(&external, &["spec", "clusterIP"]).is_none());
}

#[test]
fn only_a_write_that_takes_something_is_ordered_with_others() {
    let old = service(
        "a",
        &json!({"type": "NodePort", "clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10"],
        "ports": [{"port": 80, "nodePort": 30080}]}),
    );
    let world = Fake::usual().with("", "services", &old);
    let mut bare = service("a", &json!({"type": "NodePort", "ports": [{"port": 80}]}));
    let effects = run(&world, &admin(), SERVICES, &mut bare, Some(&old)).expect("its own");
    assert_eq!(bare, old, "an update that leaves them out keeps address and port");
    assert!(effects.operations.is_empty());
    let mut more = old.clone();
    more["spec"]["ports"] = json!([{"port": 80, "nodePort": 30080}, {"port": 81}]);
    let effects = run(&world, &admin(), SERVICES, &mut more, Some(&old)).expect("free");
    assert_eq!((effects.operations.len(), effects.compares[0].mod_revision), (1, 3));
    let mut plain = old.clone();
    plain["spec"]["type"] = "ClusterIP".into();
    run(&world, &admin(), SERVICES, &mut plain, Some(&old)).expect("less");
    assert!(plain["spec"]["ports"][0].get("nodePort").is_none(), "a ClusterIP Service gives its port back");
}

#[test]
fn a_node_writes_only_what_is_its_own() {
    let node = User::new("system:node:n1", &["system:nodes"]);
    let world = Fake::usual().with("", "namespaces", &json!({"metadata": {"name": "kube-node-lease"}}));
    let bound = |holder: &str| json!({"metadata": {"name": "p"}, "spec": {"nodeName": holder}});
    let named = |name: &str| json!({"metadata": {"name": name}});
    let allowed =
        |place, object: &Value, old: Option<&Value>| run(&world, &node, place, &mut object.clone(), old).is_ok();
    assert!(allowed(("", "nodes"), &named("n1"), None));
    assert!(!allowed(("", "nodes"), &named("n2"), None));
    assert!(allowed(("", "nodes/status"), &named("n1"), Some(&named("n1"))));
    let tainted = json!({"metadata": {"name": "n1"}, "spec": {"taints": []}});
    assert!(!allowed(("", "nodes"), &tainted, Some(&named("n1"))));
    assert!(allowed(("", "pods/status"), &bound("n1"), Some(&bound("n1"))));
    assert!(!allowed(("", "pods/status"), &bound("n2"), Some(&bound("n2"))));
    assert!(!allowed(PODS, &bound("n1"), Some(&bound("n1"))));
    assert!(!allowed(PODS, &pod("p"), None));
    assert!(!allowed(("coordination.k8s.io", "leases"), &named("n1"), None), "not in the namespace of node leases");
    for name in ["drover-proxies", "drover-roll-call"] {
        let node = User::new(format!("system:node:{name}"), &["system:nodes"]);
        let refused = run(&world, &node, ("", "nodes"), &mut named(name), None).unwrap_err();
        assert!(refused.to_string().contains("reserved"), "{refused}");
    }
}

#[test]
fn absurd_counts_and_escalations_are_refused() {
    let huge = json!({"metadata": {"name": "d"}, "spec": {"replicas": 1_000_000_000}});
    let refused = created(&Fake::usual(), ("apps", "deployments"), &huge);
    assert!(refused.is_err_and(|text| text.contains("spec.replicas: Invalid value: 1000000000: must be less than or equal to")));
    let role = || json!({"metadata": {"name": "r"}});
    let place = ("rbac.authorization.k8s.io", "clusterroles");
    assert!(run(&Fake::usual(), &User::new("eve", &[]), place, &mut role(), None).is_err());
    assert!(run(&Fake::usual(), &admin(), place, &mut role(), None).is_ok());
}

#[test]
fn owners_are_chosen_by_who_may_delete_and_held_back_by_who_may_change_them() {
    let world = Fake::usual();
    let map = |owners: Value| json!({"metadata": {"name": "m", "namespace": "default", "uid": "m-1", "ownerReferences": owners}});
    let owner = |kind: &str, blocks: bool| {
        let api_version = if kind == "Deployment" { "apps/v1" } else { "v1" };
        json!([{"apiVersion": api_version, "kind": kind, "name": "o", "uid": "o-1", "blockOwnerDeletion": blocks}])
    };
    let write = |groups: &[&str], kind: &str, object: Value, old: Option<&Value>| {
        run(&world, &User::new("u", groups), ("", kind), &mut object.clone(), old).map(drop)
    };
    let free = map(json!([]));
    assert_eq!(write(&[], "configmaps", map(owner("Deployment", false)), None), Ok(()));
    assert!(
        write(&[], "configmaps", map(owner("Deployment", false)), Some(&free)).unwrap_err().contains("can't delete")
    );
    assert!(write(&[], "configmaps", free.clone(), Some(&map(owner("Pod", false)))).is_err(), "nor taken away");
    let deleter = "may:delete:configmaps";
    assert_eq!(write(&[deleter], "configmaps", map(owner("Deployment", false)), Some(&free)), Ok(()));
    assert!(
        write(&[deleter], "configmaps", map(owner("Deployment", true)), Some(&free))
            .unwrap_err()
            .contains("blockOwner")
    );
    assert!(write(&[], "configmaps", map(owner("Deployment", true)), None).is_err());
    for right in ["may:update:deployments", "may:update:deployments/finalizers"] {
        assert_eq!(write(&[right], "configmaps", map(owner("Deployment", true)), None), Ok(()), "{right}");
    }
    let kept = map(owner("Deployment", true));
    assert_eq!(write(&[], "configmaps", kept.clone(), Some(&kept)), Ok(()), "what was there may stay");
    assert_eq!(
        write(&[], "configmaps", map(owner("Widget", true)), None),
        Ok(()),
        "kinds that are not served own nothing"
    );
    let itself = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "m", "uid": "m-1"}]);
    let refused = write(&[deleter], "configmaps", map(itself), Some(&free)).unwrap_err();
    assert!(refused.contains("metadata.ownerReferences[0].uid"), "{refused}");
    let volume = json!({"metadata": {"name": "v", "ownerReferences": owner("Pod", false)}});
    let refused = run(&world, &admin(), ("", "persistentvolumes"), &mut volume.clone(), None).unwrap_err();
    assert!(refused.contains("metadata.ownerReferences[0].kind"), "{refused}");
}
