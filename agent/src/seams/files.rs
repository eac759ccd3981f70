//! The files that a pod has on its host, as the life cycle sees them.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Container, Pod};

use super::Sandbox;

/// Writes what is bound into containers and reads what they leave behind.
#[async_trait]
pub trait PodFiles: Send + Sync + fmt::Debug {
    /// Writes hosts, resolv.conf, hostname and an empty termination log for one attempt, and returns each with its place
    /// in the container.
    async fn write(&self, request: &FilesRequest<'_>) -> io::Result<Vec<(PathBuf, String)>>;

    /// What a container wrote to its termination log; `None` when there is no such file.
    async fn last_words(&self, log: &Path) -> Option<Vec<u8>>;

    /// Removes a pod's directory. One that is not there is fine.
    async fn remove(&self, pod_dir: &Path) -> io::Result<()>;
}

/// What the files of an attempt are made from.
#[derive(Debug, Clone, Copy)]
pub struct FilesRequest<'a> {
    /// The pod's directory.
    pub pod_dir: &'a Path,
    /// The pod.
    pub pod: &'a Pod,
    /// The container.
    pub container: &'a Container,
    /// Where its last words go.
    pub termination_log: &'a Path,
    /// The pod's name space; `None` under hostNetwork.
    pub sandbox: Option<&'a Sandbox>,
}

impl FilesRequest<'_> {
    /// Where the termination log is in the container.
    pub fn termination_target(&self) -> String {
        let given = self.container.termination_message_path.clone();
        given.unwrap_or_else(|| "/dev/termination-log".to_owned())
    }
}
