//! The laws of volumes, as tables and as properties.

mod claims;
mod properties;
mod reclaim;

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{claim, volume};

fn typed<K: DeserializeOwned>(value: Value) -> Arc<K> {
    Arc::new(serde_json::from_value(value).unwrap())
}

fn merged(mut base: Value, extra: &Value) -> Value {
    json_patch::merge(&mut base, extra);
    base
}

/// A claim `shop/data` of class `local` for 1Gi.
fn a_claim(extra: &Value) -> Value {
    let base = json!({
        "metadata": {"name": "data", "namespace": "shop", "uid": "c1", "resourceVersion": "5",
            "finalizers": ["kubernetes.io/pvc-protection"]},
        "spec": {"storageClassName": "local", "volumeMode": "Filesystem", "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}}},
        "status": {"phase": "Pending"}
    });
    merged(base, extra)
}

/// A free volume of class `local` with 1Gi.
fn a_volume(name: &str, extra: &Value) -> Value {
    let base = json!({
        "metadata": {"name": name, "uid": format!("uid-{name}"), "resourceVersion": "7",
            "finalizers": ["kubernetes.io/pv-protection"]},
        "spec": {"storageClassName": "local", "volumeMode": "Filesystem", "accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": "1Gi"}, "persistentVolumeReclaimPolicy": "Delete",
            "csi": {"driver": "drover.dev/local", "volumeHandle": name}},
        "status": {"phase": "Available"}
    });
    merged(base, extra)
}

fn held_by(uid: &str) -> Value {
    json!({"spec": {"claimRef": {"namespace": "shop", "name": "data", "uid": uid}}})
}

fn a_class(provisioner: &str, mode: &str, extra: &Value) -> Value {
    let base = json!({"metadata": {"name": "local"}, "provisioner": provisioner, "volumeBindingMode": mode,
        "reclaimPolicy": "Delete"});
    merged(base, extra)
}

fn a_node(name: &str, ready: bool) -> Value {
    json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {"conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]}})
}

fn on_node(name: &str) -> Value {
    json!({"spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [name]}]}]}}}})
}

/// What surrounds a claim: by default an immediate class of ours and one ready node, `n1`.
fn around(claim: Value, volumes: Vec<Value>) -> claim::Observed {
    claim::Observed {
        claim: typed::<PersistentVolumeClaim>(claim),
        volumes: volumes.into_iter().map(typed::<PersistentVolume>).collect(),
        class: Some(typed::<StorageClass>(a_class("drover.dev/local", "Immediate", &json!({})))),
        nodes: vec![typed::<Node>(a_node("n1", true))],
        users: vec![],
    }
}

fn waiting_class(observed: claim::Observed) -> claim::Observed {
    let class = a_class("drover.dev/local", "WaitForFirstConsumer", &json!({}));
    claim::Observed { class: Some(typed(class)), ..observed }
}

fn behind(volume: Value, claim: Option<Value>) -> volume::Observed {
    volume::Observed {
        volume: typed::<PersistentVolume>(volume),
        claim: claim.map(typed::<PersistentVolumeClaim>),
        nodes: vec![typed::<Node>(a_node("n1", true))],
    }
}
