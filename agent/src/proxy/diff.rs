//! The transaction that turns one table into another. Pure.

use std::collections::BTreeMap;

use super::tables::{MAPS, Observed, Tables};

/// The nft commands from `current` to `desired`, to be applied as one transaction; empty when nothing is to be done.
/// Their number depends on what changed, not on how much there is.
pub fn diff(current: &Observed, desired: &Tables, table: &str) -> Vec<String> {
    let mut commands = Vec::new();
    declare(current, desired, table, &mut commands);
    add_chains(current, desired, table, &mut commands);
    for (map, _) in MAPS {
        let none = BTreeMap::new();
        let present = current.elements.get(map).unwrap_or(&none);
        let wanted = desired.elements.get(map).unwrap_or(&none);
        move_elements(present, wanted, &format!("ip {table} {map}"), &mut commands);
    }
    let stale: Vec<&String> = current.chains.keys().filter(|name| !desired.chains.contains_key(*name)).collect();
    // All are emptied first: they may refer to each other.
    commands.extend(stale.iter().map(|name| format!("flush chain ip {table} {name}")));
    commands.extend(stale.iter().map(|name| format!("delete chain ip {table} {name}")));
    let unused = current.affinity.iter().filter(|name| !desired.affinity.contains_key(*name));
    commands.extend(unused.map(|name| format!("delete set ip {table} {name}")));
    commands
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
fn add_chains(current: &Observed, desired: &Tables, table: &str, commands: &mut Vec<String>) {
    let wrong = desired.chains.iter().filter(|(name, chain)| {
        let trusts = current.chains.contains_key(*name) && drover_api::mutants::active("E01-never-repairs");
        current.chains.get(*name) != Some(&chain.rules.len()) && !trusts
    });
    let wrong: Vec<_> = wrong.collect();
    for (name, chain) in &wrong {
        let hook = chain.hook.as_ref().map_or_else(String::new, |hook| format!(" {{ {hook} }}"));
        match current.chains.contains_key(*name) {
            true => commands.push(format!("flush chain ip {table} {name}")),
            false => commands.push(format!("add chain ip {table} {name}{hook}")),
        }
    }
    // The rules of base chains come last, so that no packet meets a half-filled table even on kernels that would show it.
    let (base, plain): (Vec<_>, Vec<_>) = wrong.into_iter().partition(|(_, chain)| chain.hook.is_some());
    for (name, chain) in plain.into_iter().chain(base) {
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
