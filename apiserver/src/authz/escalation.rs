//! Nobody gives away what they do not have.

use drover_api::{object, status::ApiError};
use serde_json::{Value, json};

use super::{
    Attributes, CLUSTER_ROLES, MASTERS, RBAC_GROUP, ROLES, decide,
    rbac::{self, Index, Rule},
};
use crate::{objects::Objects, request::User};

pub(super) struct Request<'a> {
    pub(super) index: &'a Index,
    pub(super) objects: &'a dyn Objects,
    pub(super) user: &'a User,
    pub(super) resource: &'a str,
    pub(super) object: &'a Value,
    pub(super) old: Option<&'a Value>,
}

/// Refuses a Role, ClusterRole or binding that would give away more than its writer has, unless the writer may
/// `escalate` (roles) or `bind` (bindings). Other kinds pass.
pub(super) fn check(request: &Request<'_>) -> Result<(), ApiError> {
    if request.user.in_group(MASTERS) {
        return Ok(());
    }
    match request.resource {
        "roles" | "clusterroles" => check_role(request),
        "rolebindings" | "clusterrolebindings" => check_binding(request),
        _ => Ok(()),
    }
}

fn check_role(request: &Request<'_>) -> Result<(), ApiError> {
    let same = |key: &str| request.old.is_some_and(|old| old.get(key) == request.object.get(key));
    let aggregates = request.object.get("aggregationRule").is_some_and(|rule| !rule.is_null());
    if (same("rules") && same("aggregationRule")) || request.may("escalate", request.resource, "") {
        return Ok(());
    }
    let mut wanted = Rule::list(request.object);
    if aggregates && !same("aggregationRule") {
        wanted.extend(Rule::everything());
    }
    request.require(&wanted)
}

fn check_binding(request: &Request<'_>) -> Result<(), ApiError> {
    let unchanged = |key: &str| request.old.is_some_and(|old| old.get(key) == request.object.get(key));
    if unchanged("subjects") && unchanged("roleRef") {
        return Ok(());
    }
    let Some((kind, name)) = rbac::role_ref(request.object) else { return Ok(()) };
    let (resource, namespace) = match kind {
        "Role" => (ROLES, object::namespace(request.object)),
        _ => (CLUSTER_ROLES, ""),
    };
    if request.may("bind", resource.1, name) {
        return Ok(());
    }
    let role = request.objects.find(resource, namespace, name);
    let Some(role) = role else {
        let text = format!("{}.{RBAC_GROUP} {name:?} not found", resource.1);
        let mut error = ApiError::new(404, "NotFound", text);
        error.details = json!({"name": name, "group": RBAC_GROUP, "kind": resource.1});
        return Err(error);
    };
    let cluster_roles = request.objects.list(CLUSTER_ROLES, "", None);
    request.require(&rbac::rules_of(&role, &cluster_roles))
}

impl Request<'_> {
    fn namespace(&self) -> &str {
        object::namespace(self.object)
    }

    fn may(&self, verb: &str, resource: &str, name: &str) -> bool {
        let name = if name.is_empty() { object::name(self.object) } else { name };
        let attributes = Attributes {
            verb: verb.to_owned(),
            api_group: RBAC_GROUP.to_owned(),
            namespace: self.namespace().to_owned(),
            resource: resource.to_owned(),
            name: name.to_owned(),
            ..Attributes::default()
        };
        decide(self.user, &attributes, self.index, self.objects).is_ok()
    }

    fn require(&self, wanted: &[Rule]) -> Result<(), ApiError> {
        let own = self.index.rules_for(self.user, self.namespace());
        let missing: Vec<Rule> = missing(&own, wanted);
        if missing.is_empty() || drover_api::mutants::active("A20-escalates") {
            return Ok(());
        }
        let list: Vec<String> = missing.iter().map(|rule| rule.to_value().to_string()).collect();
        let name = object::name(self.object);
        let text = format!(
            "{}.{RBAC_GROUP} {name:?} is forbidden: user {:?} (groups={:?}) is attempting to grant RBAC permissions not currently held:\n{}",
            self.resource,
            self.user.name,
            self.user.groups,
            list.join("\n"),
        );
        let mut error = ApiError::new(403, "Forbidden", text);
        error.details = json!({"name": name, "group": RBAC_GROUP, "kind": self.resource});
        Err(error)
    }
}

/// Returns the atoms of `wanted` that no rule of `own` covers.
fn missing(own: &[Rule], wanted: &[Rule]) -> Vec<Rule> {
    let atoms = wanted.iter().flat_map(Rule::atoms);
    atoms.filter(|atom| !own.iter().any(|rule| rule.covers(atom))).collect()
}
