//! [`Engine`] over Docker's API, through bollard.
//!
//! Owns the connection, deadlines and the limits on calls in flight; [`convert`] translates values and [`classify`]
//! errors. It connects on first use, so that an engine that is down at start is an error of each call and no more.

mod classify;
mod convert;
mod images;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use convert::reads_answer;
use std::{future::Future, pin::Pin, time::Duration};

use async_trait::async_trait;
use bollard::{
    Docker,
    container::LogOutput,
    exec::{StartExecOptions, StartExecResults},
    models::{ExecConfig as DockerExecConfig, VolumeCreateRequest},
    query_parameters::{
        AttachContainerOptions, CreateContainerOptions, EventsOptions, KillContainerOptions, ListContainersOptions,
        ListImagesOptions, LogsOptions, RemoveContainerOptions, RemoveVolumeOptions, ResizeContainerTTYOptions,
        ResizeExecOptions, StatsOptions,
    },
};
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream::BoxStream};
use tokio::sync::OnceCell;

use self::classify::engine_error;
use super::{
    AttachOptions, Attached, CALL_DEADLINE, ContainerConfig, ContainerDetails, ContainerStats, ContainerSummary,
    Engine, EngineError, EngineEvent, EngineInfo, ErrorKind, ExecConfig, ExecState, ImageDetails, ImageSummary,
    Limiter, LogOptions, OutputChunk, PullProgress, RegistryAuth, VolumeDetails, VolumeRequest,
};
use crate::ids::ContainerId;

/// A healthy engine answers cheap questions well within this time even under load.
const QUICK_DEADLINE: Duration = Duration::from_secs(10);
/// Calls in flight at the beginning: where one engine on two cores is fastest (performance.md).
const WINDOW_START: u32 = 8;

/// A Docker Engine.
#[derive(Debug)]
pub struct DockerEngine {
    endpoint: String,
    connection: OnceCell<Docker>,
    starts: Limiter,
    removals: Limiter,
}

impl DockerEngine {
    /// An engine at `unix:///path`, `http://host:port` or `tcp://host:port`; connects on first use.
    pub fn new(endpoint: &str) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
            connection: OnceCell::new(),
            starts: Limiter::new(WINDOW_START),
            removals: Limiter::new(WINDOW_START),
        }
    }

    /// Returns the connection, for what only the network needs of Docker: registering a runtime.
    ///
    /// # Errors
    /// When the engine cannot be reached.
    pub async fn connection(&self) -> Result<Docker, EngineError> {
        self.docker().await.cloned()
    }

    async fn docker(&self) -> Result<&Docker, EngineError> {
        self.connection.get_or_try_init(|| connect(&self.endpoint)).await
    }

    async fn call<T, F, Fut>(&self, operation: &'static str, deadline: Duration, call: F) -> Result<T, EngineError>
    where
        F: FnOnce(Docker) -> Fut,
        Fut: Future<Output = Result<T, bollard::errors::Error>>,
    {
        let answer = async {
            let docker = self.docker().await?.clone();
            call(docker).await.map_err(|error| engine_error(operation, &error))
        };
        match tokio::time::timeout(deadline, answer).await {
            Ok(result) => result,
            Err(_) => {
                let message = format!("the engine did not answer within {} s", deadline.as_secs());
                Err(EngineError::new(ErrorKind::Timeout, operation, message))
            }
        }
    }

    /// A stream whose request is made on first poll, connection included.
    fn stream<T, S, F>(&self, operation: &'static str, open: F) -> BoxStream<'static, Result<T, EngineError>>
    where
        T: Send + 'static,
        S: Stream<Item = Result<T, bollard::errors::Error>> + Send + 'static,
        F: FnOnce(Docker) -> S + Send + 'static,
    {
        let connected = self.connection.get().cloned();
        let endpoint = self.endpoint.clone();
        let stream = async move {
            let docker = match connected {
                Some(docker) => docker,
                None => connect(&endpoint).await?,
            };
            Ok(open(docker).map_err(move |error| engine_error(operation, &error)))
        };
        futures::stream::once(stream).try_flatten().boxed()
    }
}

async fn connect(endpoint: &str) -> Result<Docker, EngineError> {
    let unavailable = |error: &bollard::errors::Error| engine_error("connect", error);
    let seconds = CALL_DEADLINE.as_secs() * 2;
    let version = bollard::API_DEFAULT_VERSION;
    let docker = match endpoint.strip_prefix("unix://") {
        Some(path) => Docker::connect_with_unix(path, seconds, version),
        None => Docker::connect_with_http(endpoint, seconds, version),
    }
    .map_err(|error| unavailable(&error))?;
    match tokio::time::timeout(QUICK_DEADLINE, docker.negotiate_version()).await {
        Ok(docker) => docker.map_err(|error| unavailable(&error)),
        Err(_) => Err(EngineError::new(ErrorKind::Timeout, "connect", "the engine does not answer")),
    }
}

#[async_trait]
impl Engine for DockerEngine {
    async fn ping(&self) -> Result<(), EngineError> {
        self.call("ping", Duration::from_secs(4), |docker| async move { docker.ping().await }).await.map(|_| ())
    }

    async fn info(&self) -> Result<EngineInfo, EngineError> {
        self.call("info", QUICK_DEADLINE, |docker| async move { docker.info().await }).await.map(convert::info)
    }

    async fn create_container(&self, name: &str, config: &ContainerConfig) -> Result<ContainerId, EngineError> {
        let permit = self.starts.acquire().await;
        let options = CreateContainerOptions { name: Some(name.to_owned()), ..Default::default() };
        let body = convert::create_body(config);
        let call = |docker: Docker| async move { docker.create_container(Some(options), body).await };
        let result = self.call("create", CALL_DEADLINE, call).await;
        permit.done(kept_up(&result));
        convert::container_id(&result?.id)
    }

    async fn start_container(&self, id: &ContainerId) -> Result<(), EngineError> {
        let permit = self.starts.acquire().await;
        let id = id.clone();
        let call = |docker: Docker| async move { docker.start_container(id.as_str(), None).await };
        let result = self.call("start", CALL_DEADLINE, call).await;
        permit.done(kept_up(&result));
        result
    }

    async fn kill_container(&self, id: &ContainerId, signal: &str) -> Result<(), EngineError> {
        let (id, options) = (id.clone(), KillContainerOptions { signal: signal.to_owned() });
        let call = |docker: Docker| async move { docker.kill_container(id.as_str(), Some(options)).await };
        self.call("kill", CALL_DEADLINE, call).await
    }

    async fn remove_container(&self, id: &ContainerId) -> Result<(), EngineError> {
        let permit = self.removals.acquire().await;
        let id = id.clone();
        let options = RemoveContainerOptions { v: true, force: true, link: false };
        let call = |docker: Docker| async move { docker.remove_container(id.as_str(), Some(options)).await };
        let result = self.call("remove", CALL_DEADLINE, call).await;
        permit.done(kept_up(&result));
        match result {
            Err(error) if error.kind == ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    async fn list_containers(&self, labels: &[(String, String)]) -> Result<Vec<ContainerSummary>, EngineError> {
        let filter: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let filters = Some([("label".to_owned(), filter)].into());
        let options = ListContainersOptions { all: true, filters, ..Default::default() };
        let call = |docker: Docker| async move { docker.list_containers(Some(options)).await };
        let containers = self.call("list", QUICK_DEADLINE * 2, call).await?;
        Ok(containers.into_iter().filter_map(convert::container_summary).collect())
    }

    async fn inspect_container(&self, id_or_name: &str) -> Result<ContainerDetails, EngineError> {
        let name = id_or_name.to_owned();
        let call = |docker: Docker| async move { docker.inspect_container(&name, None).await };
        let details = self.call("inspect", QUICK_DEADLINE * 2, call).await?;
        convert::container_details(details)
            .ok_or_else(|| EngineError::new(ErrorKind::Failed, "inspect", "the engine's answer lacks an id"))
    }

    fn events(&self) -> BoxStream<'static, Result<EngineEvent, EngineError>> {
        let types = vec!["container".to_owned(), "image".to_owned()];
        // The request goes out when the stream is first polled; `since` closes the gap until then.
        let now = jiff::Timestamp::now();
        let since = format!("{}.{:09}", now.as_second(), now.subsec_nanosecond());
        let filters = Some([("type".to_owned(), types)].into());
        let options = EventsOptions { since: Some(since), until: None, filters };
        let messages = self.stream("events", move |docker| docker.events(Some(options)));
        messages.try_filter_map(|message| async move { Ok(convert::event(message)) }).boxed()
    }

    fn pull_image(
        &self,
        image: &str,
        auth: Option<RegistryAuth>,
    ) -> BoxStream<'static, Result<PullProgress, EngineError>> {
        let (options, credentials) = (images::pull_options(image), images::credentials(auth));
        let lines = self.stream("pull", move |docker| docker.create_image(Some(options), None, credentials));
        lines.and_then(|line| async move { images::progress(line) }).boxed()
    }

    async fn inspect_image(&self, image: &str) -> Result<ImageDetails, EngineError> {
        let name = image.to_owned();
        let call = |docker: Docker| async move { docker.inspect_image(&name).await };
        match self.call("inspect image", QUICK_DEADLINE, call).await {
            Ok(details) => Ok(images::details(details)),
            Err(error) if error.kind == ErrorKind::NotFound => {
                Err(EngineError { kind: ErrorKind::NoSuchImage, ..error })
            }
            Err(error) => Err(error),
        }
    }

    async fn list_images(&self) -> Result<Vec<ImageSummary>, EngineError> {
        let options = ListImagesOptions { all: false, digests: true, ..Default::default() };
        let call = |docker: Docker| async move { docker.list_images(Some(options)).await };
        let listed = self.call("list images", QUICK_DEADLINE * 2, call).await?;
        Ok(listed.into_iter().map(images::summary).collect())
    }

    fn logs(&self, id: &ContainerId, options: &LogOptions) -> BoxStream<'static, Result<OutputChunk, EngineError>> {
        let tail = options.tail_lines.map_or_else(|| "all".to_owned(), |lines| lines.to_string());
        let since = options.since.map_or(0, |at| i32::try_from(at.as_second()).unwrap_or(0));
        let query = LogsOptions {
            follow: options.follow,
            stdout: true,
            stderr: true,
            since,
            until: 0,
            timestamps: options.timestamps,
            tail,
        };
        let id = id.clone();
        self.stream("logs", move |docker| docker.logs(id.as_str(), Some(query)).map_ok(convert::output)).boxed()
    }

    async fn attach(&self, id: &ContainerId, options: &AttachOptions) -> Result<Attached, EngineError> {
        let query = AttachContainerOptions {
            detach_keys: None,
            logs: false,
            stream: true,
            stdin: options.stdin,
            stdout: options.stdout,
            stderr: options.stderr,
        };
        let id = id.clone();
        let call = |docker: Docker| async move { docker.attach_container(id.as_str(), Some(query)).await };
        let attached = self.call("attach", QUICK_DEADLINE, call).await?;
        Ok(Attached { output: output_stream("attach", attached.output), input: attached.input })
    }

    async fn resize_container(&self, id: &ContainerId, width: u16, height: u16) -> Result<(), EngineError> {
        let (id, query) = (id.clone(), ResizeContainerTTYOptions { w: i32::from(width), h: i32::from(height) });
        let call = |docker: Docker| async move { docker.resize_container_tty(id.as_str(), query).await };
        self.call("resize", QUICK_DEADLINE, call).await
    }

    async fn create_exec(&self, id: &ContainerId, config: &ExecConfig) -> Result<String, EngineError> {
        let body = DockerExecConfig {
            attach_stdin: Some(config.stdin),
            attach_stdout: Some(config.stdout),
            attach_stderr: Some(config.stderr),
            tty: Some(config.tty),
            cmd: Some(config.command.clone()),
            ..Default::default()
        };
        let id = id.clone();
        let call = |docker: Docker| async move { docker.create_exec(id.as_str(), body).await };
        Ok(self.call("exec", QUICK_DEADLINE, call).await?.id)
    }

    async fn start_exec(&self, exec: &str, tty: bool) -> Result<Attached, EngineError> {
        let (exec, options) = (exec.to_owned(), StartExecOptions { detach: false, tty, output_capacity: None });
        let call = |docker: Docker| async move { docker.start_exec(&exec, Some(options)).await };
        match self.call("exec", QUICK_DEADLINE * 3, call).await? {
            StartExecResults::Attached { output, input } => {
                Ok(Attached { output: output_stream("exec", output), input })
            }
            StartExecResults::Detached => {
                Err(EngineError::new(ErrorKind::Failed, "exec", "the engine did not attach the command"))
            }
        }
    }

    async fn resize_exec(&self, exec: &str, width: u16, height: u16) -> Result<(), EngineError> {
        let (exec, query) = (exec.to_owned(), ResizeExecOptions { w: i32::from(width), h: i32::from(height) });
        let call = |docker: Docker| async move { docker.resize_exec(&exec, query).await };
        self.call("resize", QUICK_DEADLINE, call).await
    }

    async fn inspect_exec(&self, exec: &str) -> Result<ExecState, EngineError> {
        let exec = exec.to_owned();
        let call = |docker: Docker| async move { docker.inspect_exec(&exec).await };
        let state = self.call("exec", QUICK_DEADLINE, call).await?;
        Ok(ExecState { running: state.running.unwrap_or(false), exit_code: state.exit_code })
    }

    async fn stats(&self, id: &ContainerId) -> Result<ContainerStats, EngineError> {
        let (id, query) = (id.clone(), StatsOptions { stream: false, one_shot: true });
        let call = |docker: Docker| async move {
            let mut samples = Box::pin(docker.stats(id.as_str(), Some(query)));
            samples.try_next().await
        };
        let sample = self.call("stats", QUICK_DEADLINE, call).await?;
        Ok(sample.map(|sample| convert::stats(&sample)).unwrap_or_default())
    }

    async fn create_volume(&self, request: &VolumeRequest) -> Result<VolumeDetails, EngineError> {
        let body = VolumeCreateRequest {
            name: Some(request.name.clone()),
            driver: Some(request.driver.clone()),
            driver_opts: Some(request.options.clone().into_iter().collect()),
            labels: Some(request.labels.clone().into_iter().collect()),
            ..Default::default()
        };
        let call = |docker: Docker| async move { docker.create_volume(body).await };
        self.call("create volume", CALL_DEADLINE, call).await.map(convert::volume)
    }

    async fn inspect_volume(&self, name: &str) -> Result<VolumeDetails, EngineError> {
        let name = name.to_owned();
        let call = |docker: Docker| async move { docker.inspect_volume(&name).await };
        self.call("inspect volume", QUICK_DEADLINE, call).await.map(convert::volume)
    }

    async fn remove_volume(&self, name: &str) -> Result<(), EngineError> {
        let name = name.to_owned();
        let call = |docker: Docker| async move { docker.remove_volume(&name, None::<RemoveVolumeOptions>).await };
        match self.call("remove volume", CALL_DEADLINE, call).await {
            Err(error) if error.kind == ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

fn kept_up<T>(result: &Result<T, EngineError>) -> bool {
    !result.as_ref().is_err_and(EngineError::is_engine_down)
}

fn output_stream(
    operation: &'static str,
    output: Pin<Box<dyn Stream<Item = Result<LogOutput, bollard::errors::Error>> + Send>>,
) -> BoxStream<'static, Result<OutputChunk, EngineError>> {
    output.map_ok(convert::output).map_err(move |error| engine_error(operation, &error)).boxed()
}
