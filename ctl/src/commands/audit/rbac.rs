//! Who holds dangerous rights, through which binding. Pure.

use drover_api::object::{name, namespace};
use serde::Serialize;
use serde_json::Value;

use super::world::{World, items};

/// One subject that holds one right.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct Holder {
    /// The right, in the words of [`RIGHTS`].
    pub(super) right: &'static str,
    /// `User jane`, `ServiceAccount ns/name`.
    pub(super) subject: String,
    /// The namespace, or `cluster`.
    pub(super) scope: String,
    /// `ClusterRoleBinding name`.
    pub(super) binding: String,
}

impl Holder {
    /// Whether the cluster itself made it so.
    pub(super) fn is_builtin(&self) -> bool {
        let system = |prefix: &str| self.subject.strip_prefix(prefix).is_some_and(|name| name.starts_with("system:"));
        system("Group ") || system("User ") || self.subject.starts_with("ServiceAccount kube-")
    }
}

/// A right: what a rule must allow any of.
struct Right {
    name: &'static str,
    /// (API group, resource with subresource, verbs)
    any: &'static [(&'static str, &'static str, &'static [&'static str])],
}

const RBAC: &str = "rbac.authorization.k8s.io";
const READ: &[&str] = &["get", "list", "watch"];
const CREATE: &[&str] = &["create"];

/// In the order of CIS 5.1.
const RIGHTS: &[Right] = &[
    Right { name: "cluster-admin", any: &[("*", "*", &["*"])] },
    Right { name: "read secrets", any: &[("", "secrets", READ)] },
    Right {
        name: "create pods",
        any: &[
            ("", "pods", CREATE),
            ("apps", "deployments", CREATE),
            ("apps", "replicasets", CREATE),
            ("apps", "statefulsets", CREATE),
            ("apps", "daemonsets", CREATE),
            ("batch", "jobs", CREATE),
            ("batch", "cronjobs", CREATE),
        ],
    },
    Right { name: "run commands in pods", any: &[("", "pods/exec", CREATE), ("", "pods/attach", CREATE)] },
    Right {
        name: "bind, impersonate or escalate",
        any: &[
            (RBAC, "roles", &["bind", "escalate"]),
            (RBAC, "clusterroles", &["bind", "escalate"]),
            ("", "users", &["impersonate"]),
            ("", "groups", &["impersonate"]),
            ("", "serviceaccounts", &["impersonate"]),
        ],
    },
    Right { name: "create volumes", any: &[("", "persistentvolumes", CREATE)] },
    Right { name: "nodes/proxy", any: &[("", "nodes/proxy", &["get", "create"])] },
    Right { name: "create tokens", any: &[("", "serviceaccounts/token", CREATE)] },
];

/// Lists every holder, in the order of rights and subjects.
pub(super) fn holders(world: &World) -> Vec<Holder> {
    let mut found = Vec::new();
    let bindings = world
        .cluster_role_bindings
        .iter()
        .map(|binding| ("ClusterRoleBinding", binding))
        .chain(world.role_bindings.iter().map(|binding| ("RoleBinding", binding)));
    for (kind, binding) in bindings {
        let Some(role) = role_of(world, binding) else { continue };
        for right in RIGHTS {
            if items(role, &["rules"]).any(|rule| right.is_given_by(rule)) {
                found.extend(items(binding, &["subjects"]).map(|subject| holder(right.name, (kind, binding), subject)));
            }
        }
    }
    found.sort_by_key(|holder| (RIGHTS.iter().position(|right| right.name == holder.right), holder.clone()));
    found.dedup();
    found
}

fn role_of<'a>(world: &'a World, binding: &Value) -> Option<&'a Value> {
    let wanted = binding["roleRef"]["name"].as_str()?;
    if binding["roleRef"]["kind"] == "ClusterRole" {
        return world.cluster_roles.iter().find(|role| name(role) == wanted);
    }
    world.roles.iter().find(|role| name(role) == wanted && namespace(role) == namespace(binding))
}

fn holder(right: &'static str, (kind, binding): (&str, &Value), subject: &Value) -> Holder {
    let text = |key: &str| subject[key].as_str().unwrap_or_default();
    let who = if text("namespace").is_empty() {
        text("name").to_owned()
    } else {
        format!("{}/{}", text("namespace"), text("name"))
    };
    let scope = if kind == "RoleBinding" { namespace(binding) } else { "cluster" };
    Holder {
        right,
        subject: format!("{} {who}", text("kind")),
        scope: scope.to_owned(),
        binding: format!("{kind} {}", name(binding)),
    }
}

impl Right {
    /// Whether a rule gives any of it. A rule for named objects only counts: it may name all there are.
    fn is_given_by(&self, rule: &Value) -> bool {
        self.any.iter().any(|(group, resource, verbs)| {
            let subresource = resource.split_once('/').map(|(_, subresource)| format!("*/{subresource}"));
            let has = |key: &str, wanted: &str| items(rule, &[key]).any(|value| value == wanted || value == "*");
            let resource_matches = has("resources", resource)
                || subresource.is_some_and(|wild| items(rule, &["resources"]).any(|value| *value == wild.as_str()));
            has("apiGroups", group) && resource_matches && verbs.iter().any(|verb| has("verbs", verb))
        })
    }
}
