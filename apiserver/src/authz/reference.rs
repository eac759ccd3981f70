//! The whole decision against an independent model: what a node may do and what RBAC gives, written down again from
//! the rules, slowly, and compared over random clusters, users and requests.
//!
//! The model shares no code with the evaluators. A difference is a bug in one of the two.

use std::collections::BTreeSet;

use proptest::{collection::vec, option, prelude::*, sample::select};
use serde_json::{Value, json};

use super::{Attributes, decide, index_of};
use crate::{authz::tests::Fake, request::User};

/// How a pod uses an object of a name.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Use {
    Pull,
    Env,
    EnvFrom,
    InitEnv,
    Volume,
    Projected,
}

/// A pod in plain words.
#[derive(Debug, Clone)]
struct Pod {
    namespace: String,
    name: String,
    node: String,
    account: String,
    secrets: Vec<(Use, String)>,
    maps: Vec<(Use, String)>,
    claims: Vec<String>,
}

/// A volume in plain words.
#[derive(Debug, Clone)]
struct Volume {
    name: String,
    node: String,
    claim: Option<(String, String)>,
    /// Whether the claim says so too.
    bound: bool,
}

/// An Ingress in plain words.
#[derive(Debug, Clone)]
struct Ingress {
    namespace: String,
    certificates: Vec<String>,
}

/// One binding for the whole cluster to one rule.
#[derive(Debug, Clone)]
struct Given {
    subject: String,
    verb: String,
    resource: String,
    only: Option<String>,
}

#[derive(Debug, Clone)]
struct World {
    pods: Vec<Pod>,
    volumes: Vec<Volume>,
    ingresses: Vec<Ingress>,
    /// Nodes that serve them.
    edges: Vec<String>,
    given: Vec<Given>,
}

const NAMES: &[&str] = &["x", "y"];
const NAMESPACES: &[&str] = &["a", "b"];
const NODES: &[&str] = &["n1", "n2"];

impl Pod {
    fn object(&self) -> Value {
        let (mut pulls, mut env, mut from, mut init, mut volumes) = (vec![], vec![], vec![], vec![], vec![]);
        let all = self.secrets.iter().map(|used| (true, used)).chain(self.maps.iter().map(|used| (false, used)));
        for (is_secret, (used, name)) in all {
            let (key_ref, from_ref) =
                if is_secret { ("secretKeyRef", "secretRef") } else { ("configMapKeyRef", "configMapRef") };
            let volume =
                if is_secret { json!({"secret": {"secretName": name}}) } else { json!({"configMap": {"name": name}}) };
            let source =
                if is_secret { json!({"secret": {"name": name}}) } else { json!({"configMap": {"name": name}}) };
            match used {
                Use::Pull if is_secret => pulls.push(json!({"name": name})),
                Use::Pull | Use::Env => {
                    env.push(json!({"name": "E", "valueFrom": {key_ref: {"name": name, "key": "k"}}}))
                }
                Use::EnvFrom => from.push(json!({from_ref: {"name": name}})),
                Use::InitEnv => init.push(json!({from_ref: {"name": name}})),
                Use::Volume => volumes.push(volume),
                Use::Projected => volumes.push(json!({"projected": {"sources": [source]}})),
            }
        }
        volumes.extend(self.claims.iter().map(|name| json!({"persistentVolumeClaim": {"claimName": name}})));
        json!({
            "metadata": {"name": self.name, "namespace": self.namespace},
            "spec": {
                "nodeName": self.node, "serviceAccountName": self.account, "imagePullSecrets": pulls, "volumes": volumes,
                "containers": [{"name": "c", "env": env, "envFrom": from}],
                "initContainers": [{"name": "i", "envFrom": init}],
            },
        })
    }
}

impl World {
    fn objects(&self) -> Fake {
        let mut objects = Vec::new();
        objects.extend(self.pods.iter().map(|pod| (("", "pods"), pod.object())));
        for volume in &self.volumes {
            let claim = volume.claim.as_ref().map(|(namespace, name)| json!({"namespace": namespace, "name": name}));
            objects.push((("", "persistentvolumes"), json!({
                "metadata": {"name": volume.name},
                "spec": {"claimRef": claim, "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                    {"key": "kubernetes.io/hostname", "operator": "In", "values": [volume.node]}]}]}}},
            })));
            if let Some((namespace, name)) = volume.claim.as_ref().filter(|_| volume.bound) {
                objects.push((
                    ("", "persistentvolumeclaims"),
                    json!({
                    "metadata": {"name": name, "namespace": namespace}, "spec": {"volumeName": volume.name}}),
                ));
            }
        }
        for (index, ingress) in self.ingresses.iter().enumerate() {
            let tls: Vec<Value> = ingress.certificates.iter().map(|name| json!({"secretName": name})).collect();
            objects.push((
                ("networking.k8s.io", "ingresses"),
                json!({"metadata": {"name": format!("i{index}"), "namespace": ingress.namespace}, "spec": {"tls": tls}}),
            ));
        }
        for node in NODES {
            let role = if self.edges.iter().any(|edge| edge == node) { "ingress" } else { "worker" };
            let labels = json!({format!("node-role.kubernetes.io/{role}"): ""});
            objects.push((("", "nodes"), json!({"metadata": {"name": node, "labels": labels}})));
        }
        let rbac = "rbac.authorization.k8s.io";
        for (index, given) in self.given.iter().enumerate() {
            let name = format!("r{index}");
            let names: Vec<&String> = given.only.iter().collect();
            objects.push((
                (rbac, "clusterroles"),
                json!({"metadata": {"name": name}, "rules": [
                {"verbs": [given.verb], "apiGroups": [""], "resources": [given.resource], "resourceNames": names}]}),
            ));
            objects.push((
                (rbac, "clusterrolebindings"),
                json!({"metadata": {"name": name},
                "roleRef": {"kind": "ClusterRole", "name": name},
                "subjects": [{"kind": "User", "name": given.subject}, {"kind": "Group", "name": given.subject}]}),
            ));
        }
        Fake(objects)
    }

    /// Namespaces and names of what the pods of a node use.
    fn used(&self, node: &str, of: impl Fn(&Pod) -> Vec<String>) -> BTreeSet<(String, String)> {
        let own = self.pods.iter().filter(|pod| pod.node == node);
        own.flat_map(|pod| of(pod).into_iter().map(|name| (pod.namespace.clone(), name))).collect()
    }
}

fn names(used: &[(Use, String)]) -> Vec<String> {
    used.iter().map(|(_, name)| name.clone()).collect()
}

/// The rules of the Node authorizer, one after another.
fn node_may(world: &World, node: &str, request: &Attributes) -> bool {
    let here = (request.namespace.clone(), request.name.clone());
    let verb = |allowed: &[&str]| allowed.contains(&request.verb.as_str());
    let reads = verb(&["get", "list", "watch"]);
    let myself = request.name == node;
    let my_pod = world.pods.iter().any(|pod| (&pod.namespace, &pod.name) == (&here.0, &here.1) && pod.node == node);
    let uses = |of: fn(&Pod) -> Vec<String>| world.used(node, of).contains(&here);
    let serves = world.edges.iter().any(|edge| edge == node);
    let what = format!("{}/{}/{}", request.api_group, request.resource, request.subresource);
    match what.as_str() {
        "drover.dev/nodes/tunnel" => verb(&["create"]) && myself,
        "/nodes/" => verb(&["create"]) || reads || (myself && verb(&["update", "patch"])),
        "/nodes/status" => myself && verb(&["get", "update", "patch"]),
        "/pods/" if verb(&["list", "watch"]) => request.field_selector == format!("spec.nodeName={node}"),
        "/pods/" => my_pod && verb(&["get", "delete"]),
        "/pods/status" => my_pod && verb(&["get", "update", "patch"]),
        "/pods/eviction" => my_pod && verb(&["create"]),
        "/secrets/" => {
            let certificate = serves
                && world.ingresses.iter().any(|one| one.namespace == here.0 && one.certificates.contains(&here.1));
            reads && (certificate || uses(|pod| names(&pod.secrets)))
        }
        "/configmaps/" => reads && uses(|pod| names(&pod.maps)),
        "/serviceaccounts/" => reads && uses(|pod| vec![pod.account.clone()]),
        "/serviceaccounts/token" => verb(&["create"]) && uses(|pod| vec![pod.account.clone()]),
        "/persistentvolumeclaims/" => {
            let of_volume =
                world.volumes.iter().any(|volume| volume.node == node && volume.claim.as_ref() == Some(&here));
            verb(&["get"]) && (uses(|pod| pod.claims.clone()) || of_volume)
        }
        "/persistentvolumes/" if reads => true,
        "/persistentvolumes/" | "/persistentvolumes/status" => {
            let volume = world.volumes.iter().find(|volume| volume.name == request.name);
            let used = |volume: &Volume| {
                let claim = volume.claim.clone().filter(|_| volume.bound);
                claim.is_some_and(|claim| world.used(node, |pod| pod.claims.clone()).contains(&claim))
            };
            verb(&["update", "patch"]) && volume.is_some_and(|volume| volume.node == node || used(volume))
        }
        "/services/" | "discovery.k8s.io/endpointslices/" => reads,
        "networking.k8s.io/ingresses/" | "networking.k8s.io/ingressclasses/" => reads && serves,
        "/events/" | "events.k8s.io/events/" => verb(&["create", "update", "patch"]),
        "coordination.k8s.io/leases/" if request.namespace == "kube-node-lease" => {
            verb(&["create"])
                || (reads && (myself || ["drover-proxies", "drover-roll-call"].contains(&request.name.as_str())))
                || (verb(&["update", "patch", "delete"]) && myself)
        }
        _ => false,
    }
}

fn given_may(world: &World, user: &User, request: &Attributes) -> bool {
    world.given.iter().any(|given| {
        let subject = user.name == given.subject || user.groups.contains(&given.subject);
        let resource = given.resource == "*" || given.resource == request.full_resource();
        let verb = given.verb == "*" || given.verb == request.verb;
        let name = given.only.as_ref().is_none_or(|only| *only == request.name);
        subject && resource && verb && name && request.api_group.is_empty()
    })
}

fn may(world: &World, user: &User, request: &Attributes) -> bool {
    let node = user.name.strip_prefix("system:node:").filter(|_| user.groups.contains(&"system:nodes".to_owned()));
    user.groups.contains(&"system:masters".to_owned())
        || node.is_some_and(|node| !node.is_empty() && node_may(world, node, request))
        || given_may(world, user, request)
}

fn word(words: &'static [&'static str]) -> impl Strategy<Value = String> {
    select(words).prop_map(str::to_owned)
}

fn uses() -> impl Strategy<Value = Vec<(Use, String)>> {
    let how = select(&[Use::Pull, Use::Env, Use::EnvFrom, Use::InitEnv, Use::Volume, Use::Projected][..]);
    vec((how, word(NAMES)), 0..3)
}

fn worlds() -> impl Strategy<Value = World> {
    let pod =
        (word(NAMESPACES), word(NAMES), word(&["n1", "n2", ""]), word(NAMES), uses(), uses(), vec(word(NAMES), 0..2));
    let pod = pod.prop_map(|(namespace, name, node, account, secrets, maps, claims)| Pod {
        namespace,
        name,
        node,
        account,
        secrets,
        maps,
        claims,
    });
    let volume = (word(NODES), option::of((word(NAMESPACES), word(NAMES))), any::<bool>());
    let given = (
        word(&["alice", "system:nodes", "system:node:n1"]),
        word(&["get", "list", "*"]),
        word(&["pods", "secrets", "pods/log", "*"]),
        option::of(word(NAMES)),
    );
    let given = given.prop_map(|(subject, verb, resource, only)| Given { subject, verb, resource, only });
    let ingress = (word(NAMESPACES), vec(word(NAMES), 0..2));
    let ingress = ingress.prop_map(|(namespace, certificates)| Ingress { namespace, certificates });
    let ingresses = (vec(ingress, 0..2), vec(word(NODES), 0..2));
    let all = (vec(pod, 0..5), vec(volume, 0..3), ingresses, vec(given, 0..2));
    all.prop_map(|(mut pods, volumes, (ingresses, edges), given)| {
        pods.sort_by_key(|pod: &Pod| (pod.namespace.clone(), pod.name.clone()));
        pods.dedup_by_key(|pod| (pod.namespace.clone(), pod.name.clone()));
        let mut claimed = BTreeSet::new();
        let volumes = volumes.into_iter().enumerate().map(|(index, (node, claim, bound))| {
            // A claim is bound to one volume.
            let bound = bound && claim.as_ref().is_some_and(|claim| claimed.insert(claim.clone()));
            Volume { name: NAMES.get(index).copied().unwrap_or("z").to_owned(), node, claim, bound }
        });
        World { pods, volumes: volumes.collect(), ingresses, edges, given }
    })
}

fn users() -> impl Strategy<Value = User> {
    let names = word(&["system:node:n1", "system:node:n2", "system:node:", "system:node:n1x", "alice", "n1"]);
    let groups = proptest::sample::subsequence(&["system:nodes", "system:node", "system:masters"][..], 0..=1);
    // Nodes are what this is about: most users are of their group.
    (names, prop_oneof![4 => Just(vec!["system:nodes"]), 1 => groups])
        .prop_map(|(name, groups)| User::new(name, &groups))
}

fn requests() -> impl Strategy<Value = Attributes> {
    const RESOURCES: &[(&str, &str, &[&str])] = &[
        ("", "nodes", &["", "status", "proxy"]),
        ("drover.dev", "nodes", &["", "tunnel"]),
        ("", "pods", &["", "status", "log", "exec", "eviction", "binding"]),
        ("", "secrets", &[""]),
        ("", "configmaps", &[""]),
        ("", "serviceaccounts", &["", "token"]),
        ("", "persistentvolumeclaims", &["", "status"]),
        ("", "persistentvolumes", &["", "status"]),
        ("", "services", &["", "status"]),
        ("", "endpoints", &[""]),
        ("discovery.k8s.io", "endpointslices", &[""]),
        ("networking.k8s.io", "ingresses", &["", "status"]),
        ("networking.k8s.io", "ingressclasses", &[""]),
        ("", "events", &[""]),
        ("events.k8s.io", "events", &[""]),
        ("coordination.k8s.io", "leases", &[""]),
        ("apps", "deployments", &["", "scale"]),
        ("rbac.authorization.k8s.io", "clusterroles", &[""]),
        ("", "namespaces", &[""]),
    ];
    let verbs =
        word(&["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "impersonate"]);
    let resource = select(RESOURCES).prop_flat_map(|(group, plural, subs)| (Just(group), Just(plural), select(subs)));
    let place = (
        word(&["a", "b", "", "kube-node-lease"]),
        word(&["x", "y", "z", "", "n1", "n2", "drover-proxies", "drover-roll-call"]),
    );
    let selector = word(&["", "spec.nodeName=n1", "spec.nodeName=n2", "spec.nodeName!=n1", "metadata.name=x"]);
    (verbs, resource, place, selector).prop_map(|(verb, (group, plural, sub), (namespace, name), field_selector)| {
        Attributes {
            verb,
            api_group: group.to_owned(),
            resource: plural.to_owned(),
            subresource: sub.to_owned(),
            namespace,
            name,
            field_selector,
            path: None,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Each case is a cluster with forty requests: 80,000 decisions.
    #[test]
    fn every_decision_is_the_models(world in worlds(), asked in vec((users(), requests()), 40)) {
        let objects = world.objects();
        let index = index_of(&objects);
        for (user, request) in asked {
            let decided = decide(&user, &request, &index, &objects).is_ok();
            prop_assert_eq!(decided, may(&world, &user, &request), "{:?} {:?}", user, request);
        }
    }
}
