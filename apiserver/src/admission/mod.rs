//! Admission: what the cluster adds to an object, and what it refuses, before it is validated and stored.
//!
//! A fixed chain of small plugins, one a file. A plugin reads a snapshot of the world and changes the object; it does
//! no I/O and has no state. What must still hold when the write commits, it states as [`Effects`].

mod addresses;
mod escalation;
mod ingress;
mod limits;
mod namespace;
mod node;
mod owners;
mod priority;
mod service_account;
mod storage;
#[cfg(test)]
mod tests;
mod tolerations;

use std::sync::Arc;

use drover_api::{kinds::Kind, object::str_at, status::ApiError};
use drover_store::{Compare, Operation as StoreOperation, Revision};
use serde_json::Value;

use crate::{authz::Attributes, cache::Object, registry::Environment, request::User};

/// What is being done to the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// It is new.
    Create,
    /// It replaces [`Request::old`].
    Update,
    /// It goes.
    Delete,
}

/// Other objects, as plugins see them.
pub trait World: Sync {
    /// Returns one object of the cache.
    fn get(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Option<Arc<Object>>;

    /// Returns every object of a kind in a namespace (`""`: everywhere).
    fn list(&self, group: &str, plural: &str, namespace: &str) -> Vec<Arc<Object>>;

    /// Whether the user may do something else than what they are doing.
    fn allows(&self, user: &User, attributes: &Attributes) -> bool;

    /// Whether the user may write this Role, ClusterRole or binding without gaining rights.
    ///
    /// # Errors
    /// 403 that says what is missing.
    fn check_escalation(
        &self,
        user: &User,
        resource: &str,
        object: &Value,
        old: Option<&Value>,
    ) -> Result<(), ApiError>;
}

/// One write on its way in.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// Kind that is stored.
    pub kind: &'static Kind,
    /// What is being done.
    pub operation: Operation,
    /// `status`, `finalize`, … or `""`.
    pub subresource: &'a str,
    /// Namespace, `""` for cluster-scoped kinds.
    pub namespace: &'a str,
    /// Name.
    pub name: &'a str,
    /// Who writes.
    pub user: &'a User,
    /// The state before; `None` for a create.
    pub old: Option<&'a Value>,
    /// Other objects.
    pub world: &'a dyn World,
    /// Clock and chance.
    pub environment: &'a dyn Environment,
    /// Revision of the allocation key, for kinds that take addresses.
    pub allocation_revision: Option<Revision>,
}

impl std::fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {} {}/{}", self.operation, self.kind.plural, self.namespace, self.name)
    }
}

impl Request<'_> {
    /// Whether the write concerns objects of this kind themselves (not a subresource).
    pub fn is_main(&self, group: &str, kind: &str) -> bool {
        self.subresource.is_empty() && self.kind.group == group && self.kind.kind == kind
    }
}

/// What must hold, and what is written besides the object, when the write commits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effects {
    /// Preconditions.
    pub compares: Vec<Compare>,
    /// Further writes.
    pub operations: Vec<StoreOperation>,
}

/// One plugin: changes the object or refuses it.
type Plugin = fn(&Settings, &Request<'_>, &mut Value, &mut Effects) -> Result<(), ApiError>;

/// What the plugins need to know of the server.
#[derive(Debug, Clone)]
pub struct Settings {
    /// First address and prefix length of the Service network.
    pub service_cidr: (std::net::Ipv4Addr, u8),
    /// Ports that Services may take on nodes.
    pub node_ports: std::ops::RangeInclusive<u16>,
}

impl Settings {
    /// The first address of the Service network, which is that of `default/kubernetes`.
    pub(crate) fn first_address(&self) -> std::net::Ipv4Addr {
        std::net::Ipv4Addr::from(u32::from(self.service_cidr.0) + 1)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self { service_cidr: (std::net::Ipv4Addr::new(10, 96, 0, 0), 16), node_ports: 30000..=32767 }
    }
}

/// The name of the newest class that an annotation marks as default.
fn newest_default(classes: Vec<Arc<Object>>, annotation: &str) -> Option<String> {
    let is_default = |class: &Value| str_at(class, &["metadata", "annotations", annotation]) == "true";
    let age = |class: &Value| {
        let text = |field: &str| str_at(class, &["metadata", field]).to_owned();
        (text("creationTimestamp"), std::cmp::Reverse(text("name")))
    };
    let classes = classes.into_iter().map(|class| class.to_value()).filter(is_default);
    classes.max_by_key(age).map(|class| str_at(&class, &["metadata", "name"]).to_owned())
}

/// The chain, in order: who may, where it may be, what is filled in, what is taken.
const CHAIN: &[Plugin] = &[
    namespace::admit,
    node::admit,
    escalation::admit,
    owners::admit,
    limits::admit,
    service_account::admit,
    priority::admit,
    tolerations::admit,
    storage::admit,
    ingress::admit,
    addresses::admit,
];

/// The chain with its settings.
#[derive(Debug, Clone, Default)]
pub struct Admission {
    settings: Settings,
}

impl Admission {
    /// Builds the chain.
    pub fn new(settings: Settings) -> Self {
        Self { settings }
    }

    /// Runs every plugin over the object.
    ///
    /// # Errors
    /// The first refusal.
    pub fn admit(&self, request: &Request<'_>, object: &mut Value) -> Result<Effects, ApiError> {
        let mut effects = Effects::default();
        for plugin in CHAIN {
            plugin(&self.settings, request, object, &mut effects)?;
        }
        Ok(effects)
    }

    /// Whether objects of the kind are admitted against the newest state from the first try.
    pub fn needs_fresh_state(&self, kind: &Kind) -> bool {
        kind.group.is_empty() && kind.kind == "Service"
    }
}
