//! Creates one attempt of a container and starts it: two engine calls when nothing goes wrong.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};

use crate::{
    config::{
        BuildInput, ConfigError, ContainerIdentity, ResolvedMount, build_container_config, check_reference, identity_of,
    },
    engine::{ContainerConfig, EngineError, ErrorKind, ImageDetails},
    ids::{ContainerId, PodUid},
    ledger::LedgerEntry,
    network::hostname,
    pod::{
        context::{Context, termination_log},
        plan::spec_hash,
    },
    seams::{EngineNetworking, FilesRequest, PreparedVolume, Sandbox},
};

/// What a start needs to know.
#[derive(Debug, Clone)]
pub(in crate::pod) struct StartRequest {
    pub pod: Pod,
    pub uid: PodUid,
    pub container: Container,
    pub attempt: u32,
    pub sandbox: Option<Sandbox>,
    pub volumes: Vec<PreparedVolume>,
}

/// A container that runs.
#[derive(Debug, Clone)]
pub(in crate::pod) struct Started {
    pub id: ContainerId,
    pub image_id: String,
    pub hash: String,
    pub at: Timestamp,
}

/// Why a container does not run.
#[derive(Debug, Clone)]
pub(in crate::pod) enum StartFailure {
    /// The manifest or what it names cannot be honoured.
    Config { reason: &'static str, message: String },
    /// The engine did not make the container.
    Create(EngineError),
    /// The engine made it and could not start it.
    Start { id: ContainerId, image_id: String, error: EngineError },
}

impl From<ConfigError> for StartFailure {
    fn from(error: ConfigError) -> Self {
        Self::Config { reason: error.reason, message: error.message }
    }
}

/// Creates and starts an attempt; finds it again if it was created before.
pub(in crate::pod) async fn start(context: &Context, request: &StartRequest) -> Result<Started, StartFailure> {
    let identity = context.identity(&request.pod, &request.uid, &request.container, request.attempt);
    let entry = LedgerEntry { namespace: identity.namespace.clone(), name: identity.pod_name.clone() };
    context.ledger.enter(&request.uid, entry).await.map_err(|error| local("ledger", &error))?;
    let config = configure(context, request, identity.clone()).await?;
    let (id, image_id) = create(context, &identity, &config).await?;
    if request.sandbox.is_some() {
        let linked = context.network.link_container(&id, &request.uid).await;
        linked.map_err(|error| local("network", &error))?;
    }
    match context.engine.start_container(&id).await {
        Ok(()) => Ok(Started { id, image_id, hash: spec_hash(&request.container), at: context.clock.now() }),
        Err(error) => Err(StartFailure::Start { id, image_id, error }),
    }
}

async fn create(
    context: &Context,
    identity: &ContainerIdentity,
    config: &ContainerConfig,
) -> Result<(ContainerId, String), StartFailure> {
    let name = identity.name();
    match context.engine.create_container(&name, config).await {
        Ok(id) => {
            let image = context.images.find(&config.image);
            Ok((id, image.map(|image| image.id.clone()).unwrap_or_default()))
        }
        // An earlier create of ours took effect though its answer was lost; or the name is somebody else's.
        Err(error) if error.kind == ErrorKind::Conflict && !drover_api::mutants::active("N03-conflict-is-failure") => {
            let found = context.engine.inspect_container(&name).await.map_err(StartFailure::Create)?;
            let same = identity_of(&found.summary.labels).is_some_and(|found| found == *identity);
            if same && context.ledger.owns(&found.summary) {
                Ok((found.summary.id, found.summary.image_id))
            } else {
                Err(StartFailure::Create(error))
            }
        }
        Err(error) => Err(StartFailure::Create(error)),
    }
}

async fn configure(
    context: &Context,
    request: &StartRequest,
    identity: ContainerIdentity,
) -> Result<ContainerConfig, StartFailure> {
    let (pod, container) = (&request.pod, &request.container);
    let spec = pod.spec.as_ref().ok_or_else(|| local("pod", &"the pod has no spec"))?;
    let pod_dir = context.pod_dir(&request.uid);
    let pod_ip = match &request.sandbox {
        Some(sandbox) => Some(std::net::IpAddr::V4(sandbox.address)),
        None => context.node.host_ip,
    };
    let env = context.environment.resolve(pod, container, &context.facts(pod_ip)).await;
    let env = env.map_err(|error| local("", &error.message))?;
    let files = FilesRequest {
        pod_dir: &pod_dir,
        pod,
        container,
        termination_log: &termination_log(&pod_dir, &container.name, request.attempt),
        sandbox: request.sandbox.as_ref(),
    };
    let files = context.files.write(&files).await;
    let files = files.map_err(|error| local("pod files", &error))?;
    let networking = request.sandbox.as_ref().map(|sandbox| sandbox.engine.clone());
    let on_host = EngineNetworking { network_mode: "host".to_owned(), runtime: None, ipv4: None };
    let input = BuildInput {
        pod,
        spec,
        container,
        identity,
        env,
        mounts: mounts(context, request).await?,
        files,
        hostname: Some(hostname(pod)),
        networking: networking.unwrap_or(on_host),
        image_user: image_user(context, request).await?,
        image_working_dir: image_working_dir(context, request).await?,
        node_memory_bytes: context.node.memory_bytes,
        oom_score_floor: context.node.oom_score_floor,
        forbidden: &context.forbidden,
    };
    Ok(build_container_config(&input)?)
}

async fn mounts(context: &Context, request: &StartRequest) -> Result<Vec<ResolvedMount>, StartFailure> {
    let mut mounts = Vec::new();
    for mount in request.container.volume_mounts.iter().flatten() {
        let volume = request.volumes.iter().find(|volume| volume.name == mount.name);
        let Some(volume) = volume else {
            return Err(local("volumeMounts", &format!("volume {:?} is not prepared", mount.name)));
        };
        let source = match mount.sub_path.as_deref().filter(|path| !path.is_empty()) {
            None => volume.source.clone(),
            Some(path) => {
                let resolved = context.volumes.sub_path(&request.uid, volume, path).await;
                resolved.map_err(|error| local("volumeMounts", &error.message))?
            }
        };
        mounts.push(ResolvedMount { mount: mount.clone(), volume: volume.clone(), source });
    }
    Ok(mounts)
}

/// Asks for the image's user only where the manifest makes it matter.
async fn image_user(context: &Context, request: &StartRequest) -> Result<Option<String>, StartFailure> {
    let of_pod = request.pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
    let own = request.container.security_context.as_ref();
    let non_root = own.and_then(|own| own.run_as_non_root).or_else(|| of_pod?.run_as_non_root);
    let group = own.and_then(|own| own.run_as_group).or_else(|| of_pod?.run_as_group);
    if non_root != Some(true) && group.is_none() {
        return Ok(None);
    }
    Ok(Some(image_details(context, request).await?.user.clone()))
}

/// The image's working directory counts where the manifest names none.
async fn image_working_dir(context: &Context, request: &StartRequest) -> Result<Option<String>, StartFailure> {
    if request.container.working_dir.as_deref().is_some_and(|dir| !dir.is_empty()) {
        return Ok(None);
    }
    Ok(Some(image_details(context, request).await?.working_dir.clone()))
}

async fn image_details(context: &Context, request: &StartRequest) -> Result<Arc<ImageDetails>, StartFailure> {
    let image = request.container.image.as_deref().unwrap_or_default();
    // What the engine would refuse anyway gets its own reason later.
    if check_reference(image).is_err() {
        return Ok(Arc::default());
    }
    context.images.details(context.engine.as_ref(), image).await.map_err(StartFailure::Create)
}

fn local(what: &str, error: &dyn std::fmt::Display) -> StartFailure {
    let message = if what.is_empty() { error.to_string() } else { format!("{what}: {error}") };
    StartFailure::Config { reason: "CreateContainerConfigError", message }
}
