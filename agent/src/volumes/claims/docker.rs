//! Storage of driver `drover.dev/docker`: a volume of the engine, known by our labels.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use super::Storage;
use crate::{
    engine::{Engine, EngineError, ErrorKind, VolumeRequest},
    volumes::{
        host_path::{self, Fence},
        problem::Problem,
    },
};

/// The label with the uid of the PersistentVolume.
const PV_UID_LABEL: &str = "dev.drover.volume.uid";
const PV_NAME_LABEL: &str = "dev.drover.volume.name";
const CLUSTER_LABEL: &str = "dev.drover.cluster";

/// The labels of a volume's storage.
pub(in crate::volumes) fn volume_labels(cluster: &str, name: &str, uid: &str) -> BTreeMap<String, String> {
    let pairs = [(CLUSTER_LABEL, cluster), (PV_NAME_LABEL, name), (PV_UID_LABEL, uid)];
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// One volume of the engine.
#[derive(Debug, Clone)]
pub(in crate::volumes) struct DockerStorage {
    pub engine: Arc<dyn Engine>,
    pub name: String,
    /// Ours.
    pub labels: BTreeMap<String, String>,
}

impl DockerStorage {
    pub(in crate::volumes) async fn find(&self) -> Result<Storage, Problem> {
        match self.engine.inspect_volume(&self.name).await {
            Ok(found) if self.labels.iter().all(|(key, value)| found.labels.get(key) == Some(value)) => {
                Ok(Storage::Ours)
            }
            Ok(_) => Ok(Storage::Other(format!("docker volume {:?} was not made for it", self.name))),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(Storage::Absent),
            Err(error) => Err(self.failed(&error)),
        }
    }

    pub(in crate::volumes) async fn create(
        &self,
        driver: &str,
        options: &BTreeMap<String, String>,
    ) -> Result<(), Problem> {
        let request = VolumeRequest {
            name: self.name.clone(),
            driver: driver.to_owned(),
            options: options.clone(),
            labels: self.labels.clone(),
        };
        self.engine.create_volume(&request).await.map_err(|error| self.failed(&error))?;
        // Docker returns the volume of that name whoever made it: look again.
        match self.find().await? {
            Storage::Ours => Ok(()),
            Storage::Absent => Err(Problem::passing(format!("docker volume {:?} vanished", self.name))),
            Storage::Other(what) => Err(Problem::passing(what)),
        }
    }

    /// Removes the volume if it is ours. Repeating it is harmless.
    pub(in crate::volumes) async fn remove(&self) -> Result<(), Problem> {
        match self.find().await? {
            Storage::Absent => Ok(()),
            Storage::Ours => self.engine.remove_volume(&self.name).await.map_err(|error| self.failed(&error)),
            Storage::Other(what) => Err(Problem::passing(format!("its data is left alone: {what}"))),
        }
    }

    /// The built-in driver can bind any path of the host: the fence that hostPath has stands here too (faults A39).
    pub(in crate::volumes) fn check_options(
        &self,
        fence: &Fence,
        driver: &str,
        options: &BTreeMap<String, String>,
    ) -> Result<(), Problem> {
        let device = options.get("device").map(String::as_str).unwrap_or_default();
        if driver == "local" && Path::new(device).is_absolute() {
            host_path::check_only(fence, Path::new(device))?;
        }
        Ok(())
    }

    fn failed(&self, error: &EngineError) -> Problem {
        Problem::passing(format!("docker volume {:?}: {}", self.name, error.message))
    }
}
