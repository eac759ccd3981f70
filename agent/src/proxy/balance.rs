//! The chains that pick a backend.

use drover_routing::{digest, endpoints::Backend};

use super::tables::{Chain, Tables};

/// A bound on the clients remembered for each backend of a Service with session affinity.
const AFFINITY_CLIENTS: u32 = 65_536;

/// What a chain is for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Purpose<'a> {
    /// `namespace/name:port`, for the reader and as the key of session affinity.
    pub(super) title: &'a str,
    /// `tcp`, `udp` or `sctp`.
    pub(super) protocol: &'static str,
    /// Session affinity's time-out in seconds.
    pub(super) affinity: Option<u32>,
}

/// Enters the chain that spreads over `backends` (not empty) and returns its name.
pub(super) fn add_chain(tables: &mut Tables, purpose: Purpose<'_>, backends: &[Backend]) -> String {
    for Backend { address, port, .. } in backends {
        tables.add_target(purpose.protocol, *address, *port);
    }
    match purpose.affinity {
        Some(seconds) => with_affinity(tables, purpose, backends, seconds),
        None => at_random(tables, purpose, backends),
    }
}

fn at_random(tables: &mut Tables, purpose: Purpose<'_>, backends: &[Backend]) -> String {
    let Purpose { title, protocol, affinity: _ } = purpose;
    let elements = backends.iter().enumerate();
    let elements = elements.map(|(index, backend)| format!("{index} : {} . {}", backend.address, backend.port));
    let elements = elements.collect::<Vec<_>>().join(", ");
    let count = backends.len();
    let rule = format!(
        "meta l4proto {protocol} dnat ip to numgen random mod {count} map {{ {elements} }} comment {}",
        comment(title)
    );
    tables.add_chain("svc", Chain { hook: None, rules: vec![rule] })
}

/// Each backend gets a set of its clients, named independently of the other backends: so a client stays with its
/// backend for as long as that exists, whatever happens to the others.
fn with_affinity(tables: &mut Tables, purpose: Purpose<'_>, backends: &[Backend], seconds: u32) -> String {
    let Purpose { title, protocol, affinity: _ } = purpose;
    let mut rules = Vec::new();
    let mut choices = Vec::new();
    for (index, backend) in backends.iter().enumerate() {
        let set = format!("aff_{}", digest(&(title, protocol, backend.address, backend.port, seconds)));
        let (address, port) = (backend.address, backend.port);
        let definition =
            format!("{{ type ipv4_addr; flags dynamic,timeout; timeout {seconds}s; size {AFFINITY_CLIENTS}; }}");
        tables.affinity.insert(set.clone(), definition);
        let remember = format!("update @{set} {{ ip saddr }}");
        let translate = format!("meta l4proto {protocol} dnat ip to {address}:{port}");
        let chain = tables.add_chain("ep", Chain { hook: None, rules: vec![remember, translate] });
        rules.push(format!("ip saddr @{set} goto {chain}"));
        choices.push(format!("{index} : goto {chain}"));
    }
    let count = backends.len();
    let choices = choices.join(", ");
    rules.push(format!("numgen random mod {count} vmap {{ {choices} }} comment {}", comment(title)));
    tables.add_chain("svc", Chain { hook: None, rules })
}

/// A title in quotes. Only what Kubernetes allows in names gets through, within nft's limit of 128 bytes.
fn comment(title: &str) -> String {
    let allowed = |character: &char| character.is_ascii_alphanumeric() || "-./:".contains(*character);
    format!("\"{}\"", title.chars().filter(allowed).take(120).collect::<String>())
}
