//! The node's lease: renewed every ten seconds and at once when the proxy acknowledges more; and the lease on which the
//! controllers publish what all proxies have acknowledged.

use std::time::Duration;

use k8s_openapi::{api::coordination::v1::Lease, apimachinery::pkg::apis::meta::v1::MicroTime};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
    runtime::watcher,
};
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{chance::Chance, clock::Clock, source::Informer};

const NAMESPACE: &str = "kube-node-lease";
/// The lease that the controllers write.
const PROXIES: &str = "drover-proxies";
const PROXY_REVISION: &str = "drover.dev/proxy-revision";
const ACKNOWLEDGED_REVISION: &str = "drover.dev/acknowledged-revision";
/// Four renewals fit into one lease, so that three may be lost.
const LEASE_SECS: i32 = 40;
const RENEW_EVERY: Duration = Duration::from_secs(10);
/// Between two tries of a renewal that fails; it must succeed well within the lease.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Renews the lease of `node` until `shutdown`.
pub async fn heartbeat(
    client: Client,
    node: String,
    clock: Clock,
    mut applied: watch::Receiver<u64>,
    shutdown: CancellationToken,
) {
    let leases: Api<Lease> = Api::namespaced(client, NAMESPACE);
    loop {
        let revision = *applied.borrow_and_update();
        let wait = match renew(&leases, &node, revision, &clock).await {
            Ok(()) => RENEW_EVERY,
            Err(error) => {
                tracing::debug!(%error, "node lease not renewed; trying again");
                RETRY_AFTER
            }
        };
        // Cancel-safe: a timer, a watch, a token.
        tokio::select! {
            () = shutdown.cancelled() => return,
            Ok(()) = applied.changed() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

async fn renew(leases: &Api<Lease>, node: &str, revision: u64, clock: &Clock) -> Result<(), kube::Error> {
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": node, "annotations": {PROXY_REVISION: revision.to_string()}},
        "spec": {
            "holderIdentity": node,
            "leaseDurationSeconds": LEASE_SECS,
            "renewTime": MicroTime::from(clock.now()),
        },
    });
    match leases.patch(node, &PatchParams::default(), &Patch::Merge(&lease)).await {
        Err(kube::Error::Api(status)) if status.code == 404 => {
            let lease = serde_json::from_value(lease).map_err(kube::Error::SerdeError)?;
            leases.create(&PostParams::default(), &lease).await.map(drop)
        }
        other => other.map(drop),
    }
}

/// Follows the revision that every live proxy has acknowledged.
pub fn acknowledged_revision(client: Client, chance: Chance, shutdown: &CancellationToken) -> watch::Receiver<u64> {
    let leases: Api<Lease> = Api::namespaced(client, NAMESPACE);
    let config = watcher::Config::default().fields(&format!("metadata.name={PROXIES}"));
    let (informer, _task) = Informer::spawn(leases, config, chance, shutdown.clone());
    let (revision_tx, revision_rx) = watch::channel(0);
    let shutdown = shutdown.clone();
    tokio::spawn(async move {
        let mut changes = informer.subscribe();
        loop {
            if let Some(revision) = published(&informer) {
                revision_tx.send_if_modified(|known| std::mem::replace(known, revision) != revision);
            }
            // Cancel-safe: a watch and a token.
            tokio::select! {
                () = shutdown.cancelled() => return,
                changed = changes.changed() => if changed.is_err() { return },
            }
        }
    });
    revision_rx
}

fn published(leases: &Informer<Lease>) -> Option<u64> {
    let lease = leases.get(NAMESPACE, PROXIES)?;
    lease.metadata.annotations.as_ref()?.get(ACKNOWLEDGED_REVISION)?.parse().ok()
}
