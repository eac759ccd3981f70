//! The schema table as dynamic clients need it.

use drover_api::kinds::Durability;
use kube::api::ApiResource;

/// A kind that can be listed by its metadata.
#[derive(Debug, Clone)]
pub struct Served {
    /// Where the API serves it.
    pub resource: ApiResource,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// Whether its objects are kept: heartbeats and events are not.
    pub durable: bool,
}

/// Returns every kind, each set of objects once: `events.k8s.io` shows the Events of the core group again.
pub fn all() -> Vec<Served> {
    let kinds = drover_api::kinds::all().iter();
    kinds
        .filter(|kind| kind.durability != Durability::Virtual && kind.stored_as.is_none())
        .map(|kind| Served {
            resource: ApiResource {
                group: kind.group.to_owned(),
                version: kind.version.to_owned(),
                api_version: kind.api_version(),
                kind: kind.kind.to_owned(),
                plural: kind.plural.to_owned(),
            },
            namespaced: kind.namespaced,
            durable: kind.durability == Durability::Durable,
        })
        .collect()
}
