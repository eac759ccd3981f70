//! The transactions that turn one table into another. Pure.
//!
//! One would not do. A packet on its way through the table goes on with the chains of the generation in which it
//! started, while maps, also those inside a rule, show it the newest one. A chain that is added together with the
//! element that leads to it is therefore empty for such a packet, and a chain that goes together with its element has
//! its map taken away under the packet: in both cases the connection is refused. So whatever an element leads to is
//! there before the element is, and stays for a while after it.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    encode::is_spread,
    tables::{Chain, MAPS, Observed, Tables},
};

/// The way from one table to another: nft commands for three transactions, one after the other. All are empty when
/// nothing is to be done. Their number depends on what changed, not on how much there is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Change {
    /// Adds what changes rarely and needs nft's words: maps, sets, base chains, session affinity.
    pub declare: Vec<String>,
    /// Adds what elements will lead to. No connection goes another way by it.
    pub prepare: Vec<String>,
    /// Moves the elements. From here on the table does what is desired.
    pub switch: Vec<String>,
}

/// The change from `current` to `desired`. What is then [`left_over`] is not removed.
pub fn diff(current: &Observed, desired: &Tables, table: &str) -> Change {
    let mut change = Change::default();
    declare(current, desired, table, &mut change.declare);
    let wrong = wrong_chains(current, desired);
    let (spreads, others): (Vec<_>, Vec<_>) = wrong.into_iter().partition(|(_, chain)| is_direct(chain));
    add_chains(current, &spreads, table, &mut change.prepare);
    // The rules of base chains come last: they lead to the others.
    let (base, plain): (Vec<_>, Vec<_>) = others.into_iter().partition(|(_, chain)| chain.hook.is_some());
    let mut hooks = Vec::new();
    add_chains(current, &plain, table, &mut change.declare);
    add_chains(current, &base, table, &mut hooks);
    for (map, _) in MAPS {
        let none = BTreeMap::new();
        let present = current.elements.get(map).unwrap_or(&none);
        let wanted = desired.elements.get(map).unwrap_or(&none);
        move_elements(present, wanted, &format!("ip {table} {map}"), &mut change.switch);
    }
    if desired.chains.iter().any(|(name, chain)| chain.hook.is_some() && current.chains.contains_key(name)) {
        change.declare.append(&mut hooks);
    } else {
        // Without its elements the table would refuse everything: it gets its hooks last, and no packet comes before.
        change.prepare.append(&mut change.switch);
        change.switch = hooks;
    }
    if drover_api::mutants::active("E04-chain-with-its-element") {
        change.switch.splice(0..0, change.prepare.drain(..));
    }
    change
}

/// Whether the kernel can be told of the chain without nft.
fn is_direct(chain: &Chain) -> bool {
    chain.hook.is_none() && chain.rules.iter().all(|rule| is_spread(rule))
}

/// Chains and sets of `current` that nothing in `desired` leads to.
pub fn left_over(current: &Observed, desired: &Tables) -> BTreeSet<String> {
    let chains = current.chains.keys().filter(|name| !desired.chains.contains_key(*name));
    chains.chain(current.affinity.iter().filter(|name| !desired.affinity.contains_key(*name))).cloned().collect()
}

/// The transaction that removes these chains and sets of `current`, which must be [`left_over`].
pub fn sweep(current: &Observed, names: &BTreeSet<String>, table: &str) -> Vec<String> {
    let (sets, chains): (Vec<&String>, Vec<&String>) = names.iter().partition(|name| current.affinity.contains(*name));
    // All are emptied first: they may refer to each other.
    let flush = chains.iter().map(|name| format!("flush chain ip {table} {name}"));
    let delete = chains.iter().map(|name| format!("delete chain ip {table} {name}"));
    flush.chain(delete).chain(sets.iter().map(|name| format!("delete set ip {table} {name}"))).collect()
}

fn declare(current: &Observed, desired: &Tables, table: &str, commands: &mut Vec<String>) {
    if !current.exists {
        commands.push(format!("add table ip {table}"));
    }
    for (map, definition) in MAPS {
        if !current.elements.contains_key(map) {
            commands.push(format!("add {}", definition.replacen("{}", &format!("ip {table} {map}"), 1)));
        }
    }
    for (set, definition) in &desired.affinity {
        if !current.affinity.contains(set) {
            commands.push(format!("add set ip {table} {set} {definition}"));
        }
    }
}

/// A chain whose number of rules is not what its name promises was tampered with and is filled again.
fn wrong_chains<'a>(current: &Observed, desired: &'a Tables) -> Vec<(&'a String, &'a Chain)> {
    let wrong = desired.chains.iter().filter(|(name, chain)| {
        let trusts = current.chains.contains_key(*name) && drover_api::mutants::active("E01-never-repairs");
        current.chains.get(*name) != Some(&chain.rules.len()) && !trusts
    });
    wrong.collect()
}

fn add_chains(current: &Observed, wrong: &[(&String, &Chain)], table: &str, commands: &mut Vec<String>) {
    for (name, chain) in wrong {
        let hook = chain.hook.as_ref().map_or_else(String::new, |hook| format!(" {{ {hook} }}"));
        match current.chains.contains_key(*name) {
            true => commands.push(format!("flush chain ip {table} {name}")),
            false => commands.push(format!("add chain ip {table} {name}{hook}")),
        }
    }
    for (name, chain) in wrong {
        commands.extend(chain.rules.iter().map(|rule| format!("add rule ip {table} {name} {rule}")));
    }
}

fn move_elements(
    present: &BTreeMap<String, String>,
    wanted: &BTreeMap<String, String>,
    map: &str,
    commands: &mut Vec<String>,
) {
    let gone: Vec<String> =
        present.iter().filter(|(key, value)| wanted.get(*key) != Some(value)).map(|(key, _)| key.clone()).collect();
    let new = wanted.iter().filter(|(key, value)| present.get(*key) != Some(value));
    let new: Vec<String> = new
        .map(|(key, value)| match value.is_empty() {
            true => key.clone(),
            false => format!("{key} : {value}"),
        })
        .collect();
    if !gone.is_empty() && !drover_api::mutants::active("E01-old-entries-stay") {
        commands.push(format!("delete element {map} {{ {} }}", gone.join(", ")));
    }
    if !new.is_empty() {
        commands.push(format!("add element {map} {{ {} }}", new.join(", ")));
    }
}
