//! Which containers the pods of this node have, for streams: logs, exec, port-forward, stats.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use crate::ids::{ContainerId, PodUid};

/// The pods of this node by namespace and name. The life cycle writes it, streams read it.
#[derive(Debug, Clone, Default)]
pub struct PodDirectory {
    pods: Arc<Mutex<HashMap<(String, String), PodRecord>>>,
}

/// One pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodRecord {
    /// The pod's uid.
    pub uid: PodUid,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// The pod's address.
    pub address: Option<IpAddr>,
    /// The pod's network name space; `None` for hostNetwork.
    pub netns: Option<PathBuf>,
    /// Containers, init containers included, by name.
    pub containers: BTreeMap<String, ContainerRecord>,
}

/// One container of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ContainerRecord {
    /// The newest attempt, running or exited.
    pub current: Option<ContainerId>,
    /// The attempt before it, while the engine still has it.
    pub previous: Option<ContainerId>,
    /// Whether the newest attempt runs.
    pub running: bool,
    /// Whether it was made with a terminal.
    pub tty: bool,
    /// Whether its standard input is open.
    pub stdin: bool,
}

impl PodDirectory {
    /// Returns a pod by namespace and name.
    pub fn get(&self, namespace: &str, name: &str) -> Option<PodRecord> {
        self.lock().get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// Returns all pods, in no particular order.
    pub fn list(&self) -> Vec<PodRecord> {
        self.lock().values().cloned().collect()
    }

    /// Enters or replaces a pod.
    pub fn put(&self, record: PodRecord) {
        self.lock().insert((record.namespace.clone(), record.name.clone()), record);
    }

    /// Forgets a pod, unless its name belongs to another uid by now.
    pub fn remove(&self, namespace: &str, name: &str, uid: &PodUid) {
        let key = (namespace.to_owned(), name.to_owned());
        let mut pods = self.lock();
        if pods.get(&key).is_some_and(|record| record.uid == *uid) {
            pods.remove(&key);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(String, String), PodRecord>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
