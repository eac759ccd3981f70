//! The indexed cache behind an informer: a value, fed by one writer, read by every controller.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::{Arc, RwLock};

use kube::Resource;

use super::ObjectKey;

/// A way to look objects up besides by key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Index {
    /// The uid of each owner reference.
    Owner,
    /// The namespace of a Pod that nobody controls.
    Orphan,
    /// `spec.nodeName` of a Pod.
    Node,
    /// The Service that an EndpointSlice belongs to, as `namespace/name`.
    Service,
    /// The claims that a Pod mounts, as `namespace/name`.
    Claim,
}

/// Returns the values under which an object is found in an index.
pub type IndexFn<K> = fn(&K) -> Vec<String>;

/// What happened to one object. Both sides are set for a change, one for a birth or a death.
#[derive(Debug, Clone)]
pub struct Change<K> {
    /// The last version seen before.
    pub before: Option<Arc<K>>,
    /// The version now; `None` when the object is gone.
    pub after: Option<Arc<K>>,
}

impl<K> Change<K> {
    /// Iterates over the versions at hand: a trigger that maps both sides loses no key when a label or owner changes.
    pub fn versions(&self) -> impl Iterator<Item = &Arc<K>> {
        self.before.iter().chain(self.after.iter())
    }
}

/// Objects of one kind by key and by index.
#[derive(Debug)]
pub struct Cache<K> {
    indexers: Vec<(Index, IndexFn<K>)>,
    state: RwLock<State<K>>,
}

#[derive(Debug)]
struct State<K> {
    objects: BTreeMap<ObjectKey, Arc<K>>,
    indexes: BTreeMap<Index, BTreeMap<String, BTreeSet<ObjectKey>>>,
}

impl<K: Resource> Cache<K> {
    /// Makes an empty cache with these indexes.
    pub fn new(indexers: Vec<(Index, IndexFn<K>)>) -> Self {
        let indexes = indexers.iter().map(|(index, _)| (*index, BTreeMap::new())).collect();
        Self { indexers, state: RwLock::new(State { objects: BTreeMap::new(), indexes }) }
    }

    /// Returns an object.
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<K>> {
        self.read().objects.get(key).cloned()
    }

    /// Returns all objects in key order.
    pub fn all(&self) -> Vec<Arc<K>> {
        self.read().objects.values().cloned().collect()
    }

    /// Returns all keys in order.
    pub fn keys(&self) -> Vec<ObjectKey> {
        self.read().objects.keys().cloned().collect()
    }

    /// Returns the objects of a namespace in name order.
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        let first = ObjectKey::new(namespace, "");
        let state = self.read();
        let range = state.objects.range(first..);
        range.take_while(|(key, _)| key.namespace == namespace).map(|(_, object)| object.clone()).collect()
    }

    /// Returns the keys of a namespace whose names start with `prefix`.
    pub fn keys_with_prefix(&self, namespace: &str, prefix: &str) -> Vec<ObjectKey> {
        let first = ObjectKey::new(namespace, prefix);
        let state = self.read();
        let range = state.objects.range(first..);
        range
            .take_while(|(key, _)| key.namespace == namespace && key.name.starts_with(prefix))
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// Returns the objects that have `value` in an index, in key order. An index the cache lacks finds nothing.
    pub fn by_index(&self, index: Index, value: &str) -> Vec<Arc<K>> {
        let state = self.read();
        let Some(keys) = state.indexes.get(&index).and_then(|values| values.get(value)) else { return Vec::new() };
        keys.iter().filter_map(|key| state.objects.get(key).cloned()).collect()
    }

    /// Stores a version of an object.
    pub fn apply(&self, object: K) -> Change<K> {
        let key = ObjectKey::of(&object);
        let after = Arc::new(object);
        let mut state = self.write();
        let before = state.put(&self.indexers, key, after.clone());
        Change { before, after: Some(after) }
    }

    /// Forgets an object. `None` when it was not there.
    pub fn remove(&self, key: &ObjectKey) -> Option<Change<K>> {
        let before = self.write().take(&self.indexers, key)?;
        Some(Change { before: Some(before), after: None })
    }

    /// Makes the cache equal to a complete list, and returns what that changed.
    pub fn replace(&self, objects: Vec<K>) -> Vec<Change<K>> {
        let listed: BTreeSet<ObjectKey> = objects.iter().map(ObjectKey::of).collect();
        let mut gone: Vec<ObjectKey> = self.keys().into_iter().filter(|key| !listed.contains(key)).collect();
        if drover_api::mutants::active("C04-relist-misses-deletions") {
            gone.clear();
        }
        let mut changes: Vec<Change<K>> = gone.iter().filter_map(|key| self.remove(key)).collect();
        changes.extend(objects.into_iter().map(|object| self.apply(object)).filter(|change| !change.is_same_version()));
        changes
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, State<K>> {
        self.state.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, State<K>> {
        self.state.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl<K: Resource> Change<K> {
    fn is_same_version(&self) -> bool {
        let (Some(before), Some(after)) = (&self.before, &self.after) else { return false };
        before.meta().uid == after.meta().uid && before.meta().resource_version == after.meta().resource_version
    }
}

impl<K> State<K> {
    fn put(&mut self, indexers: &[(Index, IndexFn<K>)], key: ObjectKey, object: Arc<K>) -> Option<Arc<K>> {
        let before = self.take(indexers, &key);
        for (index, values_of) in indexers {
            let values = self.indexes.entry(*index).or_default();
            for value in values_of(&object) {
                values.entry(value).or_default().insert(key.clone());
            }
        }
        self.objects.insert(key, object);
        before
    }

    fn take(&mut self, indexers: &[(Index, IndexFn<K>)], key: &ObjectKey) -> Option<Arc<K>> {
        let before = self.objects.remove(key)?;
        for (index, values_of) in indexers {
            let Some(values) = self.indexes.get_mut(index) else { continue };
            for value in values_of(&before) {
                if let Some(keys) = values.get_mut(&value) {
                    keys.remove(key);
                    if keys.is_empty() {
                        values.remove(&value);
                    }
                }
            }
        }
        Some(before)
    }
}

/// Indexes by the uid of every owner.
pub fn owner_uids<K: Resource>(object: &K) -> Vec<String> {
    object.meta().owner_references.iter().flatten().map(|owner| owner.uid.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    fn pod(name: &str, owner: &str, version: &str) -> Pod {
        serde_json::from_value(
            json!({"metadata": {"namespace": "a", "name": name, "uid": name, "resourceVersion": version,
            "ownerReferences": [{"apiVersion": "v1", "kind": "X", "name": "x", "uid": owner}]}}),
        )
        .unwrap()
    }

    #[test]
    fn an_index_follows_an_object_through_change_and_removal() {
        let cache = Cache::<Pod>::new(vec![(Index::Owner, owner_uids)]);
        cache.apply(pod("p", "one", "1"));
        assert_eq!(cache.by_index(Index::Owner, "one").len(), 1);
        cache.apply(pod("p", "two", "2"));
        assert!(cache.by_index(Index::Owner, "one").is_empty());
        assert_eq!(cache.by_index(Index::Owner, "two").len(), 1);
        cache.remove(&ObjectKey::new("a", "p"));
        assert!(cache.by_index(Index::Owner, "two").is_empty());
    }

    #[test]
    fn a_relist_reports_only_what_differs_and_removes_what_is_gone() {
        let cache = Cache::<Pod>::new(vec![]);
        cache.replace(vec![pod("keep", "o", "1"), pod("gone", "o", "2")]);
        let changes = cache.replace(vec![pod("keep", "o", "1"), pod("new", "o", "3")]);
        let text: Vec<_> = changes
            .iter()
            .map(|c| {
                (
                    c.before.as_ref().map(|p| ObjectKey::of(&**p).name),
                    c.after.as_ref().map(|p| ObjectKey::of(&**p).name),
                )
            })
            .collect();
        assert_eq!(text, [(Some("gone".to_owned()), None), (None, Some("new".to_owned()))]);
    }

    #[test]
    fn a_namespace_is_read_without_its_neighbours() {
        let cache = Cache::<Pod>::new(vec![]);
        cache.apply(pod("p", "o", "1"));
        assert_eq!(cache.in_namespace("a").len(), 1);
        assert!(cache.in_namespace("aa").is_empty());
    }
}
