//! The node's Lease: renewed every ten seconds, and at once when the proxy acknowledges more, when a neighbour is lost
//! or back, and when the controllers ask whether this node, or one that it asks, is there.

use std::{collections::BTreeSet, time::Duration};

use k8s_openapi::{api::coordination::v1::Lease, apimachinery::pkg::apis::meta::v1::MicroTime};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::published::NAMESPACE;
use crate::{clock::Clock, neighbours::Heard};

const PROXY_REVISION: &str = "drover.dev/proxy-revision";
/// Neighbours that answer, and such as no longer do; names with commas between them.
const HEARD: &str = "drover.dev/heard";
const LOST: &str = "drover.dev/lost";
/// Four renewals fit into one lease, so that three may be lost.
const LEASE_SECS: i32 = 40;
const RENEW_EVERY: Duration = Duration::from_secs(10);
/// Between two tries of a renewal that fails; it must succeed well within the lease.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What the Lease of a node says.
#[derive(Debug)]
pub struct Heartbeat {
    /// The node.
    pub node: String,
    /// Its clock.
    pub clock: Clock,
    /// The EndpointSlice revision that its proxy has applied.
    pub applied: watch::Receiver<u64>,
    /// What it says of its neighbours.
    pub heard: watch::Receiver<Heard>,
    /// Whom the controllers ask about.
    pub suspects: watch::Receiver<BTreeSet<String>>,
}

impl Heartbeat {
    /// Renews the Lease until `shutdown`.
    pub async fn run(mut self, client: Client, shutdown: CancellationToken) {
        let leases: Api<Lease> = Api::namespaced(client, NAMESPACE);
        loop {
            let revision = *self.applied.borrow_and_update();
            let heard = self.heard.borrow_and_update().clone();
            let asked = self.asked();
            let wait = match self.renew(&leases, revision, &heard).await {
                Ok(()) => RENEW_EVERY,
                Err(error) => {
                    tracing::debug!(%error, "node lease not renewed; trying again");
                    RETRY_AFTER
                }
            };
            let wait = tokio::time::sleep(wait);
            tokio::pin!(wait);
            loop {
                // Cancel-safe: a timer, watches, a token.
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    Ok(()) = self.applied.changed() => break,
                    Ok(()) = self.heard.changed() => break,
                    Ok(()) = self.suspects.changed() => if !self.asked().is_subset(&asked) { break },
                    () = &mut wait => break,
                }
            }
        }
    }

    /// Those of the suspects of whom this node has something to say.
    fn asked(&mut self) -> BTreeSet<String> {
        let heard = self.heard.borrow();
        let concerns =
            |node: &&String| **node == self.node || heard.heard.contains(*node) || heard.lost.contains(*node);
        self.suspects.borrow_and_update().iter().filter(concerns).cloned().collect()
    }

    async fn renew(&self, leases: &Api<Lease>, revision: u64, heard: &Heard) -> Result<(), kube::Error> {
        let names = |nodes: &BTreeSet<String>| nodes.iter().map(String::as_str).collect::<Vec<_>>().join(",");
        // A null takes away what nobody is in.
        let list = |nodes: &BTreeSet<String>| Some(names(nodes)).filter(|names| !names.is_empty());
        let mut lease = json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self.node, "annotations": {
                PROXY_REVISION: revision.to_string(),
                HEARD: list(&heard.heard),
                LOST: list(&heard.lost),
            }},
            "spec": {
                "holderIdentity": self.node,
                "leaseDurationSeconds": LEASE_SECS,
                "renewTime": MicroTime::from(self.clock.now()),
            },
        });
        match leases.patch(&self.node, &PatchParams::default(), &Patch::Merge(&lease)).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {
                if let Some(annotations) = lease["metadata"]["annotations"].as_object_mut() {
                    annotations.retain(|_, value| !value.is_null());
                }
                let lease = serde_json::from_value(lease).map_err(kube::Error::SerdeError)?;
                leases.create(&PostParams::default(), &lease).await.map(drop)
            }
            other => other.map(drop),
        }
    }
}
