//! Removes what is left of a pod beside its containers: name space, volumes, files and ledger entry.

use std::io;

use crate::{ids::PodUid, pod::context::Context};

/// Cleans up after a pod that has no containers any more. Repeating it is harmless.
///
/// # Errors
/// The first sentence of what could not be removed; the rest was tried all the same.
pub(in crate::pod) async fn clean_up(context: &Context, pod: &PodUid) -> Result<(), String> {
    let (network, volumes) = tokio::join!(context.network.remove(pod), context.volumes.remove(pod));
    network.map_err(|error| error.to_string())?;
    volumes.map_err(|error| error.to_string())?;
    match tokio::fs::remove_dir_all(context.pod_dir(pod)).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(format!("pod files: {error}")),
        Ok(()) | Err(_) => {}
    }
    context.ledger.forget(pod).map_err(|error| error.to_string())
}
