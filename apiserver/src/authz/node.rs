//! The Node authorizer: an agent may see and touch what concerns its own node and the pods bound to it.
//!
//! A pure function of the request and the objects it names. What it has no opinion on is left to RBAC, which gives
//! nodes no more than any authenticated user.

use drover_api::{
    ingress,
    object::{self, at},
};
use serde_json::Value;

use super::{Attributes, references};
use crate::{
    objects::{CLAIMS, NODES, Objects, PODS, Resource},
    request::User,
};

const LEASE_NAMESPACE: &str = "kube-node-lease";
/// The Leases in which the controllers publish what every proxy has applied, and whose hosts are in doubt.
pub(crate) const PUBLISHED_LEASES: [&str; 2] = ["drover-proxies", "drover-roll-call"];
const INGRESSES: Resource = ("networking.k8s.io", "ingresses");
const VOLUMES: Resource = ("", "persistentvolumes");

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Allow,
    /// With a reason to show when RBAC does not allow it either.
    NoOpinion(String),
}

/// Returns the node that a user is the agent of.
pub(crate) fn name_of(user: &User) -> Option<&str> {
    let node = user.name.strip_prefix("system:node:").filter(|node| !node.is_empty())?;
    user.in_group("system:nodes").then_some(node)
}

pub(super) fn decide(node: &str, attributes: &Attributes, objects: &dyn Objects) -> Verdict {
    if attributes.path.is_some() {
        return Verdict::NoOpinion(String::new());
    }
    let request = Request { node, attributes, objects };
    if request.is_allowed() {
        return Verdict::Allow;
    }
    Verdict::NoOpinion(format!("no relationship found between node {node:?} and this object"))
}

struct Request<'a> {
    node: &'a str,
    attributes: &'a Attributes,
    objects: &'a dyn Objects,
}

impl Request<'_> {
    fn is_allowed(&self) -> bool {
        let Attributes { api_group, resource, subresource, .. } = self.attributes;
        match (api_group.as_str(), resource.as_str(), subresource.as_str()) {
            ("drover.dev", "nodes", "tunnel") => self.verb(&["create"]) && self.is_self(),
            // Agents ask before they end what the API does not know.
            ("drover.dev", "restores", "") => self.verb(&["get"]) && self.attributes.name == "cluster",
            // It routes to the pods of every other node.
            ("", "nodes", "") if self.verb(READ) => true,
            ("", "nodes", "") => self.verb(&["create"]) || (self.verb(READ_WRITE) && self.is_self()),
            ("", "nodes", "status") => self.verb(&["get", "update", "patch"]) && self.is_self(),
            ("", "pods", "") => self.may_use_pods(),
            ("", "pods", "status") => self.verb(&["get", "update", "patch"]) && self.is_own_pod(),
            ("", "pods", "eviction") => self.verb(&["create"]) && self.is_own_pod(),
            ("", "secrets", "") if drover_api::mutants::active("A29-node-reads-all-secrets") => self.verb(READ),
            ("", "secrets", "") => {
                self.verb(READ) && (self.some_pod(references::uses_secret) || self.serves_certificate())
            }
            ("", "configmaps", "") => self.verb(READ) && self.some_pod(references::uses_config_map),
            ("", "serviceaccounts", "") => self.verb(READ) && self.some_pod(references::uses_service_account),
            ("", "serviceaccounts", "token") => {
                self.verb(&["create"]) && self.some_pod(references::uses_service_account)
            }
            ("", "persistentvolumeclaims", "") => self.verb(&["get"]) && self.is_own_claim(),
            // A node looks through all volumes for data of its own that is to go.
            ("", "persistentvolumes", "") if self.verb(READ) => true,
            ("", "persistentvolumes", "" | "status") => self.verb(&["update", "patch"]) && self.is_own_volume(),
            ("", "services", "") | ("discovery.k8s.io", "endpointslices", "") => self.verb(READ),
            ("networking.k8s.io", "ingresses" | "ingressclasses", "") => self.verb(READ) && self.serves_ingresses(),
            ("", "events", "") | ("events.k8s.io", "events", "") => self.verb(&["create", "update", "patch"]),
            ("coordination.k8s.io", "leases", "") => self.may_use_lease(),
            _ => false,
        }
    }

    fn verb(&self, verbs: &[&str]) -> bool {
        verbs.contains(&self.attributes.verb.as_str())
    }

    fn is_self(&self) -> bool {
        self.attributes.name == self.node
    }

    fn may_use_pods(&self) -> bool {
        match self.attributes.verb.as_str() {
            "list" | "watch" => selects(&self.attributes.field_selector, "spec.nodeName", self.node),
            "get" | "delete" => self.is_own_pod(),
            _ => false,
        }
    }

    fn may_use_lease(&self) -> bool {
        if self.attributes.namespace != LEASE_NAMESPACE {
            return false;
        }
        match self.attributes.verb.as_str() {
            "create" => true,
            "get" | "list" | "watch" => self.is_self() || PUBLISHED_LEASES.contains(&self.attributes.name.as_str()),
            "update" | "patch" | "delete" => self.is_self(),
            _ => false,
        }
    }

    fn is_own_pod(&self) -> bool {
        let Attributes { namespace, name, .. } = self.attributes;
        let pod = self.objects.find(PODS, namespace, name);
        pod.is_some_and(|pod| object::str_at(&pod, &["spec", "nodeName"]) == self.node)
    }

    /// Whether a pod of this node in the request's namespace uses the object, which it must name.
    fn some_pod(&self, uses: fn(&Value, &str) -> bool) -> bool {
        self.some_pod_with(&self.attributes.name, uses)
    }

    /// Whether one that has the text in it does.
    fn some_pod_with(&self, text: &str, uses: fn(&Value, &str) -> bool) -> bool {
        let Attributes { namespace, name, .. } = self.attributes;
        if namespace.is_empty() || name.is_empty() {
            return false;
        }
        self.objects.any(PODS, namespace, ("spec.nodeName", self.node), text, &|pod| uses(pod, name))
    }

    /// Whether this node is one of those that serve Ingresses. A node cannot make itself one: the label is reserved.
    fn serves_ingresses(&self) -> bool {
        if drover_api::mutants::active("A29-every-node-reads-certificates") {
            return true;
        }
        let own = self.objects.find(NODES, "", self.node);
        own.is_some_and(|own| at(&own, &["metadata", "labels", ingress::NODE_ROLE]).is_some())
    }

    /// Whether this node serves an Ingress that has its certificate in the Secret, which the request must name.
    fn serves_certificate(&self) -> bool {
        let Attributes { namespace, name, .. } = self.attributes;
        let named = !namespace.is_empty() && !name.is_empty();
        let uses = |one: &Value| references::ingress_uses(one, name);
        named && self.serves_ingresses() && self.objects.list(INGRESSES, namespace, None).iter().any(uses)
    }

    /// Whether a pod here uses the claim, or a volume here is bound to it.
    fn is_own_claim(&self) -> bool {
        let Attributes { namespace, name, .. } = self.attributes;
        if namespace.is_empty() || name.is_empty() {
            return false;
        }
        let claims = |volume: &Value| {
            let claim = object::at(volume, &["spec", "claimRef"]).cloned().unwrap_or_default();
            object::str_at(&claim, &["namespace"]) == namespace && object::str_at(&claim, &["name"]) == name
        };
        let is_here = |volume: &Value| references::volume_is_on(volume, self.node) && claims(volume);
        // The claims of ephemeral volumes are named after pod and volume: no pod has the whole name in it.
        self.some_pod_with("", references::uses_claim) || self.objects.list(VOLUMES, "", None).iter().any(is_here)
    }

    /// Whether the volume lives on this node, or its claim is used by a pod here.
    fn is_own_volume(&self) -> bool {
        let Some(volume) = self.objects.find(VOLUMES, "", &self.attributes.name) else { return false };
        if references::volume_is_on(&volume, self.node) {
            return true;
        }
        let claim = object::at(&volume, &["spec", "claimRef"]).cloned().unwrap_or_default();
        let (namespace, name) = (object::str_at(&claim, &["namespace"]), object::str_at(&claim, &["name"]));
        let bound = self.objects.find(CLAIMS, namespace, name);
        let is_bound =
            bound.is_some_and(|claim| object::str_at(&claim, &["spec", "volumeName"]) == self.attributes.name);
        let pods = self.objects.list(PODS, namespace, Some(("spec.nodeName", self.node)));
        is_bound && pods.iter().any(|pod| references::uses_claim(pod, name))
    }
}

const READ: &[&str] = &["get", "list", "watch"];
const READ_WRITE: &[&str] = &["get", "list", "watch", "update", "patch"];

/// Whether a field selector holds the term `field=value`.
fn selects(selector: &str, field: &str, value: &str) -> bool {
    selector.split(',').any(|term| {
        let rest = term.trim().strip_prefix(field).and_then(|rest| rest.strip_prefix('='));
        rest.is_some_and(|rest| rest.strip_prefix('=').unwrap_or(rest) == value)
    })
}
