//! RBAC against a naive reference evaluator that reads the objects directly, and tables of the special rules.

use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};

use super::{Index, Policy, Rule};
use crate::{authz::Attributes, request::User};

/// A cluster's policy as plain objects.
#[derive(Debug, Clone, Default)]
struct World {
    roles: Vec<Value>,
    cluster_roles: Vec<Value>,
    role_bindings: Vec<Value>,
    cluster_role_bindings: Vec<Value>,
}

impl World {
    fn index(&self) -> Index {
        Index::build(&Policy {
            roles: &self.roles,
            cluster_roles: &self.cluster_roles,
            role_bindings: &self.role_bindings,
            cluster_role_bindings: &self.cluster_role_bindings,
        })
    }
}

/// The rules of RBAC, written down one by one, slowly.
fn reference(world: &World, user: &User, request: &Attributes) -> bool {
    let strings = |rule: &Value, key: &str| -> Vec<String> {
        serde_json::from_value(rule.get(key).cloned().unwrap_or_else(|| json!([]))).unwrap()
    };
    let rule_allows = |rule: &Value| {
        let any = |key: &str, wanted: &str| strings(rule, key).iter().any(|item| item == "*" || item == wanted);
        if !any("verbs", &request.verb) {
            return false;
        }
        if let Some(path) = &request.path {
            return strings(rule, "nonResourceURLs").iter().any(|url| match url.strip_suffix('*') {
                Some(prefix) => path.starts_with(prefix),
                None => url == path,
            });
        }
        let wanted = request.full_resource();
        let resource = strings(rule, "resources").iter().any(|own| {
            own == "*"
                || *own == wanted
                || (!request.subresource.is_empty() && *own == format!("*/{}", request.subresource))
        });
        let names = strings(rule, "resourceNames");
        any("apiGroups", &request.api_group) && resource && (names.is_empty() || names.contains(&request.name))
    };
    let role_allows = |roles: &[Value], namespace: Option<&str>, name: &Value| {
        roles
            .iter()
            .filter(|role| role["metadata"]["name"] == *name)
            .filter(|role| namespace.is_none_or(|namespace| role["metadata"]["namespace"] == namespace))
            .any(|role| role["rules"].as_array().unwrap().iter().any(rule_allows))
    };
    let is_subject = |binding: &Value| {
        binding["subjects"].as_array().unwrap().iter().any(|subject| match subject["kind"].as_str().unwrap() {
            "User" => subject["name"] == user.name.as_str(),
            "Group" => user.groups.iter().any(|group| subject["name"] == group.as_str()),
            _ => {
                let (namespace, name) = (subject["namespace"].as_str().unwrap(), subject["name"].as_str().unwrap());
                user.name == format!("system:serviceaccount:{namespace}:{name}")
            }
        })
    };
    let by_cluster = world
        .cluster_role_bindings
        .iter()
        .filter(|binding| is_subject(binding))
        .any(|binding| role_allows(&world.cluster_roles, None, &binding["roleRef"]["name"]));
    let by_namespace = world.role_bindings.iter().filter(|binding| is_subject(binding)).any(|binding| {
        let namespace = binding["metadata"]["namespace"].as_str().unwrap();
        let name = &binding["roleRef"]["name"];
        request.path.is_none()
            && request.namespace == namespace
            && match binding["roleRef"]["kind"].as_str().unwrap() {
                "Role" => role_allows(&world.roles, Some(namespace), name),
                _ => role_allows(&world.cluster_roles, None, name),
            }
    });
    by_cluster || by_namespace
}

fn pick(list: &'static [&'static str]) -> impl Strategy<Value = String> {
    proptest::sample::select(list).prop_map(str::to_owned)
}

fn some(list: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
    proptest::sample::subsequence(list, 0..=2).prop_map(|items| items.into_iter().map(str::to_owned).collect())
}

fn rules() -> impl Strategy<Value = Value> {
    let rule = (
        some(&["get", "list", "create", "*"]),
        some(&["", "apps", "*"]),
        some(&["pods", "pods/log", "*/log", "*", "secrets"]),
        some(&["x", "y"]),
        some(&["/metrics", "/apis/*", "*"]),
    );
    let rule = rule.prop_map(|(verbs, groups, resources, names, urls)| {
        json!({"verbs": verbs, "apiGroups": groups, "resources": resources, "resourceNames": names, "nonResourceURLs": urls})
    });
    vec(rule, 0..3).prop_map(Value::from)
}

fn subjects() -> impl Strategy<Value = Value> {
    let subject = (pick(&["User", "Group", "ServiceAccount"]), pick(&["a", "b"]), pick(&["n1", "n2"]))
        .prop_map(|(kind, name, namespace)| json!({"kind": kind, "name": name, "namespace": namespace}));
    vec(subject, 0..3).prop_map(Value::from)
}

fn world() -> impl Strategy<Value = World> {
    let role = (pick(&["r", "s"]), pick(&["n1", "n2"]), rules()).prop_map(
        |(name, namespace, rules)| json!({"metadata": {"name": name, "namespace": namespace}, "rules": rules}),
    );
    let cluster_role =
        (pick(&["r", "s"]), rules()).prop_map(|(name, rules)| json!({"metadata": {"name": name}, "rules": rules}));
    let role_binding = (pick(&["n1", "n2"]), pick(&["Role", "ClusterRole"]), pick(&["r", "s"]), subjects()).prop_map(
        |(namespace, kind, name, subjects)| {
            json!({"metadata": {"name": "b", "namespace": namespace}, "roleRef": {"kind": kind, "name": name}, "subjects": subjects})
        },
    );
    let cluster_role_binding = (pick(&["r", "s"]), subjects()).prop_map(|(name, subjects)| {
        json!({"metadata": {"name": "b"}, "roleRef": {"kind": "ClusterRole", "name": name}, "subjects": subjects})
    });
    (vec(role, 0..3), vec(cluster_role, 0..3), vec(role_binding, 0..3), vec(cluster_role_binding, 0..3)).prop_map(
        |(roles, cluster_roles, role_bindings, cluster_role_bindings)| {
            let unique = |mut objects: Vec<Value>| {
                objects.sort_by_key(|object| object["metadata"].to_string());
                objects.dedup_by_key(|object| object["metadata"].clone());
                objects
            };
            World { roles: unique(roles), cluster_roles: unique(cluster_roles), role_bindings, cluster_role_bindings }
        },
    )
}

fn request() -> impl Strategy<Value = Attributes> {
    (
        pick(&["get", "list", "create", "delete"]),
        pick(&["", "apps", "batch"]),
        pick(&["", "n1", "n2"]),
        pick(&["pods", "secrets"]),
        pick(&["", "log", "exec"]),
        pick(&["", "x", "y"]),
        proptest::option::of(pick(&["/metrics", "/apis/apps", "/"])),
    )
        .prop_map(|(verb, api_group, namespace, resource, subresource, name, path)| Attributes {
            verb,
            api_group,
            namespace,
            resource,
            subresource,
            name,
            path,
            ..Attributes::default()
        })
}

fn user() -> impl Strategy<Value = User> {
    (pick(&["a", "b", "system:serviceaccount:n1:a", "system:serviceaccount:n2:b"]), some(&["a", "b"]))
        .prop_map(|(name, groups)| User { name, groups, ..User::default() })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_index_agrees_with_the_reference(world in world(), user in user(), request in request()) {
        prop_assert_eq!(world.index().allows(&user, &request), reference(&world, &user, &request));
    }

    #[test]
    fn what_a_covering_rule_covers_it_allows(world in world(), user in user(), request in request(), wanted in rules()) {
        // If a user holds every atom of a role, giving the role away gives nothing new.
        let own = world.index().rules_for(&user, &request.namespace);
        let wanted = Rule::list(&json!({"rules": wanted}));
        let held = wanted.iter().flat_map(Rule::atoms).all(|atom| own.iter().any(|rule| rule.covers(&atom)));
        if held && wanted.iter().any(|rule| rule.allows(&request)) {
            prop_assert!(own.iter().any(|rule| rule.allows(&request)));
        }
    }
}

#[test]
fn a_rule_with_names_never_allows_a_request_without_one() {
    let rule = &Rule::list(&json!({"rules": [
        {"verbs": ["*"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["x"]}]}))[0];
    let request = |verb: &str, name: &str| Attributes {
        verb: verb.to_owned(),
        resource: "secrets".to_owned(),
        name: name.to_owned(),
        ..Attributes::default()
    };
    assert!(rule.allows(&request("get", "x")));
    for verb in ["create", "list", "deletecollection"] {
        assert!(!rule.allows(&request(verb, "")), "{verb}");
    }
}

#[test]
fn an_aggregated_role_gathers_what_its_selectors_choose() {
    let world = World {
        cluster_roles: vec![
            json!({"metadata": {"name": "admin"}, "rules": [],
                "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"to-admin": "true"}}]}}),
            json!({"metadata": {"name": "extra", "labels": {"to-admin": "true"}},
                "rules": [{"verbs": ["get"], "apiGroups": ["x"], "resources": ["ys"]}]}),
        ],
        cluster_role_bindings: vec![
            json!({"metadata": {"name": "b"}, "roleRef": {"kind": "ClusterRole", "name": "admin"},
            "subjects": [{"kind": "User", "name": "a"}]}),
        ],
        ..World::default()
    };
    let request = Attributes {
        verb: "get".to_owned(),
        api_group: "x".to_owned(),
        resource: "ys".to_owned(),
        ..Attributes::default()
    };
    assert!(world.index().allows(&User::new("a", &[]), &request));
    assert!(!world.index().allows(&User::new("b", &[]), &request));
}
