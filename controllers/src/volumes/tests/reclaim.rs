//! What a volume does next.
#![expect(clippy::needless_pass_by_value, reason = "tables read better with values")]

use serde_json::{Value, json};

use super::super::volume::{Observed, plan};
use super::*;

fn check(observed: Observed, expected: &str) {
    assert_eq!(plan(&observed).to_string(), expected);
}

/// A volume that a provisioner made for claim `c1`, in a phase.
fn made(phase: &str, extra: Value) -> Value {
    let base = merged(
        a_volume("v", &held_by("c1")),
        &json!({
        "metadata": {"annotations": {"pv.kubernetes.io/provisioned-by": "drover.dev/local"},
            "finalizers": ["kubernetes.io/pv-protection", "drover.dev/volume"]},
        "status": {"phase": phase}}),
    );
    merged(merged(base, &on_node("n1")), &extra)
}

fn going() -> Value {
    json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})
}

fn claim_of(volume: &str) -> Value {
    a_claim(&json!({"spec": {"volumeName": volume}}))
}

#[test]
fn a_volume_nobody_took_is_available() {
    check(behind(a_volume("v", &json!({"status": {"phase": "Pending"}})), None), "phase Available");
    let reserved =
        json!({"spec": {"claimRef": {"namespace": "shop", "name": "data"}}, "status": {"phase": "Released"}});
    check(behind(a_volume("v", &reserved), Some(a_claim(&json!({})))), "phase Available");
    check(behind(a_volume("v", &json!({})), None), "settled");
}

#[test]
fn a_volume_is_bound_once_its_claim_names_it() {
    check(behind(made("Pending", json!({})), Some(a_claim(&json!({})))), "settled");
    check(behind(made("Pending", json!({})), Some(claim_of("v"))), "phase Bound");
    check(behind(made("Bound", json!({})), Some(claim_of("v"))), "settled");
}

#[test]
fn a_volume_with_a_living_claim_stays_whatever_is_asked_of_it() {
    let waits = "wait: Normal VolumeInUse: deletion waits until claim shop/data is deleted";
    check(behind(made("Bound", going()), Some(claim_of("v"))), waits);
    check(behind(made("Pending", going()), Some(a_claim(&json!({})))), waits);
    check(behind(made("Released", json!({})), Some(claim_of("v"))), "phase Bound");
}

#[test]
fn a_claim_that_is_gone_or_has_become_another_releases_its_volume() {
    check(behind(made("Bound", json!({})), None), "phase Released");
    let other = a_claim(&json!({"metadata": {"uid": "c2"}, "spec": {"volumeName": "v"}}));
    check(behind(made("Bound", json!({})), Some(other)), "phase Released");
}

#[test]
fn delete_removes_the_object_only_after_its_data_is_guarded_and_then_leaves_the_rest_to_the_agent() {
    check(behind(made("Released", json!({})), None), "delete uid-v");
    let unguarded = json!({"metadata": {"finalizers": ["kubernetes.io/pv-protection"]}});
    check(behind(made("Released", unguarded), None), "guard data");
    let deleted = made("Released", going());
    check(behind(deleted.clone(), None), "remove finalizer kubernetes.io/pv-protection");
    let unprotected = merged(deleted, &json!({"metadata": {"finalizers": ["drover.dev/volume"]}}));
    check(behind(unprotected.clone(), None), "settled");
    check(
        Observed { nodes: vec![], ..behind(unprotected, None) },
        "wait: Warning VolumeNodeNotFound: node \"n1\", which holds the data of volume \"v\", does not exist, so the \
         data cannot be removed; deletion waits for the node, or for finalizer drover.dev/volume to be removed by hand",
    );
}

#[test]
fn retain_and_policies_nobody_knows_keep_the_volume() {
    for policy in ["Retain", "Whatever"] {
        let kept = json!({"spec": {"persistentVolumeReclaimPolicy": policy}});
        check(behind(made("Bound", kept.clone()), None), "phase Released");
        check(behind(made("Released", kept), None), "settled");
    }
}

#[test]
fn a_retained_volume_that_the_user_deletes_goes_without_its_data_being_touched() {
    let kept = merged(json!({"spec": {"persistentVolumeReclaimPolicy": "Retain"}}), &going());
    let first = made("Released", kept);
    check(behind(first.clone(), None), "remove finalizer kubernetes.io/pv-protection");
    let then = merged(first, &json!({"metadata": {"finalizers": ["drover.dev/volume"]}}));
    check(behind(then, None), "remove finalizer drover.dev/volume");
}

#[test]
fn a_volume_whose_data_nobody_here_can_delete_fails_or_waits_for_whoever_can() {
    let host_path = json!({"metadata": {"annotations": null}, "spec": {"csi": null, "hostPath": {"path": "/x"}}});
    check(
        behind(made("Bound", host_path.clone()), None),
        "phase Failed, Warning VolumeFailedDelete: the volume's data cannot be deleted: no driver for this type of volume",
    );
    check(behind(made("Failed", host_path), None), "settled");
    let foreign = json!({"spec": {"csi": {"driver": "ceph.com/rbd"}}});
    check(behind(made("Released", foreign), None), "settled");
    let recycle = json!({"spec": {"persistentVolumeReclaimPolicy": "Recycle"}});
    check(
        behind(made("Bound", recycle), None),
        "phase Failed, Warning VolumeFailedRecycle: the volume cannot be recycled: use Delete or Retain",
    );
}

#[test]
fn a_volume_taken_and_never_used_is_free_again() {
    let ours = json!({"metadata": {"annotations": {"pv.kubernetes.io/bound-by-controller": "yes"}}});
    let taken = merged(a_volume("v", &held_by("c1")), &ours);
    check(behind(taken.clone(), None), "free");
    check(behind(taken, Some(claim_of("other"))), "free");
    check(behind(a_volume("v", &held_by("c1")), None), "free, still reserved");
}

#[test]
fn a_volume_made_for_a_claim_that_went_elsewhere_is_kept_while_that_claim_lives() {
    check(
        behind(made("Pending", json!({})), Some(claim_of("other"))),
        "wait: Warning VolumeMisbound: the claim that took this volume is bound to another; the volume is kept until \
         the claim is deleted",
    );
    check(behind(made("Pending", json!({})), None), "phase Released");
}
