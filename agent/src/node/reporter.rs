//! Registers the Node and keeps its status current.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeCondition, NodeStatus};
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
    source::{Informer, revision_of, unconfirmed_restore},
};

/// Between two looks at the host.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// An unchanged status is written anew after this time (kubelet: 5 min); the lease says that the node lives.
const REFRESH_SECS: i64 = 300;
/// Between two writes against another writer, and two tries of one that fails.
const RETRY_AFTER: Duration = Duration::from_secs(1);

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
    /// The node's own object, as the API has it.
    pub object: Informer<Node>,
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
        let mut facts = self.host.facts(&info.root_dir);
        let mut written: Option<Written> = None;
        let mut changes = self.object.subscribe();
        let mut complaint = String::new();
        loop {
            let object = self.object.get("", &self.identity.name);
            let overruled = written.as_ref().and_then(|written| written.overruled_by(object.as_deref()));
            let before = overruled.or_else(|| written.as_ref().map(|written| &written.status));
            let (status, now) = (self.status(&info, &facts, before), self.clock.now());
            let mut agreed = overruled.is_none();
            if written.as_ref().is_none_or(|written| written.is_due(&status, agreed, now)) {
                let patch = json!({ "status": status });
                let name = &self.identity.name;
                let answer = nodes.patch_status(name, &PatchParams::default(), &Patch::Strategic(patch)).await;
                agreed = answer.is_ok();
                match answer {
                    Ok(node) => {
                        written = Some(Written { status, revision: revision_of(&node), at: now });
                        complaint.clear();
                    }
                    Err(kube::Error::Api(answer)) if answer.code == 404 => {
                        written = None;
                        self.rejoin(&client, &info).await;
                    }
                    Err(error) => complain(&mut complaint, &error),
                }
            }
            let wait = if agreed { LOOK_EVERY } else { RETRY_AFTER };
            // Cancel-safe: timers, watches, a token.
            tokio::select! {
                () = shutdown.cancelled() => return,
                Ok(()) = self.engine_up.changed() => {}
                Ok(()) = self.network_trouble.changed() => {}
                Ok(()) = changes.changed() => {}
                () = tokio::time::sleep(wait) => {}
            }
            if *self.engine_up.borrow()
                && !info.is_known()
                && let Ok(answer) = self.engine.info().await
            {
                info = answer;
                facts = self.host.facts(&info.root_dir);
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

/// Says why the status is not written, once for each reason: nobody else tells of a node that never gets ready.
fn complain(before: &mut String, error: &kube::Error) {
    let reason = error.to_string();
    if *before != reason {
        tracing::warn!(%error, "the node's status is not written; trying again");
        *before = reason;
    }
}

/// What the API has by our last write.
#[derive(Debug)]
struct Written {
    status: NodeStatus,
    /// The object's revision with it.
    revision: u64,
    at: Timestamp,
}

impl Written {
    /// Returns what somebody said of the node after us, if it is not what we said: controllers write that nothing is
    /// known of a node while they do not hear it, and leave it to the node to say otherwise.
    fn overruled_by<'a>(&self, object: Option<&'a Node>) -> Option<&'a NodeStatus> {
        let newer = |object: &&Node| revision_of(*object) > self.revision;
        let object = object.filter(newer).filter(|_| !drover_api::mutants::active("C23-node-stays-unknown"))?;
        let theirs = object.status.as_ref()?;
        let stands = |ours: &NodeCondition| {
            theirs.conditions.iter().flatten().any(|said| said.type_ == ours.type_ && said.status == ours.status)
        };
        (!self.status.conditions.iter().flatten().all(stands)).then_some(theirs)
    }

    fn is_due(&self, status: &NodeStatus, agreed: bool, now: Timestamp) -> bool {
        let age = now.duration_since(self.at);
        !same(&self.status, status) || age.as_secs() >= REFRESH_SECS || (!agreed && age.unsigned_abs() >= RETRY_AFTER)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn node(revision: u64, ready: &str) -> Node {
        let condition = json!({"type": "Ready", "status": ready});
        let node =
            json!({"metadata": {"resourceVersion": revision.to_string()}, "status": {"conditions": [condition]}});
        serde_json::from_value(node).expect("a node")
    }

    #[test]
    fn another_writers_word_after_ours_is_answered_once_a_second() {
        let at = Timestamp::UNIX_EPOCH;
        let later = |millis: i64| at + jiff::SignedDuration::from_millis(millis);
        let status = node(0, "True").status.expect("it has one");
        let written = Written { status: status.clone(), revision: 5, at };
        assert_eq!(written.overruled_by(None), None);
        for (revision, ready, overruled) in
            [(4, "Unknown", false), (5, "Unknown", false), (6, "True", false), (6, "Unknown", true)]
        {
            let object = node(revision, ready);
            assert_eq!(written.overruled_by(Some(&object)).is_some(), overruled, "{ready} at {revision}");
        }
        for (millis, agreed, due) in
            [(999, false, false), (1_000, false, true), (9_000, true, false), (300_000, true, true)]
        {
            assert_eq!(written.is_due(&status, agreed, later(millis)), due, "{millis}");
        }
    }
}
