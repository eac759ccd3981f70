//! Aggregated discovery (`apidiscovery.k8s.io` v2 and v2beta1, which differ in name only): one request for all.

use drover_api::kinds::Kind;
use serde_json::{Value, json};

/// Lists the core group (`core`) or all the others.
pub(super) fn list(kinds: &'static [Kind], core: bool, version: &str) -> Value {
    let mut items: Vec<Value> = Vec::new();
    let mut groups: Vec<&str> = Vec::new();
    for kind in kinds.iter().filter(|kind| kind.group.is_empty() == core) {
        if !groups.contains(&kind.group) {
            groups.push(kind.group);
            items.push(group(kinds, kind.group));
        }
    }
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {},
        "items": items,
    })
}

fn group(kinds: &'static [Kind], name: &str) -> Value {
    let mut versions: Vec<(&str, Vec<Value>)> = Vec::new();
    for kind in kinds.iter().filter(|kind| kind.group == name) {
        match versions.iter_mut().find(|(version, _)| *version == kind.version) {
            Some((_, resources)) => resources.push(resource(kind)),
            None => versions.push((kind.version, vec![resource(kind)])),
        }
    }
    let versions: Vec<Value> = versions
        .into_iter()
        .map(|(version, resources)| json!({"version": version, "resources": resources, "freshness": "Current"}))
        .collect();
    let metadata = if name.is_empty() { json!({}) } else { json!({"name": name}) };
    json!({"metadata": metadata, "versions": versions})
}

fn resource(kind: &'static Kind) -> Value {
    let mut entry = json!({
        "resource": kind.plural,
        "responseKind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
        "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": kind.singular,
        "verbs": kind.verbs,
    });
    if !kind.short_names.is_empty() {
        entry["shortNames"] = json!(kind.short_names);
    }
    if !kind.categories.is_empty() {
        entry["categories"] = json!(kind.categories);
    }
    let subresources: Vec<Value> = kind
        .subresources
        .iter()
        .filter_map(|name| kind.subresource(name))
        .map(|sub| {
            json!({
                "subresource": sub.name,
                "responseKind": {"group": sub.group, "version": sub.version, "kind": sub.kind},
                "verbs": sub.verbs,
            })
        })
        .collect();
    if !subresources.is_empty() {
        entry["subresources"] = subresources.into();
    }
    entry
}
