//! Says on the Node whether it serves Ingresses, and why not.

use std::time::Duration;

use drover_api::ingress::STATE;
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Keeps the annotation as the state is, until `stop`. `None` takes it away.
pub(crate) async fn announce(
    client: Client,
    node: String,
    mut state: watch::Receiver<Option<String>>,
    stop: CancellationToken,
) {
    let nodes: Api<Node> = Api::all(client);
    loop {
        let now = state.borrow_and_update().clone();
        let patch = Patch::Merge(json!({"metadata": {"annotations": {STATE: now}}}));
        let written = nodes.patch(&node, &PatchParams::default(), &patch).await;
        if let Err(error) = &written {
            tracing::debug!(%error, "the state of Ingresses is not written; trying again");
        }
        // Cancel-safe: a watch, a timer, a token.
        tokio::select! {
            () = stop.cancelled() => return,
            changed = state.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(RETRY_AFTER), if written.is_err() => {}
        }
    }
}
