//! The table as a value.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use drover_routing::digest;

use super::conntrack::FlowTarget;

/// Named maps and sets whose elements the proxy manages, with their types.
pub(super) const MAPS: [(&str, &str); 6] = [
    ("services", "map {} { type ipv4_addr . inet_proto . inet_service : verdict; }"),
    ("nodeports", "map {} { type inet_proto . inet_service : verdict; }"),
    ("hostports", "map {} { type inet_proto . inet_service : ipv4_addr . inet_service; }"),
    ("hostportips", "map {} { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }"),
    ("rejected", "set {} { type inet_proto . inet_service; }"),
    ("hairpin", "set {} { type ipv4_addr . ipv4_addr; }"),
];

/// Everything our table must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tables {
    /// Chains by name. The name holds a hash of the contents.
    pub chains: BTreeMap<String, Chain>,
    /// Sets that the kernel fills (session affinity), by name, with their definition.
    pub affinity: BTreeMap<String, String>,
    /// Elements of the managed maps and sets by map: key to value, which is empty in a set.
    pub elements: BTreeMap<&'static str, BTreeMap<String, String>>,
    /// Endpoints in use: when one goes, flows to it must be forgotten.
    pub targets: BTreeSet<FlowTarget>,
}

/// One chain.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Chain {
    /// `type … hook … priority …;` of a base chain.
    pub hook: Option<String>,
    /// Its rules in order.
    pub rules: Vec<String>,
}

/// What the kernel's table holds, as far as it can differ from [`Tables`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    /// Whether there is a table at all.
    pub exists: bool,
    /// Chains by name with their number of rules.
    pub chains: BTreeMap<String, usize>,
    /// Names of sets that are not managed maps.
    pub affinity: BTreeSet<String>,
    /// Elements of the managed maps by map.
    pub elements: BTreeMap<String, BTreeMap<String, String>>,
}

impl Observed {
    /// This with the chains and sets of `other` that have these names.
    pub(super) fn with(mut self, other: &Self, names: &BTreeSet<String>) -> Self {
        let chains = other.chains.iter().filter(|(name, _)| names.contains(*name));
        self.chains.extend(chains.map(|(name, rules)| (name.clone(), *rules)));
        self.affinity.extend(other.affinity.intersection(names).cloned());
        self
    }

    /// Puts `by` where `part` was.
    pub(super) fn replace(&mut self, part: &Self, by: Self) {
        let Self { exists, chains, affinity, elements } = by;
        self.exists = exists;
        self.forget(&part.chains.keys().chain(&part.affinity).cloned().collect());
        self.chains.extend(chains);
        self.affinity.extend(affinity);
        for (map, elements) in elements {
            let present = self.elements.entry(map.clone()).or_default();
            part.elements.get(&map).into_iter().flat_map(BTreeMap::keys).for_each(|key| drop(present.remove(key)));
            present.extend(elements);
        }
    }

    /// Takes these chains and sets out.
    pub(super) fn forget(&mut self, names: &BTreeSet<String>) {
        for name in names {
            self.chains.remove(name);
            self.affinity.remove(name);
        }
    }
}

impl Tables {
    /// Enters a chain and returns its name.
    pub(super) fn add_chain(&mut self, kind: &str, chain: Chain) -> String {
        let name = format!("{kind}_{}", digest(&chain));
        self.chains.insert(name.clone(), chain);
        name
    }

    /// Notes an endpoint that connections may lead to.
    pub(super) fn add_target(&mut self, protocol: &'static str, address: Ipv4Addr, port: u16) {
        if matches!(protocol, "tcp" | "udp") {
            self.targets.insert(FlowTarget { protocol, address, port });
        }
    }

    /// Enters an element, unless its key is taken: the first Service in name order keeps it.
    pub(super) fn add_element(&mut self, map: &'static str, key: String, value: String) {
        self.elements.entry(map).or_default().entry(key).or_insert(value);
    }

    /// What the kernel holds once this is applied, apart from what is left over of what it held before.
    pub fn observed(&self) -> Observed {
        Observed {
            exists: true,
            chains: self.chains.iter().map(|(name, chain)| (name.clone(), chain.rules.len())).collect(),
            affinity: self.affinity.keys().cloned().collect(),
            elements: MAPS
                .iter()
                .map(|(map, _)| ((*map).to_owned(), self.elements.get(map).cloned().unwrap_or_default()))
                .collect(),
        }
    }
}
