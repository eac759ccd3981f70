//! The container engine as the agent sees it.
//!
//! Owns the [`Engine`] trait, its Docker implementation, its in-memory fake, the image cache and the limits on calls in
//! flight. It decides nothing about pods. Every call has a deadline; every error has a class.

#[cfg(test)]
mod conformance;
mod docker;
mod error;
pub mod fake;
mod images;
mod limit;
mod types;

use std::{fmt, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

pub use docker::DockerEngine;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use docker::reads_answer;
pub use error::{EngineError, ErrorKind};
pub use images::ImageCache;
pub(crate) use images::{normalise, registry_of};
pub use limit::{Limiter, Permit};
pub use types::{
    AttachOptions, Attached, ContainerConfig, ContainerDetails, ContainerMount, ContainerPhase, ContainerStats,
    ContainerSummary, EngineEvent, EngineInfo, EventKind, ExecConfig, ExecState, ImageDetails, ImageSummary,
    LogOptions, OutputChunk, PullProgress, RegistryAuth, Resources, Security, VolumeDetails, VolumeRequest,
};

use crate::ids::ContainerId;

/// A call that does not answer within this time counts as hung (the slowest honest call, a start under load, stays
/// under 30 s on a busy two-core host).
pub const CALL_DEADLINE: Duration = Duration::from_secs(60);

/// What the agent needs from a container engine.
#[async_trait]
pub trait Engine: Send + Sync + fmt::Debug {
    /// Answers when the engine does, within a few seconds.
    async fn ping(&self) -> Result<(), EngineError>;

    /// Describes the engine and its host.
    async fn info(&self) -> Result<EngineInfo, EngineError>;

    /// Creates a container without starting it. [`ErrorKind::Conflict`] when the name is in use,
    /// [`ErrorKind::NoSuchImage`] when the image is absent.
    async fn create_container(&self, name: &str, config: &ContainerConfig) -> Result<ContainerId, EngineError>;

    /// Starts a created container; one that runs already is fine.
    async fn start_container(&self, id: &ContainerId) -> Result<(), EngineError>;

    /// Sends a signal (`SIGTERM`). [`ErrorKind::NotRunning`] when there is no process to signal.
    async fn kill_container(&self, id: &ContainerId, signal: &str) -> Result<(), EngineError>;

    /// Removes a container by force with its anonymous volumes; an unknown one is fine.
    async fn remove_container(&self, id: &ContainerId) -> Result<(), EngineError>;

    /// Lists containers in any state that carry all the given labels.
    async fn list_containers(&self, labels: &[(String, String)]) -> Result<Vec<ContainerSummary>, EngineError>;

    /// Describes one container, by id or name.
    async fn inspect_container(&self, id_or_name: &str) -> Result<ContainerDetails, EngineError>;

    /// Streams events from now on; it ends or errs when the engine goes away, and may lose events.
    fn events(&self) -> BoxStream<'static, Result<EngineEvent, EngineError>>;

    /// Pulls an image; the stream ends when it is there.
    fn pull_image(
        &self,
        image: &str,
        auth: Option<RegistryAuth>,
    ) -> BoxStream<'static, Result<PullProgress, EngineError>>;

    /// Describes one image. [`ErrorKind::NoSuchImage`] when it is absent.
    async fn inspect_image(&self, image: &str) -> Result<ImageDetails, EngineError>;

    /// Lists the images present.
    async fn list_images(&self) -> Result<Vec<ImageSummary>, EngineError>;

    /// Streams a container's output.
    fn logs(&self, id: &ContainerId, options: &LogOptions) -> BoxStream<'static, Result<OutputChunk, EngineError>>;

    /// Connects to the main process of a running container.
    async fn attach(&self, id: &ContainerId, options: &AttachOptions) -> Result<Attached, EngineError>;

    /// Resizes the terminal of a container.
    async fn resize_container(&self, id: &ContainerId, width: u16, height: u16) -> Result<(), EngineError>;

    /// Prepares a command in a running container and returns its exec id.
    async fn create_exec(&self, id: &ContainerId, config: &ExecConfig) -> Result<String, EngineError>;

    /// Runs a prepared command and connects to it.
    async fn start_exec(&self, exec: &str, tty: bool) -> Result<Attached, EngineError>;

    /// Resizes the terminal of a command.
    async fn resize_exec(&self, exec: &str, width: u16, height: u16) -> Result<(), EngineError>;

    /// Says whether a command still runs and how it ended.
    async fn inspect_exec(&self, exec: &str) -> Result<ExecState, EngineError>;

    /// Takes one sample of a container's use of resources.
    async fn stats(&self, id: &ContainerId) -> Result<ContainerStats, EngineError>;

    /// Makes a volume, or returns the one of that name.
    async fn create_volume(&self, request: &VolumeRequest) -> Result<VolumeDetails, EngineError>;

    /// Describes one volume.
    async fn inspect_volume(&self, name: &str) -> Result<VolumeDetails, EngineError>;

    /// Removes a volume; an unknown one is fine.
    async fn remove_volume(&self, name: &str) -> Result<(), EngineError>;
}

/// Runs a command without input to its end and returns its exit code and at most `output_bytes_max` of its output.
///
/// # Errors
/// Those of the exec calls; [`ErrorKind::Timeout`] after `deadline`, when the command may still run.
pub async fn run_exec(
    engine: &dyn Engine,
    id: &ContainerId,
    command: &[String],
    deadline: Duration,
    output_bytes_max: usize,
) -> Result<(i64, Bytes), EngineError> {
    use futures::StreamExt as _;

    let run = async {
        let config = ExecConfig { command: command.to_vec(), stdin: false, stdout: true, stderr: true, tty: false };
        let exec = engine.create_exec(id, &config).await?;
        let mut attached = engine.start_exec(&exec, false).await?;
        let mut output = Vec::new();
        while let Some(chunk) = attached.output.next().await {
            let bytes = chunk?.into_bytes();
            let room = output_bytes_max.saturating_sub(output.len());
            output.extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
        }
        // The output ends a moment before the engine has noted the exit code.
        loop {
            let state = engine.inspect_exec(&exec).await?;
            match state.exit_code {
                Some(code) if !state.running => return Ok((code, Bytes::from(output))),
                Some(_) | None => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    match tokio::time::timeout(deadline, run).await {
        Ok(result) => result,
        Err(_) => Err(EngineError::new(ErrorKind::Timeout, "exec", format!("command timed out after {deadline:?}"))),
    }
}
