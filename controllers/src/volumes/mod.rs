//! Volumes: binds claims to volumes, makes volumes for claims, and reclaims them after.
//!
//! Owns `claimRef` and status of PersistentVolumes, `volumeName` and status of claims, and the two protection
//! finalizers. It never touches data: directories and Docker volumes are made and removed by the agent of their node,
//! which holds finalizer `drover.dev/volume` meanwhile. The scheduler asks for a volume on a node with an annotation.
//!
//! Keys with a namespace are claims, keys without are volumes.

pub mod claim;
pub mod edit;
pub mod matching;
pub mod names;
pub mod plan;
pub mod provision;
pub mod read;
pub mod topology;
pub mod volume;

mod apply;
mod wake;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use drover_api::restored::{Deletion, HELD_REASON};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};

use crate::manager::Context;
use crate::objects::owners;
use crate::runtime::{Cluster, Controller, Error, Index, ObjectKey, Outcome, Result, WorkQueue};
use plan::{Plan, Remark, VolumeAction};

/// Steps that one pass takes at most; the longest way there is takes three. What is left goes to the next pass.
const STEPS_MAX: usize = 8;

/// How soon to look again while a restore is not confirmed.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// Binds, provisions and reclaims.
#[derive(Debug)]
pub struct VolumesController {
    cluster: Cluster,
}

/// Builds the controller and registers what wakes it.
pub fn register(context: &Context, queue: &WorkQueue) -> Arc<dyn Controller> {
    let mut cluster = context.cluster.clone();
    cluster.recorder = cluster.recorder.signed("persistentvolume-controller");
    wake::register(&cluster, queue);
    Arc::new(VolumesController { cluster })
}

#[async_trait::async_trait]
impl Controller for VolumesController {
    fn name(&self) -> &'static str {
        "persistentvolume"
    }

    fn keys(&self) -> Vec<ObjectKey> {
        let mut keys = self.cluster.persistent_volume_claims.cache().keys();
        keys.extend(self.cluster.persistent_volumes.cache().keys());
        keys
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        self.cluster.persistent_volumes.caught_up().await?;
        self.cluster.persistent_volume_claims.caught_up().await?;
        if key.namespace.is_empty() {
            return match self.cluster.persistent_volumes.cache().get(key) {
                Some(volume) => self.settle_volume(volume).await,
                None => Ok(Outcome::DONE),
            };
        }
        match self.cluster.persistent_volume_claims.cache().get(key) {
            Some(claim) => self.settle_claim(claim).await,
            None => Ok(Outcome::DONE),
        }
    }
}

impl VolumesController {
    async fn settle_claim(&self, claim: Arc<PersistentVolumeClaim>) -> Result<Outcome> {
        let mut observed = self.observe_claim(claim).await?;
        for _ in 0..STEPS_MAX {
            let action = match claim::plan(&observed) {
                Plan::Act(action) => action,
                Plan::Wait(remark) => {
                    apply::tell_claim(&self.cluster, &observed, &remark);
                    break;
                }
                Plan::Settled => break,
            };
            match apply::claim(&self.cluster, observed, &action).await? {
                Some(after) => observed = after,
                None => break,
            }
        }
        Ok(Outcome::DONE)
    }

    async fn settle_volume(&self, volume: Arc<PersistentVolume>) -> Result<Outcome> {
        let mut observed = self.observe_volume(volume).await?;
        for _ in 0..STEPS_MAX {
            let action = match volume::plan(&observed) {
                Plan::Act(action) => action,
                Plan::Wait(remark) => {
                    apply::tell_volume(&self.cluster, &observed, &remark);
                    break;
                }
                Plan::Settled => break,
            };
            if matches!(action, VolumeAction::Delete { .. })
                && let Some(reason) = self.cluster.held_back(Deletion::Volume).await?
            {
                apply::tell_volume(&self.cluster, &observed, &Remark::warning(HELD_REASON, reason));
                return Ok(Outcome::after(Some(LOOK_AGAIN)));
            }
            match apply::volume(&self.cluster, observed, &action).await? {
                Some(after) => observed = after,
                None => break,
            }
        }
        Ok(Outcome::DONE)
    }

    async fn observe_claim(&self, claim: Arc<PersistentVolumeClaim>) -> Result<claim::Observed> {
        let volumes = match read::named_volume(&claim) {
            Some(name) => self.named_volume(name).await?.into_iter().collect(),
            None => self.cluster.persistent_volumes.cache().all(),
        };
        let class = self.cluster.storage_classes.cache().get(&ObjectKey::cluster(read::claim_class(&claim)));
        let nodes = self.cluster.nodes.cache().all();
        let users = self.users(&claim).await?;
        Ok(claim::Observed { claim, volumes, class, nodes, users })
    }

    /// Reads one volume; past the cache where it is missing, because a claim is told lost on no lesser word.
    async fn named_volume(&self, name: &str) -> Result<Option<Arc<PersistentVolume>>> {
        let key = ObjectKey::cluster(name);
        match self.cluster.persistent_volumes.cache().get(&key) {
            Some(volume) => Ok(Some(volume)),
            None => Ok(self.cluster.persistent_volumes.get_fresh(&key).await?.map(Arc::new)),
        }
    }

    /// Finds who uses a claim that is being deleted: the cache may say somebody does, only the server that nobody does.
    async fn users(&self, claim: &PersistentVolumeClaim) -> Result<Vec<String>> {
        if !owners::is_terminating(&claim.metadata) {
            return Ok(Vec::new());
        }
        let name = |pod: &k8s_openapi::api::core::v1::Pod| owners::name(&pod.metadata).to_owned();
        let cached = self.cluster.pods.cache().by_index(Index::Claim, &ObjectKey::of(claim).to_string());
        let cached: Vec<String> = cached.iter().filter(|pod| claim::uses(pod, claim)).map(|pod| name(pod)).collect();
        if !cached.is_empty() {
            return Ok(cached);
        }
        let fresh = self.cluster.pods.list_fresh(owners::namespace(&claim.metadata)).await?;
        Ok(fresh.iter().filter(|pod| claim::uses(pod, claim)).map(name).collect())
    }

    async fn observe_volume(&self, volume: Arc<PersistentVolume>) -> Result<volume::Observed> {
        let claim = self.claim_of(&volume).await?;
        Ok(volume::Observed { volume, claim, nodes: self.cluster.nodes.cache().all() })
    }

    /// Reads the claim a volume refers to; past the cache wherever the cache does not say that it still holds it.
    async fn claim_of(&self, volume: &PersistentVolume) -> Result<Option<Arc<PersistentVolumeClaim>>> {
        let Some(reference) = read::claim_ref(volume).filter(|reference| !read::ref_uid(reference).is_empty()) else {
            return Ok(None);
        };
        let claims = &self.cluster.persistent_volume_claims;
        let key = wake::claim_key(reference);
        let is_it = |claim: &PersistentVolumeClaim| owners::uid(&claim.metadata) == read::ref_uid(reference);
        let holds = |claim: &Arc<PersistentVolumeClaim>| {
            is_it(claim) && read::named_volume(claim).is_none_or(|named| named == owners::name(&volume.metadata))
        };
        if let Some(claim) = claims.cache().get(&key).filter(holds) {
            return Ok(Some(claim));
        }
        let named = !key.namespace.is_empty() && !key.name.is_empty();
        let fresh = if named { claims.get_fresh(&key).await?.map(Arc::new) } else { None };
        if fresh.as_deref().is_some_and(is_it) {
            return Ok(fresh);
        }
        // A reference edited by hand may have the right uid under a wrong name: that claim lives as well.
        Ok(claims.cache().all().into_iter().find(|claim| is_it(claim)).or(fresh))
    }
}
