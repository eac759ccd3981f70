//! The discovery documents that every client understands: APIVersions, APIGroupList, APIGroup, APIResourceList.

use drover_api::kinds::{Durability, Kind};
use serde_json::{Value, json};

use super::storage_version_hash;

pub(super) fn api_versions(server_address: &str) -> Value {
    json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": server_address}],
    })
}

pub(super) fn group_list(kinds: &[Kind]) -> Value {
    let mut names: Vec<&str> = Vec::new();
    for kind in kinds {
        if !kind.group.is_empty() && !names.contains(&kind.group) {
            names.push(kind.group);
        }
    }
    let groups: Vec<Value> = names.into_iter().map(|name| group_entry(kinds, name)).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

pub(super) fn group(kinds: &[Kind], name: &str) -> Value {
    let mut group = group_entry(kinds, name);
    group["kind"] = "APIGroup".into();
    group["apiVersion"] = "v1".into();
    group
}

pub(super) fn resource_list(kinds: &'static [Kind], group: &str, version: &str) -> Value {
    let served = kinds.iter().filter(|kind| kind.group == group && kind.version == version);
    let resources: Vec<Value> = served.flat_map(resources).collect();
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources})
}

fn group_entry(kinds: &[Kind], name: &str) -> Value {
    let mut versions: Vec<Value> = Vec::new();
    for kind in kinds.iter().filter(|kind| kind.group == name) {
        let version = json!({"groupVersion": kind.api_version(), "version": kind.version});
        if !versions.contains(&version) {
            versions.push(version);
        }
    }
    json!({"name": name, "preferredVersion": versions.first(), "versions": versions})
}

fn resources(kind: &'static Kind) -> Vec<Value> {
    let mut main = json!({
        "name": kind.plural,
        "singularName": kind.singular,
        "namespaced": kind.namespaced,
        "kind": kind.kind,
        "verbs": kind.verbs,
    });
    if !kind.short_names.is_empty() {
        main["shortNames"] = json!(kind.short_names);
    }
    if !kind.categories.is_empty() {
        main["categories"] = json!(kind.categories);
    }
    if kind.durability != Durability::Virtual {
        main["storageVersionHash"] = storage_version_hash(kind).into();
    }
    let mut all = vec![main];
    for sub in kind.subresources.iter().filter_map(|name| kind.subresource(name)) {
        let mut entry = json!({
            "name": format!("{}/{}", kind.plural, sub.name),
            "singularName": "",
            "namespaced": kind.namespaced,
            "kind": sub.kind,
            "verbs": sub.verbs,
        });
        if (sub.group, sub.version) != (kind.group, kind.version) {
            entry["group"] = sub.group.into();
            entry["version"] = sub.version.into();
        }
        all.push(entry);
    }
    all
}
