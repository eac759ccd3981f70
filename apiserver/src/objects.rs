//! The little that identities, authorisation and streams need to read of the cluster's objects.
//!
//! Defined here by its consumers; the registry's caches satisfy it. Reads come from memory and may be a moment old.

use drover_api::kinds::{self, Kind};
use serde_json::Value;

use crate::{admission::World, cache::Selectable};

/// Group and plural of a kind, for example `("rbac.authorization.k8s.io", "roles")`.
pub(crate) type Resource = (&'static str, &'static str);

pub(crate) const PODS: Resource = ("", "pods");
pub(crate) const SERVICE_ACCOUNTS: Resource = ("", "serviceaccounts");
pub(crate) const SECRETS: Resource = ("", "secrets");
pub(crate) const NODES: Resource = ("", "nodes");
pub(crate) const CLAIMS: Resource = ("", "persistentvolumeclaims");

/// Reads of cached objects.
pub(crate) trait Objects: Send + Sync {
    /// Returns one object; `namespace` is `""` for cluster-scoped kinds.
    fn find(&self, resource: Resource, namespace: &str, name: &str) -> Option<Value>;

    /// Returns the objects of a kind, in one namespace or in all (`""`), whose selectable string field (a dotted
    /// path such as `spec.nodeName`) has the value given.
    fn list(&self, resource: Resource, namespace: &str, field: Option<(&str, &str)>) -> Vec<Value>;

    /// Returns the objects of a kind whose stored form holds any of the texts, without reading the others; it may
    /// return more.
    fn mentioning(&self, resource: Resource, _texts: &[&str]) -> Vec<Value> {
        self.list(resource, "", None)
    }

    /// Whether one of the objects that [`list`](Self::list) returns holds `text` in its stored form and is `wanted`.
    fn any(
        &self,
        resource: Resource,
        namespace: &str,
        field: (&str, &str),
        _text: &str,
        wanted: &dyn Fn(&Value) -> bool,
    ) -> bool {
        self.list(resource, namespace, Some(field)).iter().any(wanted)
    }

    /// Returns a number that changes whenever an object of the kind does.
    fn version(&self, resource: Resource) -> u64;
}

impl Objects for crate::registry::Registry {
    fn find(&self, resource: Resource, namespace: &str, name: &str) -> Option<Value> {
        Some(self.peek(kind(resource)?, namespace, name)?.to_value())
    }

    fn list(&self, resource: Resource, namespace: &str, field: Option<(&str, &str)>) -> Vec<Value> {
        let Some(kind) = kind(resource) else { return Vec::new() };
        let snapshot = self.snapshot(kind);
        let prefix = if namespace.is_empty() { String::new() } else { format!("{namespace}/") };
        crate::cache::range(&snapshot.objects, &prefix, "")
            .filter(|(_, object)| field.is_none_or(|field| has_field(object.selectable(), field)))
            .map(|(_, object)| object.to_value())
            .collect()
    }

    fn any(
        &self,
        resource: Resource,
        namespace: &str,
        field: (&str, &str),
        text: &str,
        wanted: &dyn Fn(&Value) -> bool,
    ) -> bool {
        let Some(kind) = kind(resource) else { return false };
        let snapshot = self.snapshot(kind);
        let prefix = format!("{namespace}/");
        let objects = crate::cache::range(&snapshot.objects, &prefix, "").map(|(_, object)| object);
        // Every agent asks for every pod that starts: most objects must cost a comparison and no decoding.
        let mut here = objects.filter(|object| has_field(object.selectable(), field));
        here.any(|object| mentions(object.bytes(), &[text]) && wanted(&object.to_value()))
    }

    fn mentioning(&self, resource: Resource, texts: &[&str]) -> Vec<Value> {
        let Some(kind) = kind(resource) else { return Vec::new() };
        let snapshot = self.snapshot(kind);
        let all = crate::cache::range(&snapshot.objects, "", "").map(|(_, object)| object);
        all.filter(|object| mentions(object.bytes(), texts)).map(|object| object.to_value()).collect()
    }

    fn version(&self, resource: Resource) -> u64 {
        // A revision says it all but for a rebuild of the cache, which keeps or raises it.
        kind(resource).map(|kind| self.snapshot(kind).revision).unwrap_or_default()
    }
}

/// The same reads for code that runs inside admission.
pub(crate) struct WorldObjects<'a>(pub(crate) &'a dyn World);

impl Objects for WorldObjects<'_> {
    fn find(&self, (group, plural): Resource, namespace: &str, name: &str) -> Option<Value> {
        Some(self.0.get(group, plural, namespace, name)?.to_value())
    }

    fn list(&self, (group, plural): Resource, namespace: &str, field: Option<(&str, &str)>) -> Vec<Value> {
        let objects = self.0.list(group, plural, namespace).into_iter();
        let wanted = objects.filter(|object| field.is_none_or(|field| has_field(object.selectable(), field)));
        wanted.map(|object| object.to_value()).collect()
    }

    fn mentioning(&self, (group, plural): Resource, texts: &[&str]) -> Vec<Value> {
        let objects = self.0.list(group, plural, "").into_iter();
        objects.filter(|object| mentions(object.bytes(), texts)).map(|object| object.to_value()).collect()
    }

    fn version(&self, _: Resource) -> u64 {
        0
    }
}

fn kind((group, plural): Resource) -> Option<&'static Kind> {
    kinds::all().iter().find(|kind| kind.group == group && kind.plural == plural)
}

fn mentions(bytes: &[u8], texts: &[&str]) -> bool {
    texts.iter().any(|text| memchr::memmem::find(bytes, text.as_bytes()).is_some())
}

fn has_field(selectable: &Selectable, (path, value): (&str, &str)) -> bool {
    selectable.text(path) == value
}

/// A cluster without objects.
#[cfg(test)]
pub(crate) struct Nothing;

#[cfg(test)]
impl Objects for Nothing {
    fn find(&self, _: Resource, _: &str, _: &str) -> Option<Value> {
        None
    }

    fn list(&self, _: Resource, _: &str, _: Option<(&str, &str)>) -> Vec<Value> {
        Vec::new()
    }

    fn version(&self, _: Resource) -> u64 {
        0
    }
}
