//! Registers the Node and keeps its status current.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeStatus};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{HostFacts, HostView, NodeIdentity, NodeInput, build_labels, build_status};
use crate::{
    clock::Clock,
    engine::{Engine, EngineInfo, ImageCache},
    source::unconfirmed_restore,
};

/// Between two looks at the host.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// An unchanged status is written anew after this time (kubelet: 5 min); the lease says that the node lives.
const REFRESH_SECS: i64 = 300;

/// Creates the Node, or brings the labels of the one that is there up to date.
///
/// # Errors
/// Those of the API; the caller tries again.
pub async fn register(client: &Client, identity: &NodeIdentity, engine: &EngineInfo) -> Result<Node, kube::Error> {
    let nodes: Api<Node> = Api::all(client.clone());
    let metadata = json!({
        "name": identity.name,
        "labels": build_labels(identity, engine),
    });
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": metadata});
    match nodes.patch(&identity.name, &PatchParams::default(), &Patch::Merge(&node)).await {
        Err(kube::Error::Api(status)) if status.code == 404 => {
            let node = serde_json::from_value(node).map_err(kube::Error::SerdeError)?;
            nodes.create(&PostParams::default(), &node).await
        }
        other => other,
    }
}

/// Says on the Node how its pods get their network, and why not otherwise.
///
/// # Errors
/// Those of the API; the caller tries again.
pub async fn announce_network(
    client: &Client,
    node: &str,
    mode: &str,
    reason: Option<&str>,
) -> Result<(), kube::Error> {
    // A null takes the reason of an earlier start away.
    let annotations = json!({"drover.dev/network-mode": mode, "drover.dev/network-mode-reason": reason});
    let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
    Api::<Node>::all(client.clone()).patch(node, &PatchParams::default(), &patch).await.map(drop)
}

/// Keeps the status of a registered Node current.
#[derive(Debug)]
pub struct NodeReporter {
    /// Who the node is.
    pub identity: NodeIdentity,
    /// The engine.
    pub engine: Arc<dyn Engine>,
    /// Where facts about the host come from.
    pub host: Arc<dyn HostView>,
    /// Its images.
    pub images: ImageCache,
    /// Whether it answers.
    pub engine_up: watch::Receiver<bool>,
    /// Why the pod network is not ready; empty when it is.
    pub network_trouble: watch::Receiver<String>,
    /// The clock.
    pub clock: Clock,
}

impl NodeReporter {
    /// Writes the status when it changes, until `shutdown`.
    pub async fn run(mut self, client: Client, mut info: EngineInfo, shutdown: CancellationToken) {
        let nodes: Api<Node> = Api::all(client.clone());
        let facts = self.host.facts(&info.root_dir);
        let mut written: Option<(NodeStatus, Timestamp)> = None;
        loop {
            let status = self.status(&info, &facts, written.as_ref().map(|(status, _)| status));
            let now = self.clock.now();
            let due = written
                .as_ref()
                .is_none_or(|(before, at)| !same(before, &status) || now.duration_since(*at).as_secs() >= REFRESH_SECS);
            if due {
                let patch = json!({ "status": status });
                let name = &self.identity.name;
                match nodes.patch_status(name, &PatchParams::default(), &Patch::Strategic(patch)).await {
                    Ok(_) => written = Some((status, now)),
                    Err(kube::Error::Api(answer)) if answer.code == 404 => {
                        written = None;
                        self.rejoin(&client, &info).await;
                    }
                    Err(error) => tracing::debug!(%error, "node status not written; trying again"),
                }
            }
            let wait = if written.is_some() { LOOK_EVERY } else { Duration::from_secs(1) };
            // Cancel-safe: timers, watches, a token.
            tokio::select! {
                () = shutdown.cancelled() => return,
                Ok(()) = self.engine_up.changed() => {}
                Ok(()) = self.network_trouble.changed() => {}
                () = tokio::time::sleep(wait) => {}
            }
            if *self.engine_up.borrow() && info.version.is_empty() {
                info = self.engine.info().await.unwrap_or(info);
            }
        }
    }

    /// Joins again when the Node is missing because it is newer than a backup that was restored. One that somebody
    /// deleted stays deleted until its agent is started again.
    async fn rejoin(&self, client: &Client, info: &EngineInfo) {
        let joined = match unconfirmed_restore(client).await {
            Ok(Some(_)) => register(client, &self.identity, info).await.map(drop),
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = joined {
            tracing::debug!(%error, "node not registered again; trying again");
        }
    }

    fn status(&self, info: &EngineInfo, facts: &HostFacts, before: Option<&NodeStatus>) -> NodeStatus {
        let network = self.network_trouble.borrow().clone();
        let engine_up = *self.engine_up.borrow();
        let trouble = match (engine_up, network.is_empty()) {
            (false, _) => Some(("RuntimeUnhealthy", "the container engine does not answer")),
            (true, false) => Some(("NetworkNotReady", network.as_str())),
            (true, true) => None,
        };
        let before = before.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        build_status(&NodeInput {
            identity: &self.identity,
            engine: info,
            facts,
            pressure: self.host.pressure(&info.root_dir),
            trouble,
            images: self.images.list().iter().map(|image| (**image).clone()).collect(),
            before,
            now: self.clock.now(),
        })
    }
}

/// Whether two statuses say the same, heartbeat times aside.
fn same(before: &NodeStatus, after: &NodeStatus) -> bool {
    let timeless = |status: &NodeStatus| {
        let mut status = status.clone();
        for condition in status.conditions.iter_mut().flatten() {
            condition.last_heartbeat_time = None;
        }
        status
    };
    timeless(before) == timeless(after)
}
