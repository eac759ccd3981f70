//! Looks at the cluster from outside: the store past its faults, the engines and kernels past their agents.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use drover_apiserver::registry::ROOT;
use drover_invariants::{Container, ContainerPhase, NodeView, World, is_gone};
use drover_store::{Backend, ChangeStream, Error, Event as StoreEvent, EventKind, Range, Revision};
use futures::{FutureExt, StreamExt};
use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::{Node, Pod, Service},
    discovery::v1::EndpointSlice,
    policy::v1::PodDisruptionBudget,
};
use serde::de::DeserializeOwned;

use crate::{clock::SimClock, parts::Node as SimNode};

/// Keeps a world that is as new as the store.
pub(crate) struct Observer {
    backend: Arc<dyn Backend>,
    clock: SimClock,
    stream: Option<ChangeStream>,
    revision: Revision,
    deployments: BTreeMap<Bytes, Deployment>,
    replica_sets: BTreeMap<Bytes, ReplicaSet>,
    pods: BTreeMap<Bytes, Pod>,
    services: BTreeMap<Bytes, Service>,
    slices: BTreeMap<Bytes, EndpointSlice>,
    nodes: BTreeMap<Bytes, Node>,
    budgets: BTreeMap<Bytes, PodDisruptionBudget>,
    /// Uids of pods that were shown as gone with their hosts.
    once_gone: BTreeSet<String>,
    /// When which key was written, newest last; only what the last minute needs.
    writes: Vec<(u64, Bytes)>,
}

impl std::fmt::Debug for Observer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Observer").field("revision", &self.revision).finish_non_exhaustive()
    }
}

impl Observer {
    /// Begins with an empty world.
    pub(crate) fn new(backend: Arc<dyn Backend>, clock: SimClock) -> Self {
        Self {
            backend,
            clock,
            stream: None,
            revision: 0,
            deployments: BTreeMap::new(),
            replica_sets: BTreeMap::new(),
            pods: BTreeMap::new(),
            services: BTreeMap::new(),
            slices: BTreeMap::new(),
            nodes: BTreeMap::new(),
            budgets: BTreeMap::new(),
            once_gone: BTreeSet::new(),
            writes: Vec::new(),
        }
    }

    /// Returns the revision that is known.
    pub(crate) fn revision(&self) -> Revision {
        self.revision
    }

    /// Returns the number of writes seen.
    pub(crate) fn writes(&self) -> u64 {
        self.writes.len() as u64
    }

    /// Takes in what has happened. Returns whether anything has.
    ///
    /// # Errors
    /// The store's, but for compaction, after which everything is listed anew.
    pub(crate) async fn catch_up(&mut self) -> Result<bool, Error> {
        let before = self.revision;
        loop {
            if self.stream.is_none() {
                match self.backend.changes(ROOT.as_bytes(), self.revision).await {
                    Ok(stream) if self.revision > 0 => self.stream = Some(stream),
                    Ok(_) | Err(Error::Compacted { .. }) => {
                        self.list().await?;
                        continue;
                    }
                    Err(error) => return Err(error),
                }
            }
            let Some(stream) = &mut self.stream else { continue };
            match stream.next().now_or_never() {
                None => return Ok(self.revision != before),
                Some(Some(Ok(changes))) => {
                    self.revision = changes.revision;
                    changes.events.iter().for_each(|event| self.take(event));
                }
                // Compacted, or reopened after a crash.
                Some(Some(Err(_)) | None) => self.stream = None,
            }
        }
    }

    /// Builds the world as it is known. `hosts` are the nodes that can be seen.
    pub(crate) fn world(&self, quiet_secs: f64, hosts: &[Arc<SimNode>]) -> World {
        fn all<T: Clone>(objects: &BTreeMap<Bytes, T>) -> Vec<T> {
            objects.values().cloned().collect()
        }
        World {
            now: self.clock.time(),
            quiet_secs,
            deployments: all(&self.deployments),
            replica_sets: all(&self.replica_sets),
            pods: all(&self.pods),
            services: all(&self.services),
            slices: all(&self.slices),
            nodes: all(&self.nodes),
            budgets: all(&self.budgets),
            once_gone: self.once_gone.clone(),
            hosts: hosts.iter().map(|node| (node.name.clone(), view(node))).collect(),
            recent_writes: if quiet_secs > 60.0 { self.recent_writes() } else { BTreeMap::new() },
            ..World::default()
        }
    }

    async fn list(&mut self) -> Result<(), Error> {
        let found = self.backend.range(Range { prefix: ROOT.into(), ..Range::default() }).await?;
        self.revision = found.revision;
        self.deployments.clear();
        self.replica_sets.clear();
        self.pods.clear();
        self.services.clear();
        self.slices.clear();
        self.nodes.clear();
        self.budgets.clear();
        for item in found.items {
            self.set(&item.key, Some((&item.value, item.mod_revision)));
        }
        Ok(())
    }

    fn take(&mut self, event: &StoreEvent) {
        let now = self.clock.elapsed_ms();
        let (key, value) = (String::from_utf8_lossy(&event.current.key), String::from_utf8_lossy(&event.current.value));
        tracing::trace!(now, %key, %value, "written");
        self.writes.push((now, event.current.key.clone()));
        match event.kind {
            EventKind::Put => self.set(&event.current.key, Some((&event.current.value, event.current.mod_revision))),
            EventKind::Delete => self.set(&event.current.key, None),
        }
    }

    fn set(&mut self, key: &Bytes, value: Option<(&Bytes, Revision)>) {
        let text = String::from_utf8_lossy(key);
        let mut parts = text.trim_start_matches(ROOT).split('/');
        match (parts.next().unwrap_or_default(), parts.next().unwrap_or_default()) {
            ("apps", "deployments") => enter(&mut self.deployments, key, value),
            ("apps", "replicasets") => enter(&mut self.replica_sets, key, value),
            ("core", "pods") => {
                enter(&mut self.pods, key, value);
                let gone = self.pods.get(key).filter(|pod| is_gone(pod));
                self.once_gone.extend(gone.and_then(|pod| pod.metadata.uid.clone()));
            }
            ("core", "services") => enter(&mut self.services, key, value),
            ("core", "nodes") => enter(&mut self.nodes, key, value),
            ("discovery.k8s.io", "endpointslices") => enter(&mut self.slices, key, value),
            ("policy", "poddisruptionbudgets") => enter(&mut self.budgets, key, value),
            _ => {}
        }
    }

    fn recent_writes(&self) -> BTreeMap<String, u64> {
        let since = self.clock.elapsed_ms().saturating_sub(60_000);
        let mut counts = BTreeMap::new();
        // A node's status is refreshed every five minutes on purpose.
        let refreshed = format!("{ROOT}core/nodes/");
        let recent = self.writes.iter().rev().take_while(|(at, _)| *at >= since);
        for (_, key) in recent.filter(|(_, key)| !key.starts_with(refreshed.as_bytes())) {
            *counts.entry(String::from_utf8_lossy(key).into_owned()).or_default() += 1;
        }
        counts
    }
}

fn enter<T: DeserializeOwned + kube::ResourceExt>(
    objects: &mut BTreeMap<Bytes, T>,
    key: &Bytes,
    value: Option<(&Bytes, Revision)>,
) {
    let Some((value, revision)) = value else {
        objects.remove(key);
        return;
    };
    // What is stored lacks the version: it is the store's own.
    if let Ok(mut object) = serde_json::from_slice::<T>(value) {
        object.meta_mut().resource_version = Some(revision.to_string());
        objects.insert(key.clone(), object);
    }
}

/// What a node really has.
fn view(node: &SimNode) -> NodeView {
    let starts = node.state.engine.starts();
    let containers = node.state.engine.containers().into_iter().map(|(name, phase)| {
        let (pod_uid, container, attempt) = identity(&name);
        let starts = starts.get(&name).copied().unwrap_or(0);
        Container { name, pod_uid, container, attempt, phase: phase_of(phase), starts }
    });
    let addresses = node.state.network.addresses();
    let sandboxes = addresses.into_iter().map(|(pod, address)| (pod.to_string(), address.to_string()));
    NodeView {
        containers: containers.collect(),
        sandboxes: sandboxes.collect(),
        routes: node.routes(),
        routes_seen: true,
        volumes: BTreeSet::new(),
        stopping: BTreeSet::new(),
    }
}

/// Reads pod uid, container and attempt out of a container's name; `None` for one that is not ours.
fn identity(name: &str) -> (Option<String>, String, u32) {
    let parts: Vec<&str> = name.split('_').collect();
    match parts.as_slice() {
        ["drover", container, _, _, uid, attempt] => {
            (Some((*uid).to_owned()), (*container).to_owned(), attempt.parse().unwrap_or(0))
        }
        _ => (None, String::new(), 0),
    }
}

fn phase_of(phase: drover_agent::engine::ContainerPhase) -> ContainerPhase {
    use drover_agent::engine::ContainerPhase as Engine;
    match phase {
        Engine::Running => ContainerPhase::Running,
        Engine::Created => ContainerPhase::Created,
        Engine::Exited | Engine::Removing => ContainerPhase::Exited,
    }
}
