//! Pulls images, with the pull secrets of the pod.

use std::time::Duration;

use futures::TryStreamExt as _;
use k8s_openapi::api::core::v1::Pod;

use super::secrets::{credentials_for, parse_docker_config};
use crate::{
    config::check_reference,
    engine::{EngineError, ErrorKind, RegistryAuth},
    pod::context::Context,
};

/// A pull that makes no progress for this long is broken (faults N05: a registry that sends 1 byte a second goes on).
const STALL_LIMIT: Duration = Duration::from_secs(120);

/// Why an image is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::pod) struct PullFailure {
    /// `ErrImagePull`, or `InvalidImageName` for what no registry can have.
    pub reason: &'static str,
    pub message: String,
}

impl PullFailure {
    fn new(message: String) -> Self {
        Self { reason: "ErrImagePull", message }
    }
}

/// Pulls an image to the end. Several credentials may fit one registry; each is tried.
pub(in crate::pod) async fn pull(context: &Context, pod: &Pod, image: &str) -> Result<(), PullFailure> {
    check_reference(image).map_err(|message| PullFailure { reason: "InvalidImageName", message })?;
    let candidates = credentials(context, pod, image).await;
    let mut last = None;
    for auth in candidates {
        match pull_once(context, image, auth).await {
            Ok(()) => {
                // The event says so too, perhaps later: the start must find the image now.
                let refreshed = context.images.refresh(context.engine.as_ref()).await;
                return refreshed.map_err(|error| PullFailure::new(error.to_string()));
            }
            Err(error) => {
                let denied = error.kind == ErrorKind::PullDenied;
                last = Some(error);
                if !denied {
                    break;
                }
            }
        }
    }
    let reason = last.map_or_else(String::new, |error| error.message);
    Err(PullFailure::new(format!("failed to pull image {image:?}: {reason}")))
}

async fn pull_once(context: &Context, image: &str, auth: Option<RegistryAuth>) -> Result<(), EngineError> {
    let mut progress = context.engine.pull_image(image, auth);
    loop {
        match tokio::time::timeout(STALL_LIMIT, progress.try_next()).await {
            Ok(Ok(Some(_))) => {}
            Ok(Ok(None)) => return Ok(()),
            Ok(Err(error)) => return Err(error),
            Err(_) => {
                let message = format!("no progress for {} s", STALL_LIMIT.as_secs());
                return Err(EngineError::new(ErrorKind::Timeout, "pull", message));
            }
        }
    }
}

async fn credentials(context: &Context, pod: &Pod, image: &str) -> Vec<Option<RegistryAuth>> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let secrets = pod.spec.iter().flat_map(|spec| spec.image_pull_secrets.iter().flatten());
    let mut found = Vec::new();
    for reference in secrets {
        match context.api.secret(namespace, &reference.name).await {
            Ok(data) => found.extend(credentials_for(image, &parse_docker_config(&data))),
            Err(error) => {
                let message = format!("Unable to retrieve image pull secret {:?}: {error}", reference.name);
                context.recorder.pod(pod, None, true, "FailedToRetrieveImagePullSecret", &message);
            }
        }
    }
    let mut candidates: Vec<_> = found.into_iter().map(Some).collect();
    if candidates.is_empty() {
        candidates.push(None);
    }
    candidates
}
