//! What follows a restore: the built-in objects of this version are there again, and the cluster says what happened.

use std::{sync::Arc, time::Duration};

use drover_api::{kinds, status::ApiError};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{gate::Gate, marker::Restored};
use crate::{
    authz::MASTERS,
    bootstrap::BuiltIn,
    registry::{Registry, WriteOptions, format_time},
    request::User,
};

/// Pause before another try.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Follows restores until `shutdown`.
pub(crate) async fn keep_up(gate: Arc<Gate>, registry: Arc<Registry>, built_in: BuiltIn, shutdown: CancellationToken) {
    let mut known = gate.known.subscribe();
    let mut told: Option<Restored> = None;
    loop {
        let restored = {
            let known = known.borrow_and_update();
            known.marker.restored.clone().filter(|restored| !known.is_closed() && restored.confirmed.is_none())
        };
        if let Some(restored) = restored.filter(|restored| told.as_ref() != Some(restored)) {
            let done = async {
                built_in.ensure(&registry).await?;
                tell(&registry, &restored).await
            };
            match done.await {
                Ok(()) => told = Some(restored),
                Err(error) => {
                    tracing::warn!(%error, "the built-in objects cannot be ensured after a restore yet");
                    // Cancel-safe: a timer and a token.
                    tokio::select! {
                        () = shutdown.cancelled() => return,
                        () = tokio::time::sleep(RETRY_AFTER) => continue,
                    }
                }
            }
        }
        // Cancel-safe: a watch and a token.
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = known.changed() => if changed.is_err() { return },
        }
    }
}

async fn tell(registry: &Registry, restored: &Restored) -> Result<(), ApiError> {
    let Some(events) = kinds::by_resource("", "v1", "events") else { return Ok(()) };
    let now = format_time(registry.environment().now());
    let event = json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": "cluster-restored-", "namespace": "kube-system"},
        "involvedObject": {"apiVersion": "v1", "kind": "Namespace", "name": "kube-system", "namespace": "kube-system"},
        "type": "Warning",
        "reason": drover_api::restored::HELD_REASON,
        "message": restored.notice(),
        "source": {"component": "drover-apiserver"},
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    });
    let options = WriteOptions::of(User::new("system:apiserver", &[MASTERS]));
    registry.create(events, "kube-system", event, &options).await.map(drop)
}
