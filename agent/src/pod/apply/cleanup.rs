//! Removes what is left of a pod beside its containers: name space, volumes, files and ledger entry.

use crate::{ids::PodUid, pod::context::Context};

/// Cleans up after a pod that has no containers any more. Repeating it is harmless.
///
/// # Errors
/// The first sentence of what could not be removed; the rest was tried all the same.
pub(in crate::pod) async fn clean_up(context: &Context, pod: &PodUid) -> Result<(), String> {
    let (network, volumes) = tokio::join!(context.network.remove(pod), context.volumes.remove(pod));
    network.map_err(|error| error.to_string())?;
    volumes.map_err(|error| error.to_string())?;
    context.files.remove(&context.pod_dir(pod)).await.map_err(|error| format!("pod files: {error}"))?;
    context.ledger.forget(pod).map_err(|error| error.to_string())
}
