//! Carries out a ReplicaSet's plan and reports what came of it. Decides nothing.

use futures::stream::{FuturesUnordered, StreamExt};
use futures::{FutureExt, future::BoxFuture};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use kube::Resource as _;
use kube::api::ObjectMeta;
use serde_json::json;

use super::plan::{Action, Plan};
use super::status::set_failure;
use crate::objects::owners;
use crate::runtime::events::Severity;
use crate::runtime::resource::DeleteOptions;
use crate::runtime::{Cluster, Error, ObjectKey, Result, error::reason_text};

/// What came of a plan.
#[derive(Debug, Default)]
pub(super) struct Applied {
    /// The first failure of each sort, for the condition: a reason and the API's words.
    pub failure: Option<(&'static str, String)>,
    /// The error to back off for.
    pub first_error: Option<Error>,
}

/// Carries out a plan: ownership, then deletions, then creations in batches that double.
pub(super) async fn apply(cluster: &Cluster, set: &ReplicaSet, plan: &Plan) -> Applied {
    let mut applied = Applied::default();
    if let Err(error) = change_ownership(cluster, set, &plan.ownership).await {
        applied.first_error = Some(error);
        return applied;
    }
    let mut deletions: FuturesUnordered<_> =
        plan.deletions.iter().map(|action| apply_action(cluster, set, action)).collect();
    while let Some(result) = deletions.next().await {
        note(&mut applied, "FailedDelete", result);
    }
    create_in_batches(cluster, set, &plan.creations, &mut applied).await;
    applied
}

/// Creates 1, 2, 4, … pods side by side and stops at the first batch with a failure, so that a set whose pods are
/// refused costs a handful of requests and not thousands.
async fn create_in_batches(cluster: &Cluster, set: &ReplicaSet, creations: &[Action], applied: &mut Applied) {
    let (mut rest, mut size) = (creations, 1);
    while !rest.is_empty() && applied.first_error.is_none() {
        let (batch, later) = rest.split_at(size.min(rest.len()));
        let mut running: FuturesUnordered<_> = batch.iter().map(|action| apply_action(cluster, set, action)).collect();
        while let Some(result) = running.next().await {
            note(applied, "FailedCreate", result);
        }
        (rest, size) = (later, size * 2);
    }
}

fn note(applied: &mut Applied, reason: &'static str, result: Result<()>) {
    let Err(error) = result else { return };
    // A name that is taken is seen by the next pass, and nothing to tell people about.
    if !error.is_already_exists() && !error.is_namespace_terminating() && applied.failure.is_none() {
        applied.failure = Some((reason, reason_text(&error)));
    }
    applied.first_error.get_or_insert(error);
}

async fn change_ownership(cluster: &Cluster, set: &ReplicaSet, actions: &[Action]) -> Result<()> {
    if actions.is_empty() {
        return Ok(());
    }
    // Only a set that still exists as this very object may take or give pods (C10).
    let key = ObjectKey::of(set);
    let fresh = cluster.replica_sets.get_fresh(&key).await?;
    let confirmed =
        fresh.is_some_and(|fresh| fresh.metadata.uid == set.metadata.uid && !owners::is_terminating(&fresh.metadata));
    if !confirmed {
        return Ok(());
    }
    for action in actions {
        apply_action(cluster, set, action).await?;
    }
    Ok(())
}

fn apply_action<'a>(cluster: &'a Cluster, set: &'a ReplicaSet, action: &'a Action) -> BoxFuture<'a, Result<()>> {
    let namespace = owners::namespace(&set.metadata);
    match action {
        Action::Adopt { pod, uid } => set_owner(cluster, set, pod, uid, true).boxed(),
        Action::Release { pod, uid } => set_owner(cluster, set, pod, uid, false).boxed(),
        Action::Create { pod } => create_pod(cluster, set, pod).boxed(),
        Action::Delete { pod, uid } => async move {
            cluster.pods.delete(&ObjectKey::new(namespace, pod), &DeleteOptions::uid(uid)).await?;
            tell(cluster, set, Severity::Normal, "SuccessfulDelete", format!("Deleted pod: {pod}"));
            Ok(())
        }
        .boxed(),
    }
}

async fn set_owner(cluster: &Cluster, set: &ReplicaSet, pod: &str, uid: &str, owned: bool) -> Result<()> {
    let key = ObjectKey::new(owners::namespace(&set.metadata), pod);
    let Some(pod) = cluster.pods.cache().get(&key).filter(|pod| owners::uid(&pod.metadata) == uid) else {
        return Ok(());
    };
    let mut references = pod.metadata.owner_references.clone().unwrap_or_default();
    references.retain(|owner| owner.uid != owners::uid(&set.metadata));
    if owned {
        references.push(owners::controller_reference(set));
    }
    cluster.pods.patch(&pod, json!({"metadata": {"ownerReferences": references}}), None).await.map(drop)
}

async fn create_pod(cluster: &Cluster, set: &ReplicaSet, name: &str) -> Result<()> {
    match cluster.pods.create(&build_pod(set, name)).await {
        Ok(_) => {
            tell(cluster, set, Severity::Normal, "SuccessfulCreate", format!("Created pod: {name}"));
            Ok(())
        }
        Err(error) => {
            if !error.is_already_exists() && !error.is_namespace_terminating() {
                tell(
                    cluster,
                    set,
                    Severity::Warning,
                    "FailedCreate",
                    format!("Error creating: {}", reason_text(&error)),
                );
            }
            Err(error)
        }
    }
}

/// Builds a pod from the set's template.
pub(super) fn build_pod(set: &ReplicaSet, name: &str) -> Pod {
    let template = set.spec.as_ref().and_then(|spec| spec.template.clone()).unwrap_or_default();
    let metadata = template.metadata.unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: set.metadata.namespace.clone(),
            labels: metadata.labels,
            annotations: metadata.annotations,
            finalizers: metadata.finalizers,
            owner_references: Some(vec![owners::controller_reference(set)]),
            generate_name: Some(super::names::stem(owners::name(&set.metadata))),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    }
}

pub(super) fn tell(cluster: &Cluster, set: &ReplicaSet, severity: Severity, reason: &str, message: String) {
    cluster.recorder.record(set.object_ref(&()), severity, reason, message);
}

/// Writes the status when it changed.
///
/// # Errors
/// A conflict when the set changed meanwhile; the next pass reports again.
pub(super) async fn report(cluster: &Cluster, set: &ReplicaSet, plan: &Plan, applied: &Applied) -> Result<()> {
    let mut status = plan.status.clone();
    let held_back = plan.held_back.clone().map(|message| ("FailedCreate", message));
    let failure = applied.failure.clone().or(held_back);
    set_failure(&mut status, failure, cluster.environment.now());
    let after = ReplicaSet { status: Some(status), ..set.clone() };
    match cluster.replica_sets.update(set, &after, Some("status")).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(error),
    }
}
