//! Observes unbound pods, asks [`place`] for a decision, and writes it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::{
    Binding, Event, Namespace, Node, ObjectReference, PersistentVolume, PersistentVolumeClaim, Pod, PodCondition,
    PodStatus,
};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::claims::{self, Demands, SELECTED_NODE, Volumes};
use super::index::Index;
use super::neighbours::waits_for_others;
use super::node::Offer;
use super::place::{Decision, place};
use super::rank::Strategy;
use super::shape::{Placed, Shape};
use super::trace::{Trace, Verdict};
use crate::manager::Context;
use crate::runtime::clock::whole_seconds;
use crate::runtime::events::Severity;
use crate::runtime::{Change, Cluster, Controller, Error, ObjectKey, Outcome, Recorder, WorkQueue};

/// The scheduler that pods name by default, and the only one there is.
const SCHEDULER_NAME: &str = "default-scheduler";
/// The reason of the Event that carries a decision's account.
const TRACE_REASON: &str = "SchedulingTrace";

/// Places pods.
#[derive(Debug)]
struct Scheduler {
    cluster: Cluster,
    recorder: Recorder,
    strategy: Strategy,
    state: Mutex<State>,
}

/// Changed by events and by decisions, under one lock, so that no wake-up falls between a decision and its wait.
#[derive(Debug, Default)]
struct State {
    index: Index,
    /// Pods without a node, to be tried again when anything gets better; whether that may also be another pod's coming.
    waiting: BTreeMap<ObjectKey, bool>,
}

/// Builds the scheduler and registers its triggers.
pub(crate) fn register(context: &Context, queue: &WorkQueue) -> Arc<dyn Controller> {
    let cluster = context.cluster.clone();
    let recorder = cluster.recorder.signed("default-scheduler");
    let strategy = context.config.placement;
    let scheduler = Arc::new(Scheduler { recorder, strategy, state: Mutex::default(), cluster: cluster.clone() });
    on_change(&cluster.pods, &scheduler, queue, Scheduler::pod_changed);
    on_change(&cluster.namespaces, &scheduler, queue, Scheduler::namespace_changed);
    on_change(&cluster.nodes, &scheduler, queue, Scheduler::node_changed);
    on_change(&cluster.persistent_volume_claims, &scheduler, queue, Scheduler::volumes_changed);
    on_change(&cluster.persistent_volumes, &scheduler, queue, Scheduler::volumes_changed);
    on_change(&cluster.storage_classes, &scheduler, queue, Scheduler::volumes_changed);
    scheduler
}

fn on_change<K: crate::runtime::resource::Object>(
    resource: &crate::runtime::Resource<K>,
    scheduler: &Arc<Scheduler>,
    queue: &WorkQueue,
    handler: fn(&Scheduler, &WorkQueue, &Change<K>),
) {
    let (scheduler, queue) = (Arc::clone(scheduler), queue.clone());
    resource.on_change(move |change| handler(&scheduler, &queue, change));
}

#[async_trait::async_trait]
impl Controller for Scheduler {
    fn name(&self) -> &'static str {
        "scheduler"
    }

    fn keys(&self) -> Vec<ObjectKey> {
        let pods = self.cluster.pods.cache().all();
        pods.iter().filter(|pod| wants_node(pod)).map(|pod| ObjectKey::of(&**pod)).collect()
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let Some(pod) = self.cluster.pods.cache().get(key).filter(|pod| wants_node(pod)) else {
            return Ok(Outcome::DONE);
        };
        let (decision, demands) = self.decide(key, &pod);
        match &decision.node {
            Err(message) => self.report_unschedulable(key, &pod, message).await?,
            Ok(node) if demands.waiting.is_empty() => self.bind(key, &pod, node).await?,
            // The claims' change, once their volumes are made, brings the pod back.
            Ok(node) => self.ask_for_volumes(key, node, &demands).await?,
        }
        self.publish(key, &pod, &decision.trace).await;
        Ok(Outcome::DONE)
    }
}

impl Scheduler {
    /// Decides, and notes the consequences in the index before the lock is given up.
    fn decide(&self, key: &ObjectKey, pod: &Pod) -> (Decision, Demands) {
        let shape = Shape::read(pod);
        let draw = (self.cluster.environment.random.unit() * f64::from(u32::MAX)) as u64;
        let mut state = self.lock();
        let known = Known { cluster: &self.cluster, index: &state.index };
        let (decision, demands) = match claims::demands(pod, &known) {
            Ok(demands) => (place(&mut state.index, &shape, &demands.rules, self.strategy, draw), demands),
            Err(sentence) => (refused_everywhere(&state.index, self.strategy, &sentence), Demands::default()),
        };
        match &decision.node {
            Ok(node) if demands.waiting.is_empty() => {
                state.index.set_pod(&pod.uid().unwrap_or_default(), node, shape.placed);
                state.waiting.remove(key);
            }
            Ok(_) | Err(_) => {
                state.waiting.insert(key.clone(), waits_for_others(&shape));
            }
        }
        (decision, demands)
    }

    /// Binds a pod; the server refuses when it has a node already.
    async fn bind(&self, key: &ObjectKey, pod: &Pod, node: &str) -> Result<(), Error> {
        let uid = pod.uid().unwrap_or_default();
        let target = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Node".to_owned()),
            name: Some(node.to_owned()),
            ..ObjectReference::default()
        };
        let metadata = ObjectMeta {
            name: Some(key.name.clone()),
            namespace: Some(key.namespace.clone()),
            uid: Some(uid.clone()),
            ..ObjectMeta::default()
        };
        let bound = self.cluster.pods.create_subresource(key, "binding", &Binding { metadata, target }).await;
        match bound {
            Ok::<Value, _>(_) => {
                let message = format!("Successfully assigned {key} to {node}");
                self.recorder.record(pod_reference(pod), Severity::Normal, "Scheduled", message);
                Ok(())
            }
            Err(error) => {
                // Nothing is assumed of a bind that was refused or whose answer was lost: the pod's next version tells.
                self.forget(&uid);
                if error.is_not_found() { Ok(()) } else { Err(error) }
            }
        }
    }

    async fn ask_for_volumes(&self, key: &ObjectKey, node: &str, demands: &Demands) -> Result<(), Error> {
        for name in &demands.waiting {
            let claim_key = ObjectKey::new(key.namespace.clone(), name.clone());
            let claims = &self.cluster.persistent_volume_claims;
            let Some(claim) = claims.cache().get(&claim_key) else { continue };
            if claim.annotations().get(SELECTED_NODE).is_none_or(|selected| selected != node) {
                claims.patch(&claim, json!({"metadata": {"annotations": {SELECTED_NODE: node}}}), None).await?;
            }
        }
        Ok(())
    }

    async fn report_unschedulable(&self, key: &ObjectKey, pod: &Pod, message: &str) -> Result<(), Error> {
        let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        let current = conditions.iter().find(|condition| condition.type_ == "PodScheduled");
        let said = current
            .is_some_and(|condition| condition.status == "False" && condition.message.as_deref() == Some(message));
        if said {
            return Ok(());
        }
        self.recorder.record(pod_reference(pod), Severity::Warning, "FailedScheduling", message);
        let changed_at = match current.filter(|condition| condition.status == "False") {
            Some(condition) => condition.last_transition_time.clone(),
            None => Some(Time(whole_seconds(self.cluster.environment.now()))),
        };
        let condition = PodCondition {
            type_: "PodScheduled".to_owned(),
            status: "False".to_owned(),
            reason: Some("Unschedulable".to_owned()),
            message: Some(message.to_owned()),
            last_transition_time: changed_at,
            ..PodCondition::default()
        };
        let others = conditions.iter().filter(|condition| condition.type_ != "PodScheduled").cloned();
        let mut after = pod.clone();
        let status = after.status.get_or_insert_with(PodStatus::default);
        status.conditions = Some(std::iter::once(condition).chain(others).collect());
        match self.cluster.pods.update(pod, &after, Some("status")).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_not_found() || error.is_conflict() => {
                tracing::debug!(pod = %key, "pod changed while its condition was written; its next version decides");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Publishes the account of a decision as an Event of a fixed name, which lives in memory only.
    async fn publish(&self, key: &ObjectKey, pod: &Pod, trace: &Trace) {
        let message = match serde_json::to_string(trace) {
            Ok(message) => message,
            Err(error) => return tracing::warn!(pod = %key, %error, "trace not published"),
        };
        let now = Time(whole_seconds(self.cluster.environment.now()));
        let name = format!("{}.trace", key.name);
        let event = Event {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(key.namespace.clone()),
                ..ObjectMeta::default()
            },
            involved_object: pod_reference(pod),
            type_: Some("Normal".to_owned()),
            reason: Some(TRACE_REASON.to_owned()),
            message: Some(message.clone()),
            reporting_component: Some("default-scheduler".to_owned()),
            first_timestamp: Some(now.clone()),
            last_timestamp: Some(now.clone()),
            count: Some(1),
            ..Event::default()
        };
        let events: Api<Event> = Api::namespaced(self.cluster.client.clone(), &key.namespace);
        let written = match events.create(&PostParams::default(), &event).await {
            Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {
                let patch = json!({"message": message, "lastTimestamp": now, "involvedObject": event.involved_object});
                events.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await
            }
            written => written,
        };
        if let Err(error) = written {
            tracing::debug!(pod = %key, %error, "trace not published");
        }
    }

    fn forget(&self, uid: &str) {
        self.lock().index.remove_pod(uid);
    }

    fn pod_changed(&self, queue: &WorkQueue, change: &Change<Pod>) {
        let uid_of = |pod: &Pod| pod.uid().unwrap_or_default();
        let mut state = self.lock();
        let replaced = match (&change.before, &change.after) {
            (Some(before), Some(after)) => uid_of(before) != uid_of(after),
            (Some(_), None) => true,
            (None, _) => false,
        };
        let (mut freed, mut came) = (false, false);
        if let Some(before) = change.before.as_ref().filter(|_| replaced) {
            freed |= state.index.remove_pod(&uid_of(before));
            state.waiting.remove(&ObjectKey::of(&**before));
        }
        if let Some(after) = &change.after {
            match node_of(after) {
                Some(_) if is_finished(after) => freed |= state.index.remove_pod(&uid_of(after)),
                Some(node) => {
                    // What is bound now was assumed when it was decided, before others could be told.
                    let bound = change.before.as_ref().is_none_or(|before| node_of(before).is_none());
                    came = state.index.set_pod(&uid_of(after), node, Placed::read(after)) || bound;
                }
                None if wants_node(after) => queue.add(ObjectKey::of(&**after)),
                None => {}
            }
        }
        if freed {
            wake(&state, queue);
        } else if came {
            for (key, _) in state.waiting.iter().filter(|(_, for_others)| **for_others) {
                queue.add(key.clone());
            }
        }
    }

    fn namespace_changed(&self, queue: &WorkQueue, change: &Change<Namespace>) {
        let mut state = self.lock();
        let Some(namespace) = change.after.as_ref().or(change.before.as_ref()) else { return };
        let labels = change.after.as_ref().map(|after| after.labels());
        if state.index.set_namespace(&namespace.name_any(), labels) {
            wake(&state, queue);
        }
    }

    fn node_changed(&self, queue: &WorkQueue, change: &Change<Node>) {
        let mut state = self.lock();
        match (&change.before, &change.after) {
            (_, Some(after)) => {
                let offer = Offer::read(after);
                let unchanged = state.index.nodes().get(&after.name_any()).and_then(|node| node.offer.as_ref());
                if unchanged == Some(&offer) {
                    return;
                }
                state.index.set_node(&after.name_any(), offer);
            }
            (Some(before), None) => state.index.remove_node(&before.name_any()),
            (None, None) => return,
        }
        wake(&state, queue);
    }

    fn volumes_changed<K>(&self, queue: &WorkQueue, _change: &Change<K>) {
        wake(&self.lock(), queue);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whatever got better may have got better for any waiting pod.
fn wake(state: &State, queue: &WorkQueue) {
    for key in state.waiting.keys() {
        queue.add(key.clone());
    }
}

fn refused_everywhere(index: &Index, strategy: Strategy, sentence: &str) -> Decision {
    let verdict = |name: &String| Verdict { node: name.clone(), fits: false, why: sentence.to_owned() };
    let nodes = index.nodes().keys().map(verdict).collect();
    let count = index.nodes().len();
    let message = format!("0/{count} nodes are available: {sentence}.");
    Decision { node: Err(message), trace: Trace { strategy, node: None, nodes, omitted: 0 } }
}

fn wants_node(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let ours = spec.scheduler_name.as_deref().is_none_or(|name| name == SCHEDULER_NAME);
    let gated = spec.scheduling_gates.iter().flatten().next().is_some();
    ours && !gated && node_of(pod).is_none() && pod.metadata.deletion_timestamp.is_none() && !is_finished(pod)
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|node| !node.is_empty())
}

fn is_finished(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn pod_reference(pod: &Pod) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        namespace: pod.namespace(),
        name: pod.metadata.name.clone(),
        uid: pod.uid(),
        resource_version: pod.resource_version(),
        ..ObjectReference::default()
    }
}

/// The caches, as the claims' look-ups.
struct Known<'a> {
    cluster: &'a Cluster,
    index: &'a Index,
}

impl Volumes for Known<'_> {
    fn claim(&self, namespace: &str, name: &str) -> Option<Arc<PersistentVolumeClaim>> {
        self.cluster.persistent_volume_claims.cache().get(&ObjectKey::new(namespace, name))
    }

    fn volume(&self, name: &str) -> Option<Arc<PersistentVolume>> {
        self.cluster.persistent_volumes.cache().get(&ObjectKey::cluster(name))
    }

    fn volumes(&self) -> Vec<Arc<PersistentVolume>> {
        self.cluster.persistent_volumes.cache().all()
    }

    fn class(&self, name: &str) -> Option<Arc<StorageClass>> {
        self.cluster.storage_classes.cache().get(&ObjectKey::cluster(name))
    }

    fn has_node(&self, name: &str) -> bool {
        self.index.nodes().get(name).is_some_and(|node| node.offer.is_some())
    }
}
