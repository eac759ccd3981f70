//! Carries out a Deployment's plan and reports what came of it. Decides nothing.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec};
use kube::Resource as _;
use kube::api::ObjectMeta;
use serde_json::{Value, json};

use super::plan::{Action, Plan};
use super::revision::{HASH_LABEL, REVISION};
use super::status::note_create_failure;
use crate::objects::owners;
use crate::runtime::error::reason_text;
use crate::runtime::events::Severity;
use crate::runtime::resource::DeleteOptions;
use crate::runtime::{Cluster, Error, ObjectKey, Result};

/// What came of a plan.
#[derive(Debug, Default)]
pub(super) struct Applied {
    /// Why the current ReplicaSet could not be created, in the API's words.
    create_failure: Option<String>,
    first_error: Option<Error>,
    /// The Deployment after the revision was noted on it: the precondition of the status write.
    deployment: Option<Deployment>,
}

/// Carries out a plan; goes on past the failure of one write, for each carries its own precondition.
pub(super) async fn apply(cluster: &Cluster, deployment: &Deployment, plan: &Plan) -> Applied {
    let mut applied = Applied::default();
    if let Err(error) = change_ownership(cluster, deployment, &plan.ownership).await {
        applied.first_error = Some(error);
        return applied;
    }
    for action in &plan.actions {
        let result = apply_action(cluster, deployment, action, &mut applied.deployment).await;
        let Err(error) = result else { continue };
        if matches!(action, Action::Create { .. }) && !error.is_already_exists() && !error.is_namespace_terminating() {
            applied.create_failure = Some(reason_text(&error));
        }
        applied.first_error.get_or_insert(error);
        if matches!(action, Action::Create { .. }) {
            // The rest of the plan counts on the set that could not be made.
            break;
        }
    }
    applied
}

async fn change_ownership(cluster: &Cluster, deployment: &Deployment, actions: &[Action]) -> Result<()> {
    if actions.is_empty() {
        return Ok(());
    }
    let fresh = cluster.deployments.get_fresh(&ObjectKey::of(deployment)).await?;
    let same = fresh
        .is_some_and(|fresh| fresh.metadata.uid == deployment.metadata.uid && !owners::is_terminating(&fresh.metadata));
    if !same {
        return Ok(());
    }
    for action in actions {
        apply_action(cluster, deployment, action, &mut None).await?;
    }
    Ok(())
}

async fn apply_action(
    cluster: &Cluster,
    deployment: &Deployment,
    action: &Action,
    written: &mut Option<Deployment>,
) -> Result<()> {
    let namespace = owners::namespace(&deployment.metadata);
    match action {
        Action::Adopt { replica_set, uid } => set_owner(cluster, deployment, replica_set, uid, true).await,
        Action::Release { replica_set, uid } => set_owner(cluster, deployment, replica_set, uid, false).await,
        Action::Create { replica_set, replicas, .. } => {
            cluster.replica_sets.create(&build_replica_set(deployment, action)).await?;
            tell_scaled(cluster, deployment, replica_set, 0, *replicas);
            Ok(())
        }
        Action::Update { replica_set, uid, replicas, annotations, min_ready_seconds } => {
            let Some(set) = cached(cluster, deployment, replica_set, uid) else { return Ok(()) };
            let mut spec = serde_json::Map::new();
            if let Some((_, to)) = replicas {
                spec.insert("replicas".to_owned(), json!(to));
            }
            if let Some(seconds) = min_ready_seconds {
                spec.insert("minReadySeconds".to_owned(), json!(seconds));
            }
            let patch = json!({"metadata": {"annotations": annotations}, "spec": Value::Object(spec)});
            cluster.replica_sets.patch(&set, patch, None).await?;
            if let Some((from, to)) = replicas {
                tell_scaled(cluster, deployment, replica_set, *from, *to);
            }
            Ok(())
        }
        Action::Delete { replica_set, uid } => {
            let Some(set) = cached(cluster, deployment, replica_set, uid) else { return Ok(()) };
            let resource_version = set.metadata.resource_version.clone();
            let options = DeleteOptions { resource_version, ..DeleteOptions::uid(uid) };
            cluster.replica_sets.delete(&ObjectKey::new(namespace, replica_set), &options).await
        }
        Action::SetRevision { revision } => {
            let patch = json!({"metadata": {"annotations": {REVISION: revision.to_string()}}});
            *written = Some(cluster.deployments.patch(deployment, patch, None).await?);
            Ok(())
        }
    }
}

fn cached(cluster: &Cluster, deployment: &Deployment, name: &str, uid: &str) -> Option<std::sync::Arc<ReplicaSet>> {
    let key = ObjectKey::new(owners::namespace(&deployment.metadata), name);
    cluster.replica_sets.cache().get(&key).filter(|set| owners::uid(&set.metadata) == uid)
}

async fn set_owner(cluster: &Cluster, deployment: &Deployment, name: &str, uid: &str, owned: bool) -> Result<()> {
    let Some(set) = cached(cluster, deployment, name, uid) else { return Ok(()) };
    let mut references = set.metadata.owner_references.clone().unwrap_or_default();
    references.retain(|owner| owner.uid != owners::uid(&deployment.metadata));
    if owned {
        references.push(owners::controller_reference(deployment));
    }
    cluster.replica_sets.patch(&set, json!({"metadata": {"ownerReferences": references}}), None).await.map(drop)
}

/// Builds the ReplicaSet of the Deployment's current template.
fn build_replica_set(deployment: &Deployment, action: &Action) -> ReplicaSet {
    let Action::Create { replica_set, hash, replicas, annotations } = action else { return ReplicaSet::default() };
    let spec = deployment.spec.clone().unwrap_or_default();
    let mut template = spec.template;
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(HASH_LABEL.to_owned(), hash.clone());
    let labels = labels.clone();
    let mut selector = spec.selector;
    selector.match_labels.get_or_insert_default().insert(HASH_LABEL.to_owned(), hash.clone());
    ReplicaSet {
        metadata: ObjectMeta {
            name: Some(replica_set.clone()),
            namespace: deployment.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: Some(annotations.clone()),
            owner_references: Some(vec![owners::controller_reference(deployment)]),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(*replicas),
            min_ready_seconds: spec.min_ready_seconds,
            selector,
            template: Some(template),
        }),
        status: None,
    }
}

fn tell_scaled(cluster: &Cluster, deployment: &Deployment, set: &str, from: i32, to: i32) {
    let direction = if to >= from { "up" } else { "down" };
    let message = format!("Scaled {direction} replica set {set} from {from} to {to}");
    cluster.recorder.record(deployment.object_ref(&()), Severity::Normal, "ScalingReplicaSet", message);
}

/// Writes the status when it changed, then gives back the first failure of the pass.
///
/// # Errors
/// The first failure of [`apply`], or else that of the status write.
pub(super) async fn report(cluster: &Cluster, deployment: &Deployment, plan: &Plan, applied: Applied) -> Result<()> {
    let mut status = plan.status.clone();
    if let Some(message) = applied.create_failure {
        let text = format!("Failed to create new replica set: {message}");
        cluster.recorder.record(deployment.object_ref(&()), Severity::Warning, "ReplicaSetCreateError", text.clone());
        note_create_failure(&mut status, text, cluster.environment.now());
    }
    let before = applied.deployment.as_ref().unwrap_or(deployment);
    let after = Deployment { status: Some(status), ..before.clone() };
    let reported = cluster.deployments.update(before, &after, Some("status")).await;
    match (applied.first_error, reported) {
        (Some(error), _) => Err(error),
        (None, Err(error)) if !error.is_not_found() => Err(error),
        (None, _) => Ok(()),
    }
}
