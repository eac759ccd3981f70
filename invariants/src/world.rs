//! The values that oracles look at.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::{Event, Node, PersistentVolume, PersistentVolumeClaim, Pod, Service},
    discovery::v1::EndpointSlice,
    policy::v1::PodDisruptionBudget,
};

/// One moment of a cluster: its objects, read at one revision, and what every node has.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// When it was observed.
    pub now: Timestamp,
    /// For how long nothing has been done to the cluster: no fault, no user. Liveness is judged by it alone, and only in
    /// a whole world: with 0 the lists may be partial and only what may never happen is looked at.
    pub quiet_secs: f64,
    /// Objects.
    pub deployments: Vec<Deployment>,
    /// Objects.
    pub replica_sets: Vec<ReplicaSet>,
    /// Objects.
    pub pods: Vec<Pod>,
    /// Objects.
    pub services: Vec<Service>,
    /// Objects.
    pub slices: Vec<EndpointSlice>,
    /// Objects.
    pub nodes: Vec<Node>,
    /// Objects.
    pub budgets: Vec<PodDisruptionBudget>,
    /// Objects.
    pub volumes: Vec<PersistentVolume>,
    /// Objects.
    pub claims: Vec<PersistentVolumeClaim>,
    /// Objects.
    pub events: Vec<Event>,
    /// What each node really has, by name; nodes that cannot be seen (cut off, dead, on another machine) are left out.
    pub hosts: BTreeMap<String, NodeView>,
    /// How often each durable object, `kind/namespace/name`, was written in the last minute of the quiet; empty when
    /// nobody counted or the quiet is younger.
    pub recent_writes: BTreeMap<String, u64>,
    /// Uids of pods that were shown at some time as gone with their hosts. They were replaced then, and come on top of
    /// what is asked for while they return.
    pub once_gone: BTreeSet<String>,
    /// For how long the oldest key of each work queue, by controller, has been waiting, in seconds; keys that back off
    /// or wait for their time do not count.
    pub queue_waits_secs: BTreeMap<String, f64>,
}

/// What one node really has, as its engine and kernel say.
#[derive(Debug, Clone, Default)]
pub struct NodeView {
    /// All containers of the engine, also those that are not ours.
    pub containers: Vec<Container>,
    /// Uids of the pods that have a network sandbox, with the address.
    pub sandboxes: BTreeMap<String, String>,
    /// Addresses that the proxy sends traffic of a Service port to, by `namespace/name:port`; the port is its name or
    /// its number, an address is `IP` or `IP:port`. A port without anybody behind it may be left out.
    pub routes: BTreeMap<String, BTreeSet<String>>,
    /// Whether `routes` were looked at.
    pub routes_seen: bool,
    /// Names of the PersistentVolumes whose data, a Docker volume or a folder, is here.
    pub volumes: BTreeSet<String>,
    /// Uids of pods that the agent has begun to stop on purpose, within their grace period: hooks run, or a signal was
    /// sent.
    pub stopping: BTreeSet<String>,
}

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerPhase {
    /// Made, not started.
    Created,
    /// Runs.
    Running,
    /// Ended.
    Exited,
}

/// One container of an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// The engine's name for it.
    pub name: String,
    /// The pod it is of; `None` for one that is not ours.
    pub pod_uid: Option<String>,
    /// Its name in the pod.
    pub container: String,
    /// Which try it is.
    pub attempt: u32,
    /// Where it is.
    pub phase: ContainerPhase,
    /// How often it was started.
    pub starts: u32,
}

/// A broken invariant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// `S1`–`S15` or `L1`–`L6`.
    pub rule: &'static str,
    /// What it is about: `kind/namespace/name`, or a node.
    pub subject: String,
    /// A sentence with the values.
    pub message: String,
}

impl Violation {
    pub(crate) fn new(rule: &'static str, subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self { rule, subject: subject.into(), message: message.into() }
    }
}

impl std::fmt::Display for Violation {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} {}: {}", self.rule, self.subject, self.message)
    }
}
