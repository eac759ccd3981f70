//! [`NodeVolumes`]: the volumes of the pods of one node.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Pod, Volume};

use super::{
    api::VolumeApi,
    claims::Claims,
    content::{ContentVolume, PodContent, Sources},
    empty_dir,
    host_path::{self, Fence},
    kind::{Kind, classify},
    mounts,
    ownership::FsGroup,
    place::{MemoryVolumes, Place},
    problem::{Problem, blocking},
    sub_path, tree,
    watches::Watches,
};
use crate::{
    chance::Chance,
    clock::Clock,
    config::{ForbiddenPaths, Owner},
    engine::Engine,
    ids::PodUid,
    seams::{MountSource, PodFacts, PodVolumes, PreparedVolume, VolumeError},
    source::Recorder,
};

const VOLUMES: &str = "volumes";
const SUB_PATHS: &str = "subpaths";

/// What the volumes of a node need to know.
#[derive(Debug, Clone)]
pub struct VolumesConfig {
    /// State of the agent: persistent volumes are in `volumes` below it, and no pod mounts anything of it by path.
    pub data_dir: PathBuf,
    /// Where pods have their directories: `<data dir>/pods`.
    pub pods_dir: PathBuf,
    /// Where secrets are: `<run dir>/secrets`. A tmpfs is mounted there unless it is in memory already.
    pub memory_dir: PathBuf,
    /// Cluster and node.
    pub owner: Owner,
    /// What is never mounted, nor anything above it.
    pub forbidden: ForbiddenPaths,
    /// The node's cores, for resourceFieldRef without a limit.
    pub cpus: u64,
    /// The node's memory, likewise.
    pub memory_bytes: u64,
}

/// [`PodVolumes`] of one node.
#[derive(Debug)]
pub struct NodeVolumes {
    pods_dir: PathBuf,
    memory_dir: PathBuf,
    fence: Fence,
    claims: Claims,
    sources: Arc<Sources>,
    contents: Mutex<HashMap<PodUid, Arc<PodContent>>>,
    place: Place,
}

/// What the volumes of a node work with.
#[derive(Debug, Clone)]
pub struct VolumeTools {
    /// Objects that volumes are made from.
    pub api: Arc<dyn VolumeApi>,
    /// Holds volumes of its own.
    pub engine: Arc<dyn Engine>,
    /// The clock.
    pub clock: Clock,
    /// Spreads what is due at the same time.
    pub chance: Chance,
    /// Events.
    pub recorder: Recorder,
}

impl NodeVolumes {
    /// Prepares the node's directories; touches nothing that pods have there.
    ///
    /// # Errors
    /// When the directories cannot be made, or the memory directory cannot be kept in memory.
    pub fn new(config: VolumesConfig, tools: VolumeTools) -> io::Result<Self> {
        let make = |path: &Path, mode: u32| -> io::Result<PathBuf> {
            fs::DirBuilder::new().recursive(true).mode(mode).create(path)?;
            // The kernel names mounts by resolved paths.
            path.canonicalize()
        };
        let data_dir = make(&config.data_dir, 0o700)?;
        let pods_dir = make(&config.pods_dir, 0o750)?;
        let memory_dir = make(&config.memory_dir, 0o700)?;
        if !mounts::is_in_memory(&memory_dir) {
            mounts::ensure_tmpfs(&memory_dir, 0o700, None)?;
        }
        Ok(Self::with(VolumesConfig { data_dir, pods_dir, memory_dir, ..config }, tools, Place::Host))
    }

    /// The volumes of a simulated node: the same decisions and the same objects of the API, no file.
    pub fn in_memory(config: VolumesConfig, tools: VolumeTools, volumes: MemoryVolumes) -> Self {
        Self::with(config, tools, Place::Memory(volumes))
    }

    fn with(config: VolumesConfig, tools: VolumeTools, place: Place) -> Self {
        let VolumesConfig { data_dir, pods_dir, memory_dir, owner, forbidden, cpus, memory_bytes } = config;
        let VolumeTools { api, engine, clock, chance, recorder } = tools;
        let fence = Fence { forbidden, private: vec![data_dir.clone(), pods_dir.clone(), memory_dir.clone()] };
        let claims = Claims {
            api: Arc::clone(&api),
            engine,
            fence: fence.clone(),
            root: data_dir.join(VOLUMES),
            node: owner.node.clone(),
            cluster: owner.cluster,
            place: place.clone(),
        };
        let facts = PodFacts {
            node_name: owner.node,
            node_allocatable_cpu_cores: cpus,
            node_allocatable_memory_bytes: memory_bytes,
            ..Default::default()
        };
        let (for_maps, for_secrets) = (Arc::clone(&api), Arc::clone(&api));
        let config_maps = Watches::new(move |namespace, name, end| for_maps.watch_config_map(namespace, name, end));
        let secrets = Watches::new(move |namespace, name, end| for_secrets.watch_secret(namespace, name, end));
        let sources =
            Arc::new(Sources { api, config_maps, secrets, facts, clock, chance, recorder, place: place.clone() });
        Self { pods_dir, memory_dir, fence, claims, sources, contents: Mutex::default(), place }
    }

    fn pod_dir(&self, pod: &PodUid) -> PathBuf {
        self.pods_dir.join(pod.as_str())
    }

    /// Where one volume of a pod is.
    fn volume_dir(&self, pod: &PodUid, volume: &str, in_memory: bool) -> PathBuf {
        if in_memory {
            self.memory_dir.join(pod.as_str()).join(volume)
        } else {
            self.pod_dir(pod).join(VOLUMES).join(volume)
        }
    }

    /// The pod's content volumes, known from an earlier call or begun now.
    fn content(&self, uid: &PodUid, pod: &Arc<Pod>, volumes: Vec<ContentVolume>) -> Arc<PodContent> {
        let mut contents = self.contents.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = || Arc::new(PodContent::new(Arc::clone(&self.sources), Arc::clone(pod), volumes));
        Arc::clone(contents.entry(uid.clone()).or_insert_with(begin))
    }

    async fn prepare_one(
        &self,
        uid: &PodUid,
        pod: &Pod,
        volume: &Volume,
        kind: Kind,
    ) -> Result<PreparedVolume, Problem> {
        let group = FsGroup::of(pod);
        let (source, read_only) = match kind {
            Kind::EmptyDir { in_memory, size_bytes } => {
                // A tmpfs of its own has the size that was asked for; it is mounted beside the volumes on disk.
                let path = self.volume_dir(uid, &volume.name, false);
                let made = path.clone();
                if matches!(self.place, Place::Host) {
                    blocking(move || {
                        let made = empty_dir::ensure(&made, in_memory, size_bytes, group);
                        made.map_err(|error| Problem::io("cannot make the directory", &error))
                    })
                    .await?;
                }
                (MountSource::HostPath(path), false)
            }
            Kind::HostPath { path, .. } if matches!(self.place, Place::Memory(_)) => {
                (MountSource::HostPath(PathBuf::from(path)), false)
            }
            Kind::HostPath { path, check } => {
                let fence = self.fence.clone();
                let path = blocking(move || host_path::ensure(&fence, &path, &check)).await?;
                (MountSource::HostPath(path), false)
            }
            Kind::Content(content) => {
                (MountSource::HostPath(self.volume_dir(uid, &volume.name, content.in_memory)), true)
            }
            Kind::Claim { name, read_only } => {
                let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
                self.claims.ensure(namespace, &name, read_only, group).await?
            }
        };
        Ok(PreparedVolume { name: volume.name.clone(), source, read_only })
    }

    async fn make_pod_dirs(&self, pod: &PodUid) -> Result<(), Problem> {
        if let Place::Memory(volumes) = &self.place {
            volumes.make_pod(pod);
            return Ok(());
        }
        let (on_disk, in_memory) = (self.pod_dir(pod).join(VOLUMES), self.memory_dir.join(pod.as_str()));
        blocking(move || {
            let make = |path: &Path| fs::DirBuilder::new().recursive(true).mode(0o750).create(path);
            let made = make(&on_disk).and_then(|()| make(&in_memory));
            made.map_err(|error| Problem::io("cannot make the pod's directory", &error))
        })
        .await
    }
}

/// Reads the kinds of a pod's volumes, whose names become directories.
fn kinds(pod: &Pod) -> Result<Vec<(Volume, Kind)>, VolumeError> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let mut kinds = Vec::new();
    for volume in volumes {
        let name = &volume.name;
        let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') && (1..=63).contains(&name.len());
        let kind = if plain { classify(pod, volume) } else { Err(Problem::lasting("the name is not a DNS label")) };
        kinds.push((volume.clone(), kind.map_err(|problem| problem.of_volume(name))?));
    }
    Ok(kinds)
}

fn uid_of(pod: &Pod) -> Result<PodUid, VolumeError> {
    let uid = pod.metadata.uid.as_deref().and_then(PodUid::new);
    uid.ok_or_else(|| Problem::lasting("the pod has no uid").of_volume(""))
}

#[async_trait]
impl PodVolumes for NodeVolumes {
    async fn prepare(&self, pod: &Pod) -> Result<Vec<PreparedVolume>, VolumeError> {
        let (uid, kinds) = (uid_of(pod)?, kinds(pod)?);
        if kinds.is_empty() {
            return Ok(Vec::new());
        }
        self.make_pod_dirs(&uid).await.map_err(|problem| problem.of_volume("pod"))?;
        let contents: Vec<ContentVolume> = kinds
            .iter()
            .filter_map(|(volume, kind)| match kind {
                Kind::Content(content) => Some(ContentVolume {
                    name: volume.name.clone(),
                    content: content.clone(),
                    directory: self.volume_dir(&uid, &volume.name, content.in_memory),
                }),
                Kind::EmptyDir { .. } | Kind::HostPath { .. } | Kind::Claim { .. } => None,
            })
            .collect();
        if !contents.is_empty() {
            let pod = Arc::new(pod.clone());
            self.content(&uid, &pod, contents).ensure(pod).await?;
        }
        let mut prepared = Vec::new();
        for (volume, kind) in kinds {
            let result = self.prepare_one(&uid, pod, &volume, kind).await;
            prepared.push(result.map_err(|problem| problem.of_volume(&volume.name))?);
        }
        Ok(prepared)
    }

    async fn sub_path(
        &self,
        pod: &PodUid,
        volume: &PreparedVolume,
        sub_path: &str,
    ) -> Result<MountSource, VolumeError> {
        let failed = |problem: Problem| problem.of_volume(&volume.name);
        let root = match &volume.source {
            MountSource::HostPath(path) => path.clone(),
            MountSource::DockerVolume(name) => {
                let details = self.claims.engine.inspect_volume(name).await;
                let details = details.map_err(|error| failed(Problem::passing(error.message)))?;
                if details.mountpoint.is_empty() {
                    let message =
                        format!("subPath needs a volume with a path, and driver {:?} has none", details.driver);
                    return Err(failed(Problem::lasting(message)));
                }
                PathBuf::from(details.mountpoint)
            }
        };
        if matches!(self.place, Place::Memory(_)) {
            return Ok(MountSource::HostPath(root.join(sub_path)));
        }
        let mounts_dir = self.pod_dir(pod).join(SUB_PATHS).join(&volume.name);
        let (sub_path, read_only) = (sub_path.to_owned(), volume.read_only);
        let mounted = blocking(move || sub_path::ensure(&root, &sub_path, read_only, &mounts_dir)).await;
        mounted.map(MountSource::HostPath).map_err(failed)
    }

    async fn refresh(&self, pod: &Pod) -> Result<(), VolumeError> {
        let uid = uid_of(pod)?;
        let content = self.contents.lock().unwrap_or_else(PoisonError::into_inner).get(&uid).cloned();
        match content {
            Some(content) => content.ensure(Arc::new(pod.clone())).await,
            None => Ok(()),
        }
    }

    async fn remove(&self, pod: &PodUid) -> Result<(), VolumeError> {
        let content = self.contents.lock().unwrap_or_else(PoisonError::into_inner).remove(pod);
        if let Some(content) = content {
            content.stop().await;
        }
        if let Place::Memory(volumes) = &self.place {
            volumes.remove_pod(pod);
            return Ok(());
        }
        let (pod_dir, memory_dir, name) = (self.pod_dir(pod), self.memory_dir.clone(), pod.as_str().to_owned());
        let removed = blocking(move || {
            remove_pod(&pod_dir, &memory_dir, &name).map_err(|error| Problem::io("cannot remove the volumes", &error))
        });
        removed.await.map_err(|problem| VolumeError {
            reason: "FailedUnmount".to_owned(),
            message: problem.message,
            retry: problem.retry,
        })
    }

    async fn list(&self) -> Result<Vec<PodUid>, VolumeError> {
        if let Place::Memory(volumes) = &self.place {
            return Ok(volumes.pods());
        }
        let (pods_dir, memory_dir) = (self.pods_dir.clone(), self.memory_dir.clone());
        let listed = blocking(move || {
            let failed = |error: io::Error| Problem::io("cannot list volumes", &error);
            let mut uids = names(&memory_dir).map_err(failed)?;
            uids.extend(names(&pods_dir).map_err(failed)?.into_iter().filter(|name| {
                let dir = pods_dir.join(name);
                dir.join(VOLUMES).exists() || dir.join(SUB_PATHS).exists()
            }));
            Ok(uids.iter().filter_map(|name| PodUid::new(name)).collect())
        });
        listed.await.map_err(|problem| problem.of_volume(""))
    }
}

fn names(directory: &Path) -> io::Result<HashSet<String>> {
    let mut names = HashSet::new();
    for entry in fs::read_dir(directory)? {
        names.extend(entry?.file_name().into_string().ok());
    }
    Ok(names)
}

/// Takes our mounts away, then removes what is left, which by then is the pod's alone.
fn remove_pod(pod_dir: &Path, memory_dir: &Path, name: &str) -> io::Result<()> {
    if pod_dir.exists() {
        mounts::unmount_below(pod_dir)?;
        let top = tree::open_trusted(pod_dir)?;
        tree::remove(&top, SUB_PATHS)?;
        tree::remove(&top, VOLUMES)?;
    }
    tree::remove(tree::open_trusted(memory_dir)?, name)
}
