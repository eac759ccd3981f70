//! Removes the data of volumes that are being deleted, on the node where it is.
//!
//! A volume's data goes only when the volume itself is on its way out, its claim is gone, its policy is Delete and the
//! storage carries its uid (faults V01); then the finalizer that kept the volume's object goes too. Every step finds
//! what an earlier one, cut short, has left.

use std::{path::PathBuf, sync::Arc, time::Duration};

use drover_api::restored::{Deletion, decide};
use k8s_openapi::api::core::v1::PersistentVolume;
use tokio_util::sync::CancellationToken;

use super::{
    api::{ApiFailure, VolumeApi},
    claims::{DockerStorage, LocalStorage, Location, is_on_node, locate, volume_labels},
    place::MemoryVolumes,
    problem::{Problem, blocking},
};
use crate::{chance::Chance, config::Owner, engine::Engine, source::Recorder};

/// Held while data may exist.
const FINALIZER: &str = "drover.dev/volume";
/// Held while a claim uses the volume; the controllers take it away.
const PROTECTION: &str = "kubernetes.io/pv-protection";
/// Between two tries, and between two looks without a change.
const RETRY_AFTER: Duration = Duration::from_secs(5);
const RESYNC_AFTER: Duration = Duration::from_secs(300);

/// What the removal of data needs.
#[derive(Debug, Clone)]
pub struct Reclaimer {
    /// The API.
    pub api: Arc<dyn VolumeApi>,
    /// The engine.
    pub engine: Arc<dyn Engine>,
    /// The agent's state; the volumes are in `volumes` below it.
    pub data_dir: PathBuf,
    /// Cluster and node.
    pub owner: Owner,
    /// Events.
    pub recorder: Recorder,
    /// Spreads the tries of many nodes.
    pub chance: Chance,
    /// Where the volumes of a simulated node are; `None` on a host.
    pub in_memory: Option<MemoryVolumes>,
}

/// What to do with a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Plan {
    /// Nothing of it concerns this node now.
    Leave,
    /// Its object may go; its data stays or was never here.
    Release,
    /// Its data goes first.
    Remove(Location),
}

/// Watches volumes until `shutdown` and removes data that is to go.
pub async fn run_reclaimer(reclaimer: Reclaimer, shutdown: CancellationToken) {
    let volumes = reclaimer.api.watch_volumes(shutdown.child_token());
    let mut changes = volumes.subscribe();
    let mut said: Option<String> = None;
    loop {
        let failed = reclaimer.pass(&volumes.list()).await;
        if let Some(message) = failed.as_ref().filter(|message| said.as_ref() != Some(message)) {
            tracing::warn!(message, "volume not reclaimed");
            reclaimer.recorder.node(&reclaimer.owner.node, true, "VolumeFailedDelete", message);
        }
        let wait = if failed.is_some() { RETRY_AFTER } else { RESYNC_AFTER };
        said = failed;
        // Cancel-safe: watches keep what they hold.
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(reclaimer.chance.spread(wait, 0.8, 1.2)) => {}
            changed = changes.changed() => if changed.is_err() { return },
        }
    }
}

fn plan(volume: &PersistentVolume, node: &str) -> Plan {
    let meta = &volume.metadata;
    let holds = |finalizer: &str| meta.finalizers.iter().flatten().any(|held| held == finalizer);
    let protected = holds(PROTECTION) && !drover_api::mutants::active("V01-data-goes-under-its-claim");
    if meta.deletion_timestamp.is_none() || !holds(FINALIZER) || protected || !is_on_node(volume, node) {
        return Plan::Leave;
    }
    let policy = volume.spec.as_ref().and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
    match locate(volume, node) {
        Ok(location @ (Location::Local { .. } | Location::Docker { .. })) if policy == Some("Delete") => {
            Plan::Remove(location)
        }
        Ok(_) | Err(_) => Plan::Release,
    }
}

impl Reclaimer {
    /// Reclaims what of these volumes is to go. Returns a sentence about the last that could not be.
    pub(super) async fn pass(&self, volumes: &[Arc<PersistentVolume>]) -> Option<String> {
        let mut failed = None;
        for volume in volumes {
            if plan(volume, &self.owner.node) == Plan::Leave {
                continue;
            }
            if let Err(problem) = self.reclaim(volume).await {
                let name = volume.metadata.name.as_deref().unwrap_or_default();
                failed = Some(format!("persistentvolume {name:?}: {}", problem.message));
            }
        }
        failed
    }

    /// Carries a plan out on the volume as it is now, not as it was seen.
    async fn reclaim(&self, seen: &PersistentVolume) -> Result<(), Problem> {
        let name = seen.metadata.name.clone().unwrap_or_default();
        let failed = |failure: ApiFailure| Problem::passing(failure.to_string());
        let Some(volume) = self.api.volume(&name).await.map_err(failed)? else { return Ok(()) };
        if volume.metadata.uid != seen.metadata.uid {
            return Ok(());
        }
        match plan(&volume, &self.owner.node) {
            Plan::Leave => return Ok(()),
            Plan::Release => {}
            Plan::Remove(location) => {
                if self.is_claimed(&volume).await? {
                    return Err(Problem::passing("its claim still exists"));
                }
                // The one thing here that cannot be undone, so the last thing to be asked.
                let restored = self.api.unconfirmed_restore().await.map_err(failed)?;
                if let Some(reason) = decide(restored.as_ref(), Deletion::VolumeData) {
                    return Err(Problem::passing(reason));
                }
                self.remove(&name, location).await?;
            }
        }
        let kept: Vec<String> =
            volume.metadata.finalizers.iter().flatten().filter(|held| *held != FINALIZER).cloned().collect();
        match self.api.set_finalizers(&volume, &kept).await {
            // The change brings the volume here again.
            Ok(()) | Err(ApiFailure::Changed) => Ok(()),
            Err(failure) => Err(failed(failure)),
        }
    }

    async fn is_claimed(&self, volume: &PersistentVolume) -> Result<bool, Problem> {
        let Some(claim) = volume.spec.as_ref().and_then(|spec| spec.claim_ref.clone()) else { return Ok(false) };
        let (namespace, name) = (claim.namespace.unwrap_or_default(), claim.name.unwrap_or_default());
        let found = self.api.claim(&namespace, &name).await;
        let found = found.map_err(|failure| Problem::passing(failure.to_string()))?;
        Ok(found.is_some_and(|found| found.metadata.uid == claim.uid))
    }

    async fn remove(&self, volume: &str, location: Location) -> Result<(), Problem> {
        match location {
            Location::Local { handle, uid, .. } => {
                let storage = LocalStorage::new(&self.data_dir.join("volumes"), &handle, &uid)?;
                if let Some(volumes) = &self.in_memory {
                    volumes.remove_local(&handle, &uid);
                    return Ok(());
                }
                blocking(move || storage.remove()).await
            }
            Location::Docker { name, uid, .. } => {
                let labels = volume_labels(&self.owner.cluster, volume, &uid);
                DockerStorage { engine: Arc::clone(&self.engine), name, labels }.remove().await
            }
            Location::Host { .. } => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn volume(change: impl FnOnce(&mut Value)) -> PersistentVolume {
        let mut value = json!({
            "metadata": { "name": "pv", "uid": "u", "deletionTimestamp": "2026-01-01T00:00:00Z",
                "finalizers": [FINALIZER] },
            "spec": {
                "persistentVolumeReclaimPolicy": "Delete",
                "csi": { "driver": "drover.dev/local", "volumeHandle": "pv" },
                "nodeAffinity": { "required": { "nodeSelectorTerms": [{ "matchExpressions": [
                    { "key": "kubernetes.io/hostname", "operator": "In", "values": ["n1"] }] }] } },
            },
        });
        change(&mut value);
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn data_goes_only_with_a_deleted_volume_of_this_node_that_nobody_protects() {
        let here = |change: fn(&mut Value)| plan(&volume(change), "n1");
        let location = Location::Local { handle: "pv".to_owned(), uid: "u".to_owned(), read_only: false };
        assert_eq!(here(|_| {}), Plan::Remove(location));
        assert_eq!(plan(&volume(|_| {}), "n2"), Plan::Leave);
        assert_eq!(here(|v| v["metadata"]["deletionTimestamp"] = Value::Null), Plan::Leave);
        assert_eq!(here(|v| v["metadata"]["finalizers"] = json!([])), Plan::Leave);
        assert_eq!(here(|v| v["metadata"]["finalizers"] = json!([FINALIZER, PROTECTION])), Plan::Leave);
        assert_eq!(here(|v| v["spec"]["nodeAffinity"] = Value::Null), Plan::Leave);
        assert_eq!(here(|v| v["spec"]["persistentVolumeReclaimPolicy"] = json!("Retain")), Plan::Release);
        assert_eq!(here(|v| v["spec"]["csi"]["driver"] = json!("other")), Plan::Release);
    }
}
