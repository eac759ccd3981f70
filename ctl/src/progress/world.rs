//! The objects seen so far.

use std::collections::BTreeMap;

use drover_api::object::{self, str_at};
use serde_json::Value;

/// An object that somebody waits for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Target {
    /// `Deployment`.
    pub(crate) kind: String,
    /// `""` for cluster-scoped objects.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
    /// `metadata.generation` that must have been observed at least.
    pub(crate) generation: i64,
}

impl Target {
    /// The target that an object is, as it was written.
    pub(crate) fn of(written: &Value) -> Self {
        Self {
            kind: str_at(written, &["kind"]).to_owned(),
            namespace: object::namespace(written).to_owned(),
            name: object::name(written).to_owned(),
            generation: object::at(written, &["metadata", "generation"]).and_then(Value::as_i64).unwrap_or(0),
        }
    }

    /// `deployment/web`.
    pub(crate) fn label(&self) -> String {
        format!("{}/{}", self.kind.to_lowercase(), self.name)
    }
}

type Key = (String, String, String);

/// What has been seen of the cluster.
#[derive(Debug, Clone, Default)]
pub(crate) struct World {
    objects: BTreeMap<Key, Value>,
    events: BTreeMap<Key, Value>,
}

impl World {
    /// Replaces all objects of a kind in a namespace.
    pub(crate) fn replace(&mut self, kind: &str, namespace: &str, listed: Vec<Value>) {
        self.of(kind).retain(|(known, place, _), _| known != kind || place != namespace);
        listed.into_iter().for_each(|found| self.put(kind, found));
    }

    /// Adds or changes an object.
    pub(crate) fn put(&mut self, kind: &str, found: Value) {
        let key = (kind.to_owned(), object::namespace(&found).to_owned(), object::name(&found).to_owned());
        self.of(kind).insert(key, found);
    }

    /// Removes an object.
    pub(crate) fn remove(&mut self, kind: &str, gone: &Value) {
        self.of(kind).remove(&(kind.to_owned(), object::namespace(gone).to_owned(), object::name(gone).to_owned()));
    }

    /// Finds an object.
    pub(crate) fn get(&self, target: &Target) -> Option<&Value> {
        self.objects.get(&(target.kind.clone(), target.namespace.clone(), target.name.clone()))
    }

    /// The objects of a kind that an object controls, in order of name.
    pub(crate) fn owned<'a>(&'a self, kind: &'a str, owner: &'a str) -> impl Iterator<Item = &'a Value> + 'a {
        let controlled = move |found: &&Value| {
            let owners = object::at(found, &["metadata", "ownerReferences"]).and_then(Value::as_array);
            let mut owners = owners.into_iter().flatten();
            !owner.is_empty() && owners.any(|one| one["controller"] == true && str_at(one, &["uid"]) == owner)
        };
        self.objects.iter().filter(move |((known, _, _), _)| known == kind).map(|(_, found)| found).filter(controlled)
    }

    /// The events seen, in no particular order.
    pub(crate) fn events(&self) -> Vec<Value> {
        self.events.values().cloned().collect()
    }

    fn of(&mut self, kind: &str) -> &mut BTreeMap<Key, Value> {
        if kind == "Event" { &mut self.events } else { &mut self.objects }
    }
}
