//! Gives every pod of this node its actor and passes on what happens: pods from the API, containers from the engine.
//!
//! Also ends what has no pod any more, and only that: after a complete list from the API server, containers that the
//! ledger proves to be ours and whose pod uid the list does not have, unless [`super::unknown`] keeps them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use k8s_openapi::api::core::v1::Pod;
use tokio::{
    sync::mpsc,
    task::{Id, JoinSet},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    actor::{Actor, INBOX_LIMIT, Message},
    context::Context,
    engine_watch::Fact,
    orphan,
    unknown::Unknown,
};
use crate::{
    config::identity_of,
    engine::{ContainerSummary, EventKind},
    ids::{ContainerId, PodUid},
    source::Informer,
};

/// The actors of this node.
pub(crate) struct Manager {
    context: Arc<Context>,
    pods: Informer<Pod>,
    /// Ordered, so that a simulation repeats.
    actors: BTreeMap<PodUid, Handle>,
    tasks: JoinSet<PodUid>,
    by_task: HashMap<Id, PodUid>,
    orphans: HashSet<PodUid>,
    orphan_tasks: JoinSet<PodUid>,
    unknown: Unknown,
    last_listing: Option<(Instant, Vec<ContainerSummary>)>,
    shutdown: CancellationToken,
}

struct Handle {
    inbox: mpsc::Sender<Message>,
    /// The pod as it was passed on last.
    pod: Arc<Pod>,
    gone: bool,
    /// Set by the actor: whether Services, slices and acknowledgements matter to it now.
    routes_matter: Arc<AtomicBool>,
}

impl Manager {
    pub(crate) fn new(context: Arc<Context>, pods: Informer<Pod>, shutdown: CancellationToken) -> Self {
        Self {
            context,
            pods,
            actors: BTreeMap::new(),
            tasks: JoinSet::new(),
            by_task: HashMap::new(),
            orphans: HashSet::new(),
            orphan_tasks: JoinSet::new(),
            unknown: Unknown::default(),
            last_listing: None,
            shutdown,
        }
    }

    /// Runs until `shutdown`; containers are left as they are.
    pub(crate) async fn run(mut self, mut facts: mpsc::Receiver<Fact>) {
        let mut pods = self.pods.subscribe();
        let mut services = self.context.services.subscribe();
        let mut slices = self.context.slices.subscribe();
        let mut acknowledged = self.context.acknowledged.clone();
        let mut engine_up = self.context.engine_up.clone();
        let mut images = self.context.images_changed.clone();
        let shutdown = self.shutdown.clone();
        self.sync_pods();
        loop {
            // Cancel-safe: watches and channels keep what they hold.
            tokio::select! {
                () = shutdown.cancelled() => break,
                Ok(()) = pods.changed() => self.sync_pods(),
                Some(fact) = facts.recv() => self.take(fact),
                Some(ended) = self.tasks.join_next_with_id() => self.note_ended(ended),
                Some(ended) = self.orphan_tasks.join_next() => {
                    if let Ok(uid) = ended {
                        self.orphans.remove(&uid);
                    }
                }
                answer = self.unknown.next() => match answer {
                    Some(answer) => {
                        let doomed = self.unknown.take(&self.context, answer);
                        self.end_unknown(&doomed);
                        // Others may have become unknown while the question was under way.
                        self.sync_pods();
                    }
                    None => self.sync_pods(),
                },
                Ok(()) = services.changed() => self.wake_waiting(),
                Ok(()) = slices.changed() => self.wake_waiting(),
                Ok(()) = acknowledged.changed() => self.wake_waiting(),
                Ok(()) = engine_up.changed() => self.wake_all(),
                Ok(()) = images.changed() => self.wake_all(),
            }
        }
        // Actors end on the same token; a step in flight is dropped, and the next agent finds what it did.
        while self.tasks.join_next().await.is_some() {}
        self.orphan_tasks.abort_all();
    }

    /// Brings the actors in line with the pods of the API.
    fn sync_pods(&mut self) {
        let state = self.pods.state();
        let mut present = HashSet::new();
        for pod in self.pods.list() {
            let Some(uid) = pod.metadata.uid.as_deref().and_then(PodUid::new) else { continue };
            present.insert(uid.clone());
            self.note_pod(&uid, pod);
        }
        if state.lists == 0 && !drover_api::mutants::active("C25-ends-before-it-has-heard") {
            return;
        }
        let mut unknown = self.orphans_found(&present);
        for (uid, handle) in &mut self.actors {
            if handle.gone || present.contains(uid) {
                continue;
            }
            if handle.pod.metadata.deletion_timestamp.is_some() {
                // Somebody asked for it: its end is under way.
                handle.gone = handle.inbox.try_send(Message::Gone).is_ok();
            } else {
                unknown.insert(uid.clone());
            }
        }
        self.unknown.note(&self.context, unknown);
    }

    fn note_pod(&mut self, uid: &PodUid, pod: Arc<Pod>) {
        match self.actors.get_mut(uid) {
            Some(handle) if Arc::ptr_eq(&handle.pod, &pod) => {}
            Some(handle) => {
                if handle.inbox.try_send(Message::Pod(Arc::clone(&pod))).is_ok() {
                    handle.pod = pod;
                }
            }
            None => self.spawn_actor(uid, pod),
        }
    }

    fn spawn_actor(&mut self, uid: &PodUid, pod: Arc<Pod>) {
        // An orphan's end is under way under this uid: the API had lost the pod. It is taken up when that is over.
        if self.orphans.contains(uid) {
            return;
        }
        let finished = crate::status::is_final(pod.status.as_ref().and_then(|status| status.phase.as_deref()));
        if finished && pod.metadata.deletion_timestamp.is_none() && !self.context.ledger.contains(uid) {
            return;
        }
        let (inbox, messages) = mpsc::channel(INBOX_LIMIT);
        let routes_matter = Arc::new(AtomicBool::new(true));
        let interest = Arc::clone(&routes_matter);
        let actor = Actor::new(Arc::clone(&self.context), uid.clone(), Arc::clone(&pod), messages, interest);
        let (shutdown, key) = (self.shutdown.clone(), uid.clone());
        let task = self.tasks.spawn(async move {
            actor.run(shutdown).await;
            key
        });
        self.by_task.insert(task.id(), uid.clone());
        if let Some((taken_at, containers)) = &self.last_listing {
            // A new pod cannot have containers that an older listing lacks, unless we made them: and we did not yet.
            let own = containers_of(&self.context, uid, containers);
            // The inbox is new and empty.
            let _ = inbox.try_send(Message::Listing { taken_at: *taken_at, containers: Arc::new(own) });
        }
        self.actors.insert(uid.clone(), Handle { inbox, pod, gone: false, routes_matter });
    }

    fn take(&mut self, fact: Fact) {
        match fact {
            Fact::Event(event) => match event.kind {
                EventKind::Died { id, labels, exit_code } => {
                    self.tell(&labels, Message::Died { id, exit_code, at: event.at });
                }
                EventKind::Removed { id, labels } => self.note_removed(&id, &labels),
                EventKind::Started { .. } | EventKind::OutOfMemory { .. } | EventKind::ImagesChanged => {}
            },
            Fact::Listing { taken_at, containers } => {
                for (uid, handle) in &self.actors {
                    let own = containers_of(&self.context, uid, &containers);
                    // A full inbox means that the actor has enough to do; the next listing comes soon.
                    let _ = handle.inbox.try_send(Message::Listing { taken_at, containers: Arc::new(own) });
                }
                self.last_listing = Some((taken_at, containers));
                self.sync_pods();
            }
        }
    }

    fn tell(&self, labels: &std::collections::BTreeMap<String, String>, message: Message) {
        let Some(identity) = identity_of(labels).filter(|identity| identity.owner == self.context.owner) else {
            return;
        };
        if let Some(handle) = self.actors.get(&identity.pod) {
            // A lost event is made good by the next listing.
            let _ = handle.inbox.try_send(message);
        }
    }

    /// Keeps the last listing from telling a new actor of a container that is gone by now.
    fn note_removed(&mut self, id: &ContainerId, _labels: &std::collections::BTreeMap<String, String>) {
        if let Some((_, containers)) = &mut self.last_listing {
            containers.retain(|container| container.id != *id);
        }
    }

    fn wake_waiting(&self) {
        for handle in self.actors.values().filter(|handle| handle.routes_matter.load(Ordering::SeqCst)) {
            // A full inbox wakes the actor anyway.
            let _ = handle.inbox.try_send(Message::Wake);
        }
    }

    fn wake_all(&self) {
        for handle in self.actors.values() {
            // A full inbox wakes the actor anyway.
            let _ = handle.inbox.try_send(Message::Wake);
        }
    }

    fn note_ended(&mut self, ended: Result<(Id, PodUid), tokio::task::JoinError>) {
        let uid = match ended {
            Ok((id, uid)) => {
                self.by_task.remove(&id);
                Some(uid)
            }
            Err(error) => {
                // One pod that panics must not end the others; its actor is made anew and finds what is there.
                tracing::error!(%error, "a pod's actor panicked");
                self.by_task.remove(&error.id())
            }
        };
        if let Some(uid) = uid {
            self.actors.remove(&uid);
        }
    }

    /// Finds what is ours and has neither pod nor actor, once both sides are known.
    fn orphans_found(&self, present: &HashSet<PodUid>) -> BTreeSet<PodUid> {
        if self.last_listing.is_none() {
            return BTreeSet::new();
        }
        let pods = self.context.ledger.pods().into_iter().map(|(uid, _)| uid);
        let known = |uid: &PodUid| present.contains(uid) || self.actors.contains_key(uid) || self.orphans.contains(uid);
        pods.filter(|uid| !known(uid)).collect()
    }

    /// Ends those of the pods that the API still does not have.
    fn end_unknown(&mut self, doomed: &BTreeSet<PodUid>) {
        let pods = self.pods.list();
        let present: HashSet<PodUid> =
            pods.iter().filter_map(|pod| PodUid::new(pod.metadata.uid.as_deref()?)).collect();
        for uid in doomed.iter().filter(|uid| !present.contains(uid)) {
            match self.actors.get_mut(uid) {
                Some(handle) if !handle.gone => handle.gone = handle.inbox.try_send(Message::Gone).is_ok(),
                Some(_) => {}
                None => self.end_orphan(uid),
            }
        }
    }

    fn end_orphan(&mut self, uid: &PodUid) {
        let Some((_, containers)) = &self.last_listing else { return };
        if !self.context.ledger.contains(uid) || !self.orphans.insert(uid.clone()) {
            return;
        }
        tracing::info!(pod.uid = %uid, "ending a pod that the API no longer has");
        let own = containers_of(&self.context, uid, containers);
        let (context, uid) = (Arc::clone(&self.context), uid.clone());
        self.orphan_tasks.spawn(async move {
            orphan::end(&context, &uid, own).await;
            uid
        });
    }
}

/// The containers of a pod that the ledger proves to be ours.
fn containers_of(context: &Context, uid: &PodUid, containers: &[ContainerSummary]) -> Vec<ContainerSummary> {
    let of_pod = |container: &&ContainerSummary| {
        identity_of(&container.labels).is_some_and(|identity| identity.pod == *uid) && context.ledger.owns(container)
    };
    containers.iter().filter(of_pod).cloned().collect()
}
