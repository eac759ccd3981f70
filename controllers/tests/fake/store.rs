//! The objects, their history, and what a write does to them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};
use tokio::sync::broadcast;

/// Group, version and plural of a collection, then namespace and name of an object.
pub(crate) type Key = (String, String, String);

/// What goes wrong.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Faults {
    /// Every n-th create of a pod is carried out and answered with an error.
    pub lose_reply_of_create: Option<usize>,
    /// Every n-th create of a pod is refused.
    pub refuse_create: Option<usize>,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub revision: u64,
    pub objects: BTreeMap<Key, Value>,
    pub history: Vec<(u64, String, &'static str, Value)>,
    /// Writes that changed something, by collection; events are not counted.
    pub writes: BTreeMap<String, usize>,
    /// Creates of pods asked for.
    pub creates: usize,
    pub faults: Faults,
    now: i64,
}

/// A cluster in memory. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Fake {
    state: Arc<Mutex<State>>,
    /// Wakes watches after each write; `false` breaks them all.
    pub changed: broadcast::Sender<bool>,
}

/// An answer that is no object: code, reason, message.
pub(crate) type Refusal = (u16, &'static str, String);

impl Fake {
    pub(crate) fn new() -> Self {
        let state = State { revision: 1, now: 1_767_268_800, ..State::default() };
        Self { state: Arc::new(Mutex::new(state)), changed: broadcast::channel(65_536).0 }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn set_faults(&self, faults: Faults) {
        self.lock().faults = faults;
    }

    /// Breaks every watch; clients must come back.
    pub(crate) fn break_watches(&self) {
        let _ = self.changed.send(false);
    }

    pub(crate) fn list(&self, collection: &str) -> Vec<Value> {
        let state = self.lock();
        state.objects.iter().filter(|((of, _, _), _)| of == collection).map(|(_, object)| object.clone()).collect()
    }

    pub(crate) fn get(&self, collection: &str, namespace: &str, name: &str) -> Option<Value> {
        self.lock().objects.get(&key(collection, namespace, name)).cloned()
    }

    pub(crate) fn writes(&self) -> usize {
        self.lock().writes.values().sum()
    }

    pub(crate) fn create(&self, collection: &str, mut object: Value) -> Result<Value, Refusal> {
        let mut state = self.lock();
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
        let key = key(collection, &text("namespace"), &text("name"));
        if state.objects.contains_key(&key) {
            return Err((409, "AlreadyExists", format!("{} already exists", key.2)));
        }
        let is_pod = collection == "/pods";
        state.creates += usize::from(is_pod);
        let nth = |every: Option<usize>| is_pod && every.is_some_and(|every| state.creates.is_multiple_of(every));
        let (lost, refused) = (nth(state.faults.lose_reply_of_create), nth(state.faults.refuse_create));
        if refused {
            return Err((500, "InternalError", "refused by the test".to_owned()));
        }
        state.now += 1;
        object["metadata"]["uid"] = json!(format!("uid-{}", state.revision + 1));
        object["metadata"]["generation"] = json!(1);
        object["metadata"]["creationTimestamp"] = json!(jiff::Timestamp::from_second(state.now).unwrap().to_string());
        let stored = state.store(key, "ADDED", object);
        drop(state);
        let _ = self.changed.send(true);
        if lost { Err((500, "InternalError", "reply lost by the test".to_owned())) } else { Ok(stored) }
    }

    pub(crate) fn patch(&self, key: &Key, patch: &Value, subresource: Option<&str>) -> Result<Value, Refusal> {
        let mut state = self.lock();
        let before = state.objects.get(key).cloned().ok_or((404, "NotFound", format!("{} not found", key.2)))?;
        for field in ["resourceVersion", "uid"] {
            let wanted = &patch["metadata"][field];
            if !wanted.is_null() && *wanted != before["metadata"][field] {
                return Err((409, "Conflict", "the object has been modified".to_owned()));
            }
        }
        let mut after = before.clone();
        json_patch::merge(&mut after, patch);
        after["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"].clone();
        match subresource {
            Some(_) => {
                let status = after["status"].take();
                after = before.clone();
                after["status"] = status;
            }
            None => {
                after["status"] = before["status"].clone();
                if after["spec"] != before["spec"] {
                    after["metadata"]["generation"] = json!(before["metadata"]["generation"].as_u64().unwrap_or(0) + 1);
                }
            }
        }
        if after == before {
            return Ok(before);
        }
        let gone = after["metadata"]["deletionTimestamp"].is_string() && !has_finalizers(&after) && key.0 != "/pods";
        let stored = if gone { state.remove(key) } else { state.store(key.clone(), "MODIFIED", after) };
        drop(state);
        let _ = self.changed.send(true);
        Ok(stored)
    }

    pub(crate) fn delete(&self, key: &Key, options: &Value) -> Result<Value, Refusal> {
        let mut state = self.lock();
        let before = state.objects.get(key).cloned().ok_or((404, "NotFound", format!("{} not found", key.2)))?;
        for field in ["resourceVersion", "uid"] {
            let wanted = &options["preconditions"][field];
            if !wanted.is_null() && *wanted != before["metadata"][field] {
                return Err((409, "Conflict", "precondition failed".to_owned()));
            }
        }
        let graceful = key.0 == "/pods"
            && before["spec"]["nodeName"].is_string()
            && options["gracePeriodSeconds"] != json!(0)
            && !matches!(before["status"]["phase"].as_str(), Some("Failed" | "Succeeded"));
        let mut after = before.clone();
        let finalizer = match options["propagationPolicy"].as_str() {
            Some("Foreground") => Some("foregroundDeletion"),
            Some("Orphan") => Some("orphan"),
            _ => None,
        };
        if let Some(finalizer) = finalizer.filter(|_| !before["metadata"]["deletionTimestamp"].is_string()) {
            let mut finalizers = before["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
            finalizers.push(json!(finalizer));
            after["metadata"]["finalizers"] = json!(finalizers);
        }
        let namespace = key.0 == "/namespaces" && after["spec"]["finalizers"].as_array().is_some_and(|f| !f.is_empty());
        let stored = if graceful || namespace || has_finalizers(&after) {
            if before["metadata"]["deletionTimestamp"].is_string() {
                return Ok(before);
            }
            after["metadata"]["deletionTimestamp"] = json!("2026-01-01T12:00:00Z");
            state.store(key.clone(), "MODIFIED", after)
        } else {
            state.remove(key)
        };
        drop(state);
        let _ = self.changed.send(true);
        Ok(stored)
    }

    /// Sets a Namespace's finalizers and lets it go when none is left.
    pub(crate) fn finalize(&self, key: &Key, body: &Value) -> Result<Value, Refusal> {
        let mut state = self.lock();
        let mut after = state.objects.get(key).cloned().ok_or((404, "NotFound", String::new()))?;
        after["spec"]["finalizers"] = body["spec"]["finalizers"].clone();
        let empty = after["spec"]["finalizers"].as_array().is_none_or(Vec::is_empty);
        let stored = if empty { state.remove(key) } else { state.store(key.clone(), "MODIFIED", after) };
        drop(state);
        let _ = self.changed.send(true);
        Ok(stored)
    }
}

impl State {
    fn store(&mut self, key: Key, kind: &'static str, mut object: Value) -> Value {
        self.revision += 1;
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        self.note(&key, kind, &object);
        self.objects.insert(key, object.clone());
        object
    }

    fn remove(&mut self, key: &Key) -> Value {
        self.revision += 1;
        let mut object = self.objects.remove(key).unwrap();
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        self.note(key, "DELETED", &object);
        object
    }

    fn note(&mut self, key: &Key, kind: &'static str, object: &Value) {
        if key.0 != "/events" {
            *self.writes.entry(key.0.clone()).or_insert(0) += 1;
        }
        self.history.push((self.revision, key.0.clone(), kind, object.clone()));
    }
}

pub(crate) fn key(collection: &str, namespace: &str, name: &str) -> Key {
    (collection.to_owned(), namespace.to_owned(), name.to_owned())
}

fn has_finalizers(object: &Value) -> bool {
    object["metadata"]["finalizers"].as_array().is_some_and(|finalizers| !finalizers.is_empty())
}
