//! RBAC as a pure function: an index from subjects to the rules that their bindings give them.
//!
//! Additive only, default deny. A RoleBinding counts inside its namespace; paths count only through a
//! ClusterRoleBinding.

mod rule;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc};

use drover_api::{labels::LabelSelector, object};
use serde_json::Value;

pub(crate) use rule::Rule;

use super::Attributes;
use crate::request::User;

/// All roles and bindings of a cluster.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Policy<'a> {
    pub(crate) roles: &'a [Value],
    pub(crate) cluster_roles: &'a [Value],
    pub(crate) role_bindings: &'a [Value],
    pub(crate) cluster_role_bindings: &'a [Value],
}

/// Who is given what, by subject.
#[derive(Debug, Default)]
pub(crate) struct Index {
    users: HashMap<String, Vec<Grant>>,
    groups: HashMap<String, Vec<Grant>>,
}

/// Rules and where they count; `namespace: None` is everywhere.
#[derive(Debug, Clone)]
struct Grant {
    namespace: Option<String>,
    rules: Arc<[Rule]>,
}

impl Index {
    /// Builds the index. Bindings to roles that do not exist give nothing.
    pub(crate) fn build(policy: &Policy<'_>) -> Self {
        let cluster_roles: HashMap<&str, Arc<[Rule]>> = policy
            .cluster_roles
            .iter()
            .map(|role| (object::name(role), rules_of(role, policy.cluster_roles).into()))
            .collect();
        let roles: HashMap<(&str, &str), Arc<[Rule]>> = policy
            .roles
            .iter()
            .map(|role| ((object::namespace(role), object::name(role)), Rule::list(role).into()))
            .collect();
        let mut index = Self::default();
        for binding in policy.cluster_role_bindings {
            let Some(("ClusterRole", name)) = role_ref(binding) else { continue };
            if let Some(rules) = cluster_roles.get(name) {
                index.add(binding, &Grant { namespace: None, rules: Arc::clone(rules) });
            }
        }
        for binding in policy.role_bindings {
            let namespace = object::namespace(binding);
            let rules = match role_ref(binding) {
                Some(("ClusterRole", name)) => cluster_roles.get(name),
                Some(("Role", name)) => roles.get(&(namespace, name)),
                _ => None,
            };
            if let Some(rules) = rules {
                index.add(binding, &Grant { namespace: Some(namespace.to_owned()), rules: Arc::clone(rules) });
            }
        }
        index
    }

    /// Whether any rule of any binding of the user allows the request.
    pub(crate) fn allows(&self, user: &User, attributes: &Attributes) -> bool {
        self.grants(user).any(|grant| grant.allows(attributes))
    }

    /// Returns every rule that counts for the user in `namespace`.
    pub(crate) fn rules_for(&self, user: &User, namespace: &str) -> Vec<Rule> {
        let counts = |grant: &&Grant| grant.namespace.as_deref().is_none_or(|own| own == namespace);
        self.grants(user).filter(counts).flat_map(|grant| grant.rules.iter().cloned()).collect()
    }

    fn grants<'a>(&'a self, user: &'a User) -> impl Iterator<Item = &'a Grant> {
        let of_user = self.users.get(&user.name);
        let of_groups = user.groups.iter().filter_map(|group| self.groups.get(group));
        of_user.into_iter().chain(of_groups).flatten()
    }

    fn add(&mut self, binding: &Value, grant: &Grant) {
        for subject in binding["subjects"].as_array().into_iter().flatten() {
            let name = object::str_at(subject, &["name"]);
            let entry = match object::str_at(subject, &["kind"]) {
                "User" => self.users.entry(name.to_owned()),
                "Group" => self.groups.entry(name.to_owned()),
                "ServiceAccount" => {
                    let own = object::str_at(subject, &["namespace"]);
                    let namespace = if own.is_empty() { object::namespace(binding) } else { own };
                    self.users.entry(format!("system:serviceaccount:{namespace}:{name}"))
                }
                _ => continue,
            };
            entry.or_default().push(grant.clone());
        }
    }
}

impl Grant {
    fn allows(&self, attributes: &Attributes) -> bool {
        match (&self.namespace, &attributes.path) {
            (Some(_), Some(_)) => false,
            (Some(namespace), None)
                if *namespace != attributes.namespace && !drover_api::mutants::active("A21-role-counts-everywhere") =>
            {
                false
            }
            (_, _) => self.rules.iter().any(|rule| rule.allows(attributes)),
        }
    }
}

/// Returns a ClusterRole's own rules and those that its aggregation rule selects.
pub(crate) fn rules_of(role: &Value, cluster_roles: &[Value]) -> Vec<Rule> {
    let mut rules = Rule::list(role);
    let selectors = object::at(role, &["aggregationRule", "clusterRoleSelectors"]).and_then(Value::as_array);
    for selector in selectors.into_iter().flatten() {
        let Ok(selector) = LabelSelector::from_object(selector) else { continue };
        let chosen = cluster_roles.iter().filter(|other| object::name(other) != object::name(role));
        let chosen = chosen.filter(|other| !selector.is_empty() && selector.matches(object::labels(other)));
        rules.extend(chosen.flat_map(Rule::list));
    }
    rules
}

/// Returns kind and name of a binding's role.
pub(crate) fn role_ref(binding: &Value) -> Option<(&str, &str)> {
    let reference = binding.get("roleRef")?;
    Some((reference.get("kind")?.as_str()?, reference.get("name")?.as_str()?))
}
