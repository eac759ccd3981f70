//! May this user do this? Masters, then the Node authorizer, then RBAC; whatever none of them allows is refused.
//!
//! Owns the decision and the words of 403. The evaluators are pure functions of roles, bindings and the objects
//! named by a request; this module only keeps their index fresh. Cannot be switched off.

mod attributes;
mod escalation;
mod node;
mod node_addresses;
mod node_restriction;
pub(crate) mod rbac;
#[cfg(test)]
mod reference;
mod references;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use drover_api::status::ApiError;
use serde_json::Value;

pub use attributes::Attributes;
pub(crate) use node::{PUBLISHED_LEASES, name_of as node_of};
pub(crate) use node_restriction::admit as restrict_node;
use rbac::{Index, Policy};

use crate::{
    objects::{Objects, Resource},
    request::User,
};

/// Members may do everything; no binding can take it from them.
pub(crate) const MASTERS: &str = "system:masters";
const RBAC_GROUP: &str = "rbac.authorization.k8s.io";
const ROLES: Resource = (RBAC_GROUP, "roles");
const CLUSTER_ROLES: Resource = (RBAC_GROUP, "clusterroles");
const ROLE_BINDINGS: Resource = (RBAC_GROUP, "rolebindings");
const CLUSTER_ROLE_BINDINGS: Resource = (RBAC_GROUP, "clusterrolebindings");

/// Decides by the cluster's objects.
pub struct Authorizer {
    objects: Arc<dyn Objects>,
    index: RwLock<Cached>,
}

#[derive(Default)]
struct Cached {
    versions: Option<[u64; 4]>,
    index: Arc<Index>,
}

impl fmt::Debug for Authorizer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Authorizer").finish_non_exhaustive()
    }
}

impl Authorizer {
    /// Builds an authorizer over the cluster's objects.
    pub(crate) fn new(objects: Arc<dyn Objects>) -> Self {
        Self { objects, index: RwLock::default() }
    }

    /// Allows or refuses.
    ///
    /// # Errors
    /// 403 in Kubernetes' words.
    pub fn check(&self, user: &User, attributes: &Attributes) -> Result<(), ApiError> {
        self.decide(user, attributes).map_err(|reason| attributes.forbidden(user, &reason))
    }

    /// Allows, or gives the reason for refusing (which may be empty).
    pub(crate) fn decide(&self, user: &User, attributes: &Attributes) -> Result<(), String> {
        decide(user, attributes, &self.index(), self.objects.as_ref())
    }

    /// Returns the rules that apply to a user in a namespace, cluster-wide ones included.
    pub(crate) fn rules_for(&self, user: &User, namespace: &str) -> Vec<rbac::Rule> {
        if user.in_group(MASTERS) {
            return rbac::Rule::everything();
        }
        self.index().rules_for(user, namespace)
    }

    /// Refuses a Role, ClusterRole or binding that would give away more than its writer has, unless the writer may
    /// `escalate` (roles) or `bind` (bindings). Other kinds pass. Called by admission for creates and updates.
    ///
    /// # Errors
    /// 403 that lists the rights the writer lacks; 404 for a binding to a role that does not exist.
    pub fn check_escalation(
        &self,
        user: &User,
        resource: &str,
        object: &Value,
        old: Option<&Value>,
    ) -> Result<(), ApiError> {
        let (index, objects) = (&self.index(), self.objects.as_ref());
        escalation::check(&escalation::Request { index, objects, user, resource, object, old })
    }

    /// Returns the index, rebuilt when any role or binding has changed since.
    fn index(&self) -> Arc<Index> {
        let versions =
            [ROLES, CLUSTER_ROLES, ROLE_BINDINGS, CLUSTER_ROLE_BINDINGS].map(|kind| self.objects.version(kind));
        {
            let cached = self.index.read().unwrap_or_else(PoisonError::into_inner);
            if cached.versions == Some(versions) {
                return Arc::clone(&cached.index);
            }
        }
        let index = Arc::new(index_of(self.objects.as_ref()));
        let mut cached = self.index.write().unwrap_or_else(PoisonError::into_inner);
        *cached = Cached { versions: Some(versions), index: Arc::clone(&index) };
        index
    }
}

/// Allows, or gives the reason for refusing (which may be empty).
fn decide(user: &User, attributes: &Attributes, index: &Index, objects: &dyn Objects) -> Result<(), String> {
    if user.in_group(MASTERS) {
        return Ok(());
    }
    let mut reason = String::new();
    if let Some(node) = node::name_of(user) {
        match node::decide(node, attributes, objects) {
            node::Verdict::Allow => return Ok(()),
            node::Verdict::NoOpinion(why) => reason = why,
        }
    }
    if index.allows(user, attributes) { Ok(()) } else { Err(reason) }
}

fn index_of(objects: &dyn Objects) -> Index {
    let list = |kind| objects.list(kind, "", None);
    Index::build(&Policy {
        roles: &list(ROLES),
        cluster_roles: &list(CLUSTER_ROLES),
        role_bindings: &list(ROLE_BINDINGS),
        cluster_role_bindings: &list(CLUSTER_ROLE_BINDINGS),
    })
}
