//! Ends the containers of a pod that the API no longer has and of which no object is left to say how.

use std::time::Duration;

use super::{apply::clean_up, context::Context};
use crate::{
    engine::{ContainerPhase, ContainerSummary},
    ids::PodUid,
};

/// The grace of a pod without an object: Kubernetes' default is 30 s, of which it had some already.
const GRACE: Duration = Duration::from_secs(10);
/// Between two looks at whether containers ended.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Stops and removes the containers and cleans up. What fails is tried again when the next listing finds it.
pub(super) async fn end(context: &Context, uid: &PodUid, containers: Vec<ContainerSummary>) {
    let mut ends = tokio::task::JoinSet::new();
    for container in containers {
        let engine = std::sync::Arc::clone(&context.engine);
        ends.spawn(async move { end_container(engine.as_ref(), &container).await });
    }
    let mut complete = true;
    while let Some(ended) = ends.join_next().await {
        complete &= ended.unwrap_or(false);
    }
    if !complete {
        return;
    }
    if let Err(message) = clean_up(context, uid).await {
        tracing::warn!(pod.uid = %uid, %message, "an ended pod cannot be cleaned up yet");
    }
}

async fn end_container(engine: &dyn crate::engine::Engine, container: &ContainerSummary) -> bool {
    if container.phase == ContainerPhase::Running && engine.kill_container(&container.id, "SIGTERM").await.is_ok() {
        let ended = async {
            while let Ok(details) = engine.inspect_container(container.id.as_str()).await {
                if details.summary.phase != ContainerPhase::Running {
                    break;
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        // Past the grace period removal kills.
        let _ = tokio::time::timeout(GRACE, ended).await;
    }
    match engine.remove_container(&container.id).await {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(container.id = %container.id, %error, "an orphaned container cannot be removed yet");
            false
        }
    }
}
