//! What a claim does next.
#![expect(clippy::needless_pass_by_value, reason = "tables read better with values")]

use k8s_openapi::api::core::v1::{PersistentVolume, Pod};
use serde_json::{Value, json};

use super::super::claim::{Observed, plan, uses};
use super::super::plan::{ClaimAction, Plan};
use super::*;

fn check(observed: Observed, expected: &str) {
    assert_eq!(plan(&observed).to_string(), expected);
}

fn selected(node: &str) -> Value {
    json!({"metadata": {"annotations": {"volume.kubernetes.io/selected-node": node}}})
}

fn bound_to(volume: &str) -> Value {
    json!({"metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}}, "spec": {"volumeName": volume}})
}

fn provisioned(observed: &Observed) -> PersistentVolume {
    match plan(observed) {
        Plan::Act(ClaimAction::Provision { volume }) => *volume,
        other => panic!("not provisioned: {other}"),
    }
}

fn class(observed: Observed, provisioner: &str, extra: Value) -> Observed {
    Observed { class: Some(typed(a_class(provisioner, "Immediate", &extra))), ..observed }
}

fn sized(name: &str, size: &str) -> Value {
    a_volume(name, &json!({"spec": {"capacity": {"storage": size}}}))
}

#[test]
fn the_smallest_volume_that_fits_is_taken() {
    let volumes = vec![sized("big", "9Gi"), sized("b", "2Gi"), sized("a", "2Gi"), sized("small", "1Mi")];
    check(around(a_claim(&json!({})), volumes), "take volume a (our choice)");
}

#[test]
fn a_volume_that_differs_in_anything_asked_for_is_passed_over() {
    let misfits = [
        json!({"spec": {"storageClassName": "other"}}),
        json!({"spec": {"storageClassName": null}}),
        json!({"spec": {"accessModes": ["ReadOnlyMany"]}}),
        json!({"spec": {"volumeMode": "Block"}}),
        json!({"spec": {"capacity": {"storage": "1023Mi"}}}),
        json!({"spec": {"capacity": {"storage": "junk"}}}),
        json!({"spec": {"claimRef": {"namespace": "shop", "name": "other"}}}),
        json!({"spec": {"claimRef": {"namespace": "mall", "name": "data"}}}),
        json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
        json!({"status": {"phase": "Released"}}),
        json!({"status": {"phase": "Failed"}}),
    ];
    for misfit in misfits {
        check(around(a_claim(&json!({})), vec![a_volume("v", &misfit)]), "provision pvc-c1");
    }
}

#[test]
fn a_selector_picks_volumes_by_label_and_forbids_making_one() {
    let claim = a_claim(&json!({"spec": {"selector": {"matchLabels": {"disk": "fast"}}}}));
    let fast = a_volume("fast", &json!({"metadata": {"labels": {"disk": "fast"}}}));
    check(around(claim.clone(), vec![a_volume("a", &json!({})), fast]), "take volume fast (our choice)");
    check(
        around(claim, vec![a_volume("a", &json!({}))]),
        "wait: Warning ProvisioningFailed: claim.spec.selector is not supported by provisioner \"drover.dev/local\"",
    );
}

#[test]
fn a_volume_that_the_user_reserved_comes_before_smaller_ones() {
    let reserved = merged(sized("mine", "9Gi"), &json!({"spec": {"claimRef": {"namespace": "shop", "name": "data"}}}));
    check(
        around(a_claim(&json!({})), vec![sized("a", "1Gi"), reserved.clone()]),
        "take volume mine (the user's choice)",
    );
    check(waiting_class(around(a_claim(&json!({})), vec![reserved])), "take volume mine (the user's choice)");
}

#[test]
fn a_claim_recreated_under_the_same_name_never_gets_the_volume_of_the_old_uid() {
    let old = a_volume("old", &held_by("c0"));
    check(around(a_claim(&json!({})), vec![old.clone()]), "provision pvc-c1");
    let named = a_claim(&json!({"spec": {"volumeName": "old"}}));
    check(around(named, vec![old]), "wait: Warning FailedBinding: volume \"old\" already bound to a different claim");
}

#[test]
fn binding_goes_on_from_wherever_it_was_interrupted() {
    let taken = a_volume("v", &held_by("c1"));
    check(around(a_claim(&json!({})), vec![sized("a", "1Gi"), taken.clone()]), "name volume v (our choice)");
    let named = around(a_claim(&bound_to("v")), vec![taken.clone()]);
    check(named, "settled");
    let in_phase = merged(taken, &json!({"status": {"phase": "Bound"}}));
    check(around(a_claim(&bound_to("v")), vec![in_phase.clone()]), "phase Bound");
    let status =
        json!({"status": {"phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}}});
    let done = merged(a_claim(&bound_to("v")), &status);
    check(around(done, vec![merged(in_phase, &on_node("n1"))]), "settled");
}

#[test]
fn a_volume_taken_by_this_claim_is_bound_even_while_it_is_being_deleted() {
    let taken =
        merged(a_volume("v", &held_by("c1")), &json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}));
    check(around(a_claim(&json!({})), vec![taken]), "name volume v (our choice)");
}

#[test]
fn a_volume_that_the_user_names_is_taken_when_it_fits() {
    let claim = a_claim(&json!({"spec": {"volumeName": "v"}}));
    check(around(claim.clone(), vec![a_volume("v", &json!({}))]), "take volume v (the user's choice)");
    check(around(claim.clone(), vec![a_volume("v", &held_by("c1"))]), "name volume v (the user's choice)");
    check(
        around(claim.clone(), vec![sized("v", "1Mi")]),
        "wait: Warning VolumeMismatch: Cannot bind to requested volume \"v\": requested PV is too small",
    );
    check(
        around(claim.clone(), vec![a_volume("v", &json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}))]),
        "wait: Warning FailedBinding: volume \"v\" is being deleted",
    );
    check(around(claim, vec![]), "wait: Warning FailedBinding: volume \"v\" is named by this claim and does not exist");
}

#[test]
fn a_claim_that_waits_for_its_consumer_does_nothing_before_a_node_is_selected() {
    check(
        waiting_class(around(a_claim(&json!({})), vec![a_volume("v", &json!({}))])),
        "wait: Normal WaitForFirstConsumer: waiting for first consumer to be created before binding",
    );
}

#[test]
fn a_selected_node_must_reach_the_volume() {
    let (here, there) = (merged(sized("z", "2Gi"), &on_node("n1")), merged(sized("a", "1Gi"), &on_node("n2")));
    let claim = a_claim(&selected("n1"));
    check(waiting_class(around(claim.clone(), vec![there.clone(), here])), "take volume z (our choice)");
    check(waiting_class(around(claim, vec![there])), "provision pvc-c1");
}

#[test]
fn a_selected_node_that_does_not_exist_is_waited_for() {
    check(
        waiting_class(around(a_claim(&selected("gone")), vec![])),
        "wait: Warning ProvisioningFailed: node \"gone\", selected for the volume, does not exist",
    );
}

#[test]
fn a_local_volume_is_made_on_the_selected_node_for_exactly_this_claim() {
    let mut observed = waiting_class(around(a_claim(&selected("n2")), vec![]));
    observed.nodes = vec![typed(a_node("n1", true)), typed(a_node("n2", false))];
    let expected = json!({
        "apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": {"name": "pvc-c1", "annotations": {"pv.kubernetes.io/provisioned-by": "drover.dev/local"},
            "finalizers": ["kubernetes.io/pv-protection", "drover.dev/volume"]},
        "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"},
            "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": "shop", "name": "data", "uid": "c1"},
            "csi": {"driver": "drover.dev/local", "volumeHandle": "pvc-c1"},
            "nodeAffinity": on_node("n2")["spec"]["nodeAffinity"],
            "persistentVolumeReclaimPolicy": "Delete", "storageClassName": "local", "volumeMode": "Filesystem"}
    });
    assert_eq!(serde_json::to_value(provisioned(&observed)).unwrap(), expected);
}

#[test]
fn a_docker_volume_carries_its_driver_and_options_and_is_of_one_node_unless_the_class_says_otherwise() {
    let parameters =
        json!({"reclaimPolicy": "Retain", "mountOptions": ["ro"], "parameters": {"type": "nfs", "o": "addr=1.2.3.4"}});
    let observed = class(around(a_claim(&json!({})), vec![]), "drover.dev/docker", parameters);
    let spec = provisioned(&observed).spec.unwrap();
    let csi = spec.csi.clone().unwrap();
    assert_eq!(csi.volume_handle, "drover-pvc-c1");
    assert_eq!(json!(csi.volume_attributes), json!({"driver": "local", "type": "nfs", "o": "addr=1.2.3.4"}));
    assert_eq!(json!(spec.node_affinity), on_node("n1")["spec"]["nodeAffinity"]);
    assert_eq!(spec.persistent_volume_reclaim_policy.as_deref(), Some("Retain"));

    let shared = json!({"parameters": {"scope": "cluster", "driver": "ceph"}});
    let claim = a_claim(&json!({"spec": {"accessModes": ["ReadWriteMany"]}}));
    let spec = provisioned(&class(around(claim, vec![]), "drover.dev/docker", shared)).spec.unwrap();
    assert_eq!(spec.node_affinity, None);
    assert_eq!(json!(spec.csi.unwrap().volume_attributes), json!({"driver": "ceph"}));
}

#[test]
fn an_immediate_claim_goes_to_the_same_ready_node_whatever_the_order() {
    let mut observed = around(a_claim(&json!({})), vec![]);
    observed.nodes = ["n1", "n2", "n3"].map(|name| typed(a_node(name, name != "n2"))).to_vec();
    let first = provisioned(&observed);
    observed.nodes.reverse();
    assert_eq!(provisioned(&observed), first);
    assert_ne!(json!(first.spec.unwrap().node_affinity), on_node("n2")["spec"]["nodeAffinity"]);
    observed.nodes = vec![typed(a_node("n2", false))];
    check(observed, "wait: Warning ProvisioningFailed: no ready node can take the volume");
}

#[test]
fn allowed_topologies_bind_the_choice_of_a_node() {
    let topology = json!({"allowedTopologies": [{"matchLabelExpressions": [{"key": "kubernetes.io/hostname", "values": ["n2"]}]}]});
    let observed = class(around(a_claim(&json!({})), vec![]), "drover.dev/local", topology.clone());
    check(observed, "wait: Warning ProvisioningFailed: no ready node can take the volume");
    let observed = class(around(a_claim(&selected("n1")), vec![]), "drover.dev/local", topology);
    check(
        observed,
        "wait: Warning ProvisioningFailed: node \"n1\" is outside the allowed topologies of storage class \"local\"",
    );
}

#[test]
fn what_a_provisioner_cannot_make_is_refused_with_the_reason() {
    let refused = |extra: Value| plan(&around(a_claim(&extra), vec![])).to_string();
    assert_eq!(
        refused(json!({"spec": {"accessModes": ["ReadWriteMany"]}})),
        "wait: Warning ProvisioningFailed: access mode ReadWriteMany is not supported: volumes of provisioner \
         \"drover.dev/local\" belong to one node"
    );
    assert_eq!(
        refused(json!({"spec": {"volumeMode": "Block"}})),
        "wait: Warning ProvisioningFailed: provisioner \"drover.dev/local\" makes no block volumes"
    );
    assert_eq!(
        refused(json!({"spec": {"dataSource": {"kind": "PersistentVolumeClaim", "name": "x"}}})),
        "wait: Warning ProvisioningFailed: claim.spec.dataSource is not supported by provisioner \"drover.dev/local\""
    );
    let scope =
        class(around(a_claim(&json!({})), vec![]), "drover.dev/docker", json!({"parameters": {"scope": "moon"}}));
    check(
        scope,
        "wait: Warning ProvisioningFailed: storage class parameter scope is \"moon\"; it must be node or cluster",
    );
}

#[test]
fn a_name_that_is_taken_by_another_volume_is_never_used() {
    check(
        around(a_claim(&json!({})), vec![a_volume("pvc-c1", &held_by("c0"))]),
        "wait: Warning ProvisioningFailed: persistentvolume \"pvc-c1\" exists already and is not this claim's",
    );
}

#[test]
fn a_claim_without_a_usable_class_says_so() {
    let without = a_claim(&json!({"spec": {"storageClassName": ""}}));
    check(
        Observed { class: None, ..around(without, vec![]) },
        "wait: Normal FailedBinding: no persistent volumes available for this claim and no storage class is set",
    );
    check(
        Observed { class: None, ..around(a_claim(&json!({})), vec![]) },
        "wait: Warning ProvisioningFailed: storageclass.storage.k8s.io \"local\" not found",
    );
    check(
        class(around(a_claim(&json!({})), vec![]), "kubernetes.io/no-provisioner", json!({})),
        "wait: Normal FailedBinding: no persistent volumes available for this claim and storage class \"local\" makes none",
    );
}

#[test]
fn a_provisioner_that_is_not_ours_is_asked_once_and_waited_for() {
    let observed = class(around(a_claim(&json!({})), vec![]), "ceph.com/rbd", json!({}));
    check(observed.clone(), "ask ceph.com/rbd");
    let asked = json!({"metadata": {"annotations": {"volume.kubernetes.io/storage-provisioner": "ceph.com/rbd"}}});
    check(
        Observed { claim: typed(a_claim(&asked)), ..observed },
        "wait: Normal ExternalProvisioning: waiting for a volume to be created, either by external provisioner \
         \"ceph.com/rbd\" or by hand; if it takes long, check that the provisioner is running",
    );
}

#[test]
fn a_bound_claim_without_its_volume_is_lost_and_found_again() {
    let lost = "phase Lost, Warning ClaimLost: Bound claim has lost its PersistentVolume. Data on the volume is lost!";
    check(around(a_claim(&bound_to("v")), vec![]), lost);
    check(
        around(a_claim(&bound_to("v")), vec![a_volume("v", &held_by("c2"))]),
        "phase Lost, Warning ClaimMisbound: Two claims are bound to the same volume, this one is bound incorrectly",
    );
    let is_lost = merged(a_claim(&bound_to("v")), &json!({"status": {"phase": "Lost"}}));
    check(around(is_lost.clone(), vec![a_volume("v", &json!({}))]), "take volume v (the user's choice)");
    let back = merged(a_volume("v", &held_by("c1")), &json!({"status": {"phase": "Bound"}}));
    check(around(is_lost, vec![back]), "phase Bound");
}

#[test]
fn a_claim_whose_node_is_gone_keeps_its_volume_and_says_what_it_waits_for() {
    let status =
        json!({"status": {"phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}}});
    let claim = merged(a_claim(&bound_to("v")), &status);
    let volume =
        merged(merged(a_volume("v", &held_by("c1")), &json!({"status": {"phase": "Bound"}})), &on_node("gone"));
    check(
        around(claim, vec![volume]),
        "wait: Warning VolumeNodeNotFound: node \"gone\", which holds the data of volume \"v\", does not exist; the \
         claim keeps waiting for it",
    );
}

#[test]
fn a_claim_being_deleted_stays_while_pods_use_it_and_starts_no_binding() {
    let going = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    let observed = around(a_claim(&going), vec![a_volume("v", &json!({}))]);
    let used = Observed { users: vec!["b".to_owned(), "a".to_owned()], ..observed.clone() };
    check(used, "wait: Normal ClaimInUse: deletion waits until pod a and 1 more has ended");
    check(observed, "unprotect");
    let without = merged(a_claim(&going), &json!({"metadata": {"finalizers": ["else.org/x"]}}));
    check(around(without, vec![]), "settled");
}

#[test]
fn a_pod_uses_a_claim_from_its_binding_to_its_end() {
    let claim = typed::<PersistentVolumeClaim>(a_claim(&json!({})));
    let used_by = |extra: Value| {
        let base = json!({"metadata": {"name": "p", "namespace": "shop", "uid": "p1"}, "spec": {"containers": [], "nodeName": "n1",
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]}});
        uses(&typed::<Pod>(merged(base, &extra)), &claim)
    };
    assert!(used_by(json!({})));
    assert!(used_by(
        json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "status": {"phase": "Running"}})
    ));
    assert!(!used_by(json!({"spec": {"nodeName": null}})));
    assert!(!used_by(json!({"status": {"phase": "Succeeded"}})));
    assert!(!used_by(json!({"metadata": {"namespace": "mall"}})));
    assert!(!used_by(json!({"spec": {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "other"}}]}})));
}
