//! What the controllers publish for all nodes: the revision that every proxy has applied, and the nodes in doubt. Each is
//! an annotation on a Lease of its own.

use std::collections::BTreeSet;

use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client, runtime::watcher};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{chance::Chance, source::Informer};

/// The namespace of all of them and of the nodes' own Leases.
pub(super) const NAMESPACE: &str = "kube-node-lease";
const PROXIES: &str = "drover-proxies";
const ACKNOWLEDGED_REVISION: &str = "drover.dev/acknowledged-revision";
const ROLL_CALL: &str = "drover-roll-call";
const SUSPECTS: &str = "drover.dev/suspects";

/// Follows the revision that every live proxy has acknowledged. It stays while nothing is published.
pub fn acknowledged_revision(client: Client, chance: Chance, shutdown: &CancellationToken) -> watch::Receiver<u64> {
    follow(client, PROXIES, chance, shutdown, |lease| annotation(lease?, ACKNOWLEDGED_REVISION)?.parse().ok())
}

/// Follows the nodes whose hosts may be gone. They, and those that ask them, renew their Leases at once; Services do
/// without them where they can.
pub fn suspects(client: Client, chance: Chance, shutdown: &CancellationToken) -> watch::Receiver<BTreeSet<String>> {
    follow(client, ROLL_CALL, chance, shutdown, |lease| {
        let text = lease.and_then(|lease| annotation(lease, SUSPECTS)).unwrap_or_default();
        Some(text.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect())
    })
}

fn annotation<'a>(lease: &'a Lease, name: &str) -> Option<&'a str> {
    lease.metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

/// Follows one Lease. `read` says what it means, `None` that nothing has changed.
fn follow<T: Default + PartialEq + Send + Sync + 'static>(
    client: Client,
    name: &'static str,
    chance: Chance,
    shutdown: &CancellationToken,
    read: impl Fn(Option<&Lease>) -> Option<T> + Send + 'static,
) -> watch::Receiver<T> {
    let leases: Api<Lease> = Api::namespaced(client, NAMESPACE);
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let (informer, _task) = Informer::spawn(leases, config, chance, shutdown.clone());
    let (value_tx, value_rx) = watch::channel(T::default());
    let shutdown = shutdown.clone();
    tokio::spawn(async move {
        let mut changes = informer.subscribe();
        loop {
            if let Some(value) = read(informer.get(NAMESPACE, name).as_deref()) {
                value_tx.send_if_modified(|known| {
                    let is_new = *known != value;
                    *known = value;
                    is_new
                });
            }
            // Cancel-safe: a watch and a token.
            tokio::select! {
                () = shutdown.cancelled() => return,
                changed = changes.changed() => if changed.is_err() { return },
            }
        }
    });
    value_rx
}
