//! Claims: from the claim to its volume and on to what is mounted.
//!
//! [`check_bound`], [`locate`] and [`decide`] are pure. A volume's first mount makes its storage and says so on the
//! volume (annotation `drover.dev/initialized`) before the pod starts; from then on storage that is missing or is
//! somebody else's is refused, for it can only be a mistake (faults V01, V03).

mod docker;
mod local;
mod locate;

use std::{path::PathBuf, sync::Arc};

use k8s_openapi::api::core::v1::PersistentVolume;

pub(super) use self::{
    docker::{DockerStorage, volume_labels},
    local::LocalStorage,
    locate::{Location, check_bound, is_on_node, locate},
};
use super::{
    api::{ApiFailure, VolumeApi},
    host_path::{self, Fence},
    ownership::FsGroup,
    place::Place,
    problem::{Problem, blocking},
};
use crate::{engine::Engine, seams::MountSource};

/// Set on a volume once its storage exists.
pub(super) const INITIALIZED: &str = "drover.dev/initialized";
/// How often a changed volume is read again before the life cycle's own retry takes over.
const TRIES: u32 = 3;

/// What a node needs to mount claims.
#[derive(Debug, Clone)]
pub(super) struct Claims {
    pub api: Arc<dyn VolumeApi>,
    pub engine: Arc<dyn Engine>,
    pub fence: Fence,
    /// `<data dir>/volumes`.
    pub root: PathBuf,
    pub node: String,
    pub cluster: String,
    pub place: Place,
}

/// What was found where a volume's storage should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Storage {
    Absent,
    /// It carries this volume's uid.
    Ours,
    /// It is there and is not this volume's; the words say what it is.
    Other(String),
}

/// What to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decision {
    Use,
    /// It exists; the volume does not say so yet.
    Mark,
    CreateAndMark,
    Refuse(String),
}

/// Decides what the first or a later mount does.
pub(super) fn decide(volume: &str, initialized: bool, found: &Storage) -> Decision {
    match (initialized, found) {
        (true, Storage::Ours) => Decision::Use,
        (false, Storage::Ours) => Decision::Mark,
        (true, Storage::Absent) if drover_api::mutants::active("V03-silently-empty") => Decision::CreateAndMark,
        (false, Storage::Absent) => Decision::CreateAndMark,
        (true, Storage::Absent) => Decision::Refuse(format!(
            "volume {volume:?} held data before, and its storage is gone from this node: it is not replaced by an \
             empty one"
        )),
        (_, Storage::Other(what)) => {
            Decision::Refuse(format!("the storage of volume {volume:?} is not its own: {what}"))
        }
    }
}

impl Claims {
    /// Makes a claim ready. Returns what to mount and whether only for reading.
    pub(super) async fn ensure(
        &self,
        namespace: &str,
        claim: &str,
        read_only: bool,
        group: Option<FsGroup>,
    ) -> Result<(MountSource, bool), Problem> {
        let mut last = ApiFailure::Changed;
        for _ in 0..TRIES {
            let volume = self.volume_of(namespace, claim).await?;
            let location = locate(&volume, &self.node)?;
            let read_only = read_only || location.read_only();
            match self.open(&volume, &location).await {
                Ok(source) => {
                    self.give(&location, &source, group.filter(|_| !read_only)).await?;
                    return Ok((source, read_only));
                }
                Err(Failure::Problem(problem)) => return Err(problem),
                // The volume changed between our read and our write: what it says now decides.
                Err(Failure::Api(ApiFailure::Changed)) => {}
                Err(Failure::Api(failure)) => last = failure,
            }
        }
        Err(Problem::passing(format!("cannot note on the volume of claim {claim:?} that it is in use: {last}")))
    }

    async fn volume_of(&self, namespace: &str, name: &str) -> Result<PersistentVolume, Problem> {
        let failed = |failure: ApiFailure| Problem::passing(format!("cannot read claim {name:?}: {failure}"));
        let claim = self.api.claim(namespace, name).await.map_err(failed)?;
        let claim = claim.ok_or_else(|| Problem::passing(format!("persistentvolumeclaim {name:?} not found")))?;
        let volume_name = claim.spec.as_ref().and_then(|spec| spec.volume_name.clone()).unwrap_or_default();
        let volume = match volume_name.as_str() {
            "" => None,
            volume_name => self.api.volume(volume_name).await.map_err(failed)?,
        };
        check_bound(&claim, volume.as_ref())?;
        volume.ok_or_else(|| Problem::passing(format!("persistentvolume {volume_name:?} not found")))
    }

    async fn open(&self, volume: &PersistentVolume, location: &Location) -> Result<MountSource, Failure> {
        match location {
            Location::Host { path, .. } if !matches!(self.place, Place::Host) => {
                Ok(MountSource::HostPath(PathBuf::from(path)))
            }
            Location::Host { path, check, .. } => {
                let (fence, path, check) = (self.fence.clone(), path.clone(), check.clone());
                let found = blocking(move || host_path::ensure(&fence, &path, &check)).await?;
                Ok(MountSource::HostPath(found))
            }
            Location::Local { handle, uid, .. } => {
                let storage = LocalStorage::new(&self.root, handle, uid)?;
                if let Place::Memory(volumes) = &self.place {
                    let found = volumes.find_local(handle, uid);
                    let decision = decide(&name_of(volume), is_initialized(volume), &found);
                    let create = || async {
                        volumes.create_local(handle, uid);
                        Ok(())
                    };
                    self.carry_out(volume, decision, create).await?;
                    return Ok(MountSource::HostPath(storage.data()));
                }
                let (decision, storage) = blocking({
                    let (name, initialized) = (name_of(volume), is_initialized(volume));
                    move || Ok((decide(&name, initialized, &storage.find()?), storage))
                })
                .await?;
                let path = storage.data();
                let create = move || blocking(move || storage.create());
                self.carry_out(volume, decision, create).await?;
                Ok(MountSource::HostPath(path))
            }
            Location::Docker { name, uid, driver, options, shared, .. } => {
                let labels = volume_labels(&self.cluster, &name_of(volume), uid);
                let storage = DockerStorage { engine: Arc::clone(&self.engine), name: name.clone(), labels };
                storage.check_options(&self.fence, driver, options)?;
                // A shared volume's data is not on any node, so each node's first mount makes a way to it.
                let initialized = is_initialized(volume) && !shared;
                let decision = decide(&name_of(volume), initialized, &storage.find().await?);
                let create = || async { storage.create(driver, options).await };
                self.carry_out(volume, decision, create).await?;
                Ok(MountSource::DockerVolume(name.clone()))
            }
        }
    }

    async fn carry_out<F>(
        &self,
        volume: &PersistentVolume,
        decision: Decision,
        create: impl FnOnce() -> F,
    ) -> Result<(), Failure>
    where
        F: Future<Output = Result<(), Problem>>,
    {
        match decision {
            Decision::Use => return Ok(()),
            Decision::Refuse(message) => return Err(Failure::Problem(Problem::passing(message))),
            Decision::CreateAndMark => create().await?,
            Decision::Mark => {}
        }
        self.api.annotate(volume, INITIALIZED, "true").await.map_err(Failure::Api)
    }

    /// Applies `fsGroup` where the storage is a directory for this purpose; a path of the host keeps its owners.
    async fn give(&self, location: &Location, source: &MountSource, group: Option<FsGroup>) -> Result<(), Problem> {
        let takes = location.takes_fs_group() && matches!(self.place, Place::Host);
        let (Some(group), true) = (group, takes) else { return Ok(()) };
        let path = match source {
            MountSource::HostPath(path) => path.clone(),
            MountSource::DockerVolume(name) => {
                let details = self.engine.inspect_volume(name).await;
                let details = details.map_err(|error| Problem::passing(format!("docker volume {name}: {error}")))?;
                if details.driver != "local" || details.mountpoint.is_empty() {
                    return Ok(());
                }
                PathBuf::from(details.mountpoint)
            }
        };
        blocking(move || group.apply(&path).map_err(|error| Problem::io("fsGroup", &error))).await
    }
}

fn name_of(volume: &PersistentVolume) -> String {
    volume.metadata.name.clone().unwrap_or_default()
}

fn is_initialized(volume: &PersistentVolume) -> bool {
    let annotations = volume.metadata.annotations.as_ref();
    annotations.and_then(|annotations| annotations.get(INITIALIZED)).is_some_and(|value| value == "true")
}

#[derive(Debug)]
enum Failure {
    Problem(Problem),
    Api(ApiFailure),
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn storage_is_made_once_and_never_replaced() {
        let other = || Storage::Other("x".to_owned());
        assert_eq!(decide("v", false, &Storage::Absent), Decision::CreateAndMark);
        assert_eq!(decide("v", false, &Storage::Ours), Decision::Mark);
        assert_eq!(decide("v", true, &Storage::Ours), Decision::Use);
        for (initialized, found) in [(true, Storage::Absent), (true, other()), (false, other())] {
            assert!(matches!(decide("v", initialized, &found), Decision::Refuse(_)), "{initialized} {found:?}");
        }
    }
}
