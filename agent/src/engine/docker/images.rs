//! Images and pulls in Docker's terms.

use bollard::{
    auth::DockerCredentials,
    models::{CreateImageInfo, ImageInspect, ImageSummary as DockerImageSummary},
    query_parameters::CreateImageOptions,
};

use crate::engine::{EngineError, ImageDetails, ImageSummary, PullProgress, RegistryAuth, images::normalise};

pub(super) fn pull_options(image: &str) -> CreateImageOptions {
    // The engine pulls every tag of a name without one, so the reference goes out in full.
    CreateImageOptions { from_image: Some(normalise(image)), ..Default::default() }
}

pub(super) fn credentials(auth: Option<RegistryAuth>) -> Option<DockerCredentials> {
    auth.map(|auth| DockerCredentials {
        username: Some(auth.username),
        password: Some(auth.password),
        serveraddress: Some(auth.server),
        identitytoken: auth.identity_token,
        ..Default::default()
    })
}

pub(super) fn progress(line: CreateImageInfo) -> Result<PullProgress, EngineError> {
    if let Some(message) = line.error_detail.and_then(|detail| detail.message) {
        let error = bollard::errors::Error::DockerStreamError { error: message };
        return Err(super::engine_error("pull", &error));
    }
    let detail = line.progress_detail.unwrap_or_default();
    Ok(PullProgress {
        layer: line.id.unwrap_or_default(),
        status: line.status.unwrap_or_default(),
        current_bytes: detail.current,
        total_bytes: detail.total,
    })
}

pub(super) fn details(image: ImageInspect) -> ImageDetails {
    let config = image.config.unwrap_or_default();
    ImageDetails {
        summary: ImageSummary {
            id: image.id.unwrap_or_default(),
            tags: image.repo_tags.unwrap_or_default(),
            digests: image.repo_digests.unwrap_or_default(),
            size_bytes: image.size.unwrap_or_default(),
        },
        user: config.user.unwrap_or_default(),
        working_dir: config.working_dir.unwrap_or_default(),
        stop_signal: config.stop_signal.filter(|signal| !signal.is_empty()),
    }
}

pub(super) fn summary(image: DockerImageSummary) -> ImageSummary {
    let named = |reference: &String| !reference.starts_with("<none>");
    ImageSummary {
        id: image.id,
        tags: image.repo_tags.into_iter().filter(named).collect(),
        digests: image.repo_digests.into_iter().filter(named).collect(),
        size_bytes: image.size,
    }
}
