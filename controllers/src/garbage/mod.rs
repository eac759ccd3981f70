//! Garbage collection: an object whose owners are all gone goes too.
//!
//! Follows the metadata of every durable kind. An owner counts as gone only when the server itself, asked for that very
//! group, kind, namespace and name, has none with that uid (C11): absence from a cache proves nothing. Carries out the
//! deletion policies Foreground and Orphan, whose finalizers the API server sets.

mod plan;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use drover_api::restored::{Deletion, HELD_REASON};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource as _;
use kube::api::{DynamicObject, ObjectMeta, PropagationPolicy};
use kube::core::PartialObjectMeta;
use serde_json::{Value, json};

use crate::manager::Context;
use crate::objects::kinds::{self, Served};
use crate::objects::owners;
use crate::runtime::cache::{IndexFn, owner_uids};
use crate::runtime::events::Severity;
use crate::runtime::resource::DeleteOptions;
use crate::runtime::{Change, Cluster, Controller, Error, Index, ObjectKey, Outcome, Resource, WorkQueue};

pub use plan::{Action, Dependent, OwnerState, plan};

/// How soon to look again while a restore is not confirmed.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

type Metadata = PartialObjectMeta<DynamicObject>;

/// One kind with its cache.
#[derive(Debug, Clone)]
struct Followed {
    served: Served,
    objects: Resource<Metadata>,
}

/// Collects garbage.
#[derive(Debug)]
pub struct GarbageCollector {
    cluster: Cluster,
    kinds: Arc<Vec<Followed>>,
}

/// Builds the controller and registers what wakes it.
pub fn register(context: &Context, queue: &WorkQueue) -> Arc<dyn Controller> {
    let kinds = Arc::new(follow(&context.cluster));
    for (number, kind) in kinds.iter().enumerate() {
        let (queue, all) = (queue.clone(), kinds.clone());
        kind.objects.on_change(move |change| wake(&all, number, &queue, change));
        context.cluster.also_start(&kind.objects);
    }
    let mut cluster = context.cluster.clone();
    cluster.recorder = cluster.recorder.signed("garbage-collector");
    Arc::new(GarbageCollector { cluster, kinds })
}

fn follow(cluster: &Cluster) -> Vec<Followed> {
    let durable = kinds::all().into_iter().filter(|kind| kind.durable);
    durable
        .map(|served| {
            let indexers: Vec<(Index, IndexFn<Metadata>)> = vec![(Index::Owner, owner_uids::<Metadata>)];
            let objects = Resource::new(cluster.client.clone(), served.resource.clone(), indexers, None);
            Followed { served, objects }
        })
        .collect()
}

/// Names an object of any kind in one queue: the kind's number stands before the namespace, which has no space.
fn encode(kind: usize, key: &ObjectKey) -> ObjectKey {
    ObjectKey::new(format!("{kind} {}", key.namespace), key.name.clone())
}

fn decode(key: &ObjectKey) -> Option<(usize, ObjectKey)> {
    let (kind, namespace) = key.namespace.split_once(' ')?;
    Some((kind.parse().ok()?, ObjectKey::new(namespace, key.name.clone())))
}

/// Wakes the object itself when it has owners or waits to go; its dependents when it goes; its owners when it is gone.
fn wake(kinds: &[Followed], kind: usize, queue: &WorkQueue, change: &Change<Metadata>) {
    let Some(object) = change.after.as_ref().or(change.before.as_ref()) else { return };
    if let (Some(before), Some(after)) = (&change.before, &change.after)
        && standing(&before.metadata) == standing(&after.metadata)
    {
        return;
    }
    let metadata = &object.metadata;
    let going = owners::is_terminating(metadata);
    if change.after.is_some() && (metadata.owner_references.iter().flatten().next().is_some() || going) {
        queue.add(encode(kind, &ObjectKey::of(&**object)));
    }
    let replaced = change
        .before
        .as_ref()
        .filter(|before| change.after.as_ref().is_none_or(|after| after.metadata.uid != before.metadata.uid));
    if going || replaced.is_some() {
        for uid in [Some(metadata), replaced.map(|before| &before.metadata)].into_iter().flatten().map(owners::uid) {
            wake_dependents(kinds, queue, uid);
        }
    }
    if let Some(gone) = replaced {
        for owner in gone.metadata.owner_references.iter().flatten() {
            if let Some((number, key)) = locate(kinds, owner, owners::namespace(&gone.metadata)) {
                queue.add(encode(number, &key));
            }
        }
    }
}

/// What decides whether an object stays: most changes touch none of it.
fn standing(metadata: &ObjectMeta) -> impl PartialEq {
    let owners = metadata.owner_references.clone().unwrap_or_default();
    let finalizers = metadata.finalizers.clone().unwrap_or_default();
    (metadata.uid.clone(), owners, finalizers, owners::is_terminating(metadata))
}

fn wake_dependents(kinds: &[Followed], queue: &WorkQueue, uid: &str) {
    for (number, kind) in kinds.iter().enumerate() {
        for dependent in kind.objects.cache().by_index(Index::Owner, uid) {
            queue.add(encode(number, &ObjectKey::of(&*dependent)));
        }
    }
}

/// Finds where an owner of an object in `namespace` would be. An owner in a namespace has its children in the same.
fn locate(kinds: &[Followed], owner: &OwnerReference, namespace: &str) -> Option<(usize, ObjectKey)> {
    let same = |kind: &Followed| {
        kind.served.resource.kind == owner.kind && kind.served.resource.api_version == owner.api_version
    };
    let number = kinds.iter().position(same)?;
    let namespace = if kinds[number].served.namespaced { namespace } else { "" };
    Some((number, ObjectKey::new(namespace, owner.name.clone())))
}

#[async_trait::async_trait]
impl Controller for GarbageCollector {
    fn name(&self) -> &'static str {
        "garbagecollector"
    }

    fn keys(&self) -> Vec<ObjectKey> {
        let worth_a_look = |object: &Arc<Metadata>| {
            object.metadata.owner_references.is_some() || owners::is_terminating(&object.metadata)
        };
        let of_kind = |(number, kind): (usize, &Followed)| {
            let objects = kind.objects.cache().all().into_iter().filter(worth_a_look);
            objects.map(|object| encode(number, &ObjectKey::of(&*object))).collect::<Vec<_>>()
        };
        self.kinds.iter().enumerate().flat_map(of_kind).collect()
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let Some((number, key)) = decode(key) else { return Ok(Outcome::DONE) };
        let Some(kind) = self.kinds.get(number) else { return Ok(Outcome::DONE) };
        kind.objects.caught_up().await?;
        let Some(object) = kind.objects.cache().get(&key) else { return Ok(Outcome::DONE) };
        let states = self.owner_states(kind, &object.metadata).await?;
        let dependents = self.dependents(number, &key, owners::uid(&object.metadata));
        let mut outcome = Outcome::DONE;
        for action in plan(&object.metadata, &states, &dependents) {
            if matches!(action, Action::Delete { .. })
                && let Some(reason) = self.cluster.held_back(Deletion::Garbage).await?
            {
                let about = object.object_ref(&kind.served.resource);
                self.cluster.recorder.record(about, Severity::Warning, HELD_REASON, reason);
                outcome = Outcome::after(Some(LOOK_AGAIN));
                continue;
            }
            self.apply(number, &key, &object, action).await?;
        }
        Ok(outcome)
    }
}

impl GarbageCollector {
    /// Finds out about every owner, asking the server about those the caches do not show.
    async fn owner_states(&self, kind: &Followed, metadata: &ObjectMeta) -> Result<Vec<OwnerState>, Error> {
        let mut states = Vec::new();
        for owner in metadata.owner_references.iter().flatten() {
            states.push(self.owner_state(kind, owner, owners::namespace(metadata)).await?);
        }
        Ok(states)
    }

    async fn owner_state(&self, kind: &Followed, owner: &OwnerReference, namespace: &str) -> Result<OwnerState, Error> {
        let Some((number, key)) = locate(&self.kinds, owner, namespace) else { return Ok(OwnerState::Unknown) };
        let owners_kind = &self.kinds[number];
        if owners_kind.served.namespaced && !kind.served.namespaced {
            // A cluster-wide object cannot be owned from within a namespace; which one would it be?
            return Ok(OwnerState::Unknown);
        }
        let cached = owners_kind.objects.cache().get(&key).filter(|found| owners::uid(&found.metadata) == owner.uid);
        if let Some(found) = cached {
            return Ok(plan::state_of(&found.metadata));
        }
        let fresh = owners_kind.objects.get_fresh(&key).await?;
        let fresh = fresh.filter(|found| owners::uid(&found.metadata) == owner.uid);
        Ok(fresh.map_or(OwnerState::Gone, |found| plan::state_of(&found.metadata)))
    }

    /// Finds what the object owns. A reference from elsewhere that only carries its uid is not one to it: whoever wrote
    /// it must not be able to hold the object back (faults A26).
    fn dependents(&self, number: usize, key: &ObjectKey, uid: &str) -> Vec<Dependent> {
        let owner = (number, key.clone());
        let owned = |metadata: &ObjectMeta| {
            let place = |reference: &OwnerReference| locate(&self.kinds, reference, owners::namespace(metadata));
            plan::leads_to(metadata, uid, &owner, place)
        };
        let of_kind = |(number, kind): (usize, &Followed)| {
            let found = kind.objects.cache().by_index(Index::Owner, uid).into_iter();
            let owned = found.filter(|object| owned(&object.metadata));
            owned.map(|object| Dependent::of(number, uid, &object.metadata)).collect::<Vec<_>>()
        };
        self.kinds.iter().enumerate().flat_map(of_kind).collect()
    }

    async fn apply(&self, kind: usize, key: &ObjectKey, object: &Metadata, action: Action) -> Result<(), Error> {
        let objects = &self.kinds[kind].objects;
        match action {
            Action::Delete { policy } => {
                let options = DeleteOptions {
                    // Whoever gave the object a new owner since it was read has saved it.
                    resource_version: object.metadata.resource_version.clone(),
                    propagation: Some(match policy {
                        plan::Policy::Background => PropagationPolicy::Background,
                        plan::Policy::Foreground => PropagationPolicy::Foreground,
                        plan::Policy::Orphan => PropagationPolicy::Orphan,
                    }),
                    ..DeleteOptions::uid(owners::uid(&object.metadata))
                };
                tracing::info!(object = %key, kind = %objects.kind(), "collecting an object whose owners are gone");
                objects.delete(key, &options).await
            }
            Action::KeepOwners { owners } => patch_references(objects, object, &owners).await,
            Action::RemoveFinalizer { finalizer } => {
                let mut finalizers = object.metadata.finalizers.clone().unwrap_or_default();
                finalizers.retain(|other| *other != finalizer);
                settle(objects.patch(object, json!({"metadata": {"finalizers": finalizers}}), None).await)
            }
            Action::ReleaseDependent { kind, key } => {
                let objects = &self.kinds[kind].objects;
                let Some(dependent) = objects.cache().get(&key) else { return Ok(()) };
                let mut references = dependent.metadata.owner_references.clone().unwrap_or_default();
                references.retain(|owner| owner.uid != owners::uid(&object.metadata));
                patch_references(objects, &dependent, &references).await
            }
        }
    }
}

async fn patch_references(
    objects: &Resource<Metadata>,
    object: &Metadata,
    references: &[OwnerReference],
) -> Result<(), Error> {
    let references = if references.is_empty() { Value::Null } else { json!(references) };
    settle(objects.patch(object, json!({"metadata": {"ownerReferences": references}}), None).await)
}

/// An object that is gone needs no patch any more.
fn settle(result: Result<Metadata, Error>) -> Result<(), Error> {
    match result {
        Err(error) if error.is_not_found() => Ok(()),
        other => other.map(drop),
    }
}
