//! Where objects live in the store.

use drover_api::kinds::Kind;

/// Everything Drover keeps is below this prefix, so that one watch sees every revision.
pub const ROOT: &str = "/registry/";
/// Written at each start; its revision is the epoch of the memory-only class.
pub(crate) const EPOCH: &str = "/registry/.drover/epoch";
/// Seals continue tokens; shared by all servers on one store.
pub(crate) const SEAL: &str = "/registry/.drover/continue-seal";
/// Compared and rewritten by every allocation of a service address or node port.
pub(crate) const SERVICE_ALLOCATIONS: &str = "/registry/.drover/service-allocations";

/// Says which key seals; every sealed write compares with it.
pub(crate) const SEALING_RECORD: &str = "/registry/.drover/sealing";
/// Prefixes of the keys whose values hold credentials and are sealed.
pub(crate) const SEALED: [&str; 2] = ["/registry/core/secrets/", SEAL];

/// Whether a kind is a second view of another one's objects: `events.k8s.io` Events.
pub(crate) fn is_event_view(kind: &'static Kind) -> bool {
    kind.stored_as.is_some()
}

/// Returns the key prefix of a kind, with the trailing slash.
pub fn prefix(kind: &Kind) -> String {
    let group = if kind.group.is_empty() { "core" } else { kind.group };
    format!("{ROOT}{group}/{}/", kind.plural)
}

/// Returns the key of an object below its kind's prefix: `namespace/name`, or `name`.
pub fn local(kind: &Kind, namespace: &str, name: &str) -> String {
    if kind.namespaced { format!("{namespace}/{name}") } else { name.to_owned() }
}

/// Returns the full key of an object.
pub fn key(kind: &Kind, namespace: &str, name: &str) -> String {
    prefix(kind) + &local(kind, namespace, name)
}
