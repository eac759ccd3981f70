//! The planner's laws: bounds, fixed point, only what it owns, names that repeat.
#![expect(clippy::needless_pass_by_value, reason = "tables read better with values")]

use std::sync::Arc;

use drover_invariants::{World, check_step};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::plan::{Action, BURST_MAX, Observed, Plan, plan};
use super::pod_name;

fn now() -> Timestamp {
    "2026-01-01T12:00:00Z".parse().unwrap()
}

fn ago(seconds: i64) -> String {
    (now() - SignedDuration::from_secs(seconds)).to_string()
}

fn set(replicas: i32) -> ReplicaSet {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "shop", "uid": "rs-1", "generation": 3},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
                 "template": {"metadata": {"labels": {"app": "web"}}}}
    }))
    .unwrap()
}

fn pod(name: &str, extra: Value) -> Value {
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}"), "labels": {"app": "web"},
            "creationTimestamp": ago(600),
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "rs-1", "controller": true}]},
        "spec": {"nodeName": "n1", "containers": []},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": ago(500)}]}
    });
    json_patch::merge(&mut pod, &extra);
    pod
}

fn observe(pods: Vec<Value>) -> Observed {
    let pods: Vec<Arc<Pod>> = pods.into_iter().map(|pod| Arc::new(serde_json::from_value(pod).unwrap())).collect();
    let taken_names = pods.iter().map(|pod| pod.metadata.name.clone().unwrap()).collect();
    Observed { pods, taken_names, ..Observed::default() }
}

fn text(plan: &Plan) -> Vec<String> {
    let actions = plan.ownership.iter().chain(&plan.deletions).chain(&plan.creations);
    actions.map(ToString::to_string).collect()
}

fn slot(number: u32) -> String {
    pod_name("web", "rs-1", number)
}

#[test]
fn a_surplus_pod_of_a_state_newer_than_a_restored_backup_is_kept_until_that_is_confirmed() {
    let at = |seconds| json!({"metadata": {"creationTimestamp": ago(seconds)}});
    let pods = || vec![pod("backed-up", at(600)), pod("newer", at(300)), pod("after", at(60))];
    let restored = |taken: i64, restored: i64| {
        let time = |seconds| now() - SignedDuration::from_secs(seconds);
        Some(drover_api::restored::Unconfirmed { taken_at: time(taken), restored_at: time(restored) })
    };
    let planned = |unconfirmed| {
        let plan = plan(&set(0), &Observed { unconfirmed, ..observe(pods()) }, now());
        (text(&plan), plan.kept.is_some())
    };
    let all = ["delete after", "delete backed-up", "delete newer"].map(str::to_owned);
    let sorted = |(mut actions, kept): (Vec<String>, bool)| {
        actions.sort();
        (actions, kept)
    };
    assert_eq!(sorted(planned(None)), (all.to_vec(), false));
    let (rest, kept) = sorted(planned(restored(400, 100)));
    assert_eq!((rest, kept), (all[..2].to_vec(), true));
    assert_eq!(sorted(planned(restored(1000, 700))), (all.to_vec(), false));
}

#[test]
fn missing_pods_take_the_lowest_free_names() {
    let plan = plan(&set(3), &observe(vec![pod(&slot(1), json!({}))]), now());
    assert_eq!(text(&plan), [format!("create {}", slot(0)), format!("create {}", slot(2))]);
}

#[test]
fn what_went_with_its_host_is_replaced_first_and_deleted_then_and_counts_again_when_it_is_back() {
    let gone = json!({"status": {"conditions": [{"type": "Ready", "status": "False", "reason": "HostDown"}]}});
    let starting = json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}});
    let planned = |second: Value, third: Option<Value>| {
        let third = third.map(|extra| pod(&slot(2), extra));
        let pods = [pod(&slot(0), json!({})), pod(&slot(1), second)].into_iter().chain(third).collect();
        let plan = plan(&set(2), &observe(pods), now());
        (text(&plan), plan.status.replicas, plan.status.ready_replicas)
    };
    let nothing = Vec::<String>::new;
    assert_eq!(planned(gone.clone(), None), (vec![format!("create {}", slot(2))], 1, Some(1)));
    assert_eq!(planned(gone.clone(), Some(starting.clone())), (nothing(), 2, Some(1)), "not while that only starts");
    assert_eq!(planned(gone.clone(), Some(json!({}))), (vec![format!("delete {}", slot(1))], 2, Some(2)));
    let (back, replicas, _) = planned(json!({}), Some(starting));
    assert_eq!((back, replicas), (vec![format!("delete {}", slot(2))], 3), "the one that serves stays");
    let scaled = plan(&set(0), &observe(vec![pod(&slot(0), gone)]), now());
    assert_eq!(text(&scaled), [format!("delete {}", slot(0))]);
}

#[test]
fn planning_twice_over_one_view_names_the_same_pods() {
    let observed = observe(vec![]);
    assert_eq!(plan(&set(5), &observed, now()), plan(&set(5), &observed, now()));
}

#[test]
fn a_name_held_by_a_terminating_or_foreign_pod_is_passed_over() {
    let foreign = pod(&slot(0), json!({"metadata": {"labels": {"app": "other"}, "ownerReferences": null}}));
    let terminating = pod(&slot(1), json!({"metadata": {"deletionTimestamp": ago(1)}}));
    let plan = plan(&set(1), &observe(vec![foreign, terminating]), now());
    assert_eq!(text(&plan), [format!("create {}", slot(2))]);
}

#[test]
fn an_orphan_that_matches_is_adopted_and_counts_at_once() {
    let orphan = pod("stray", json!({"metadata": {"ownerReferences": null}}));
    assert_eq!(text(&plan(&set(1), &observe(vec![orphan]), now())), ["adopt stray"]);
}

#[test]
fn a_pod_of_another_controller_is_never_touched() {
    let foreign = pod(
        "other",
        json!({"metadata": {"ownerReferences": [
        {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "rs-0", "controller": true}]}}),
    );
    assert_eq!(text(&plan(&set(0), &observe(vec![foreign]), now())), Vec::<String>::new());
}

#[test]
fn a_pod_whose_labels_changed_is_released_and_replaced() {
    let changed = pod(&slot(0), json!({"metadata": {"labels": {"app": "debug"}}}));
    let plan = plan(&set(1), &observe(vec![changed]), now());
    assert_eq!(text(&plan), [format!("release {}", slot(0)), format!("create {}", slot(1))]);
}

#[test]
fn a_set_that_is_being_deleted_does_nothing() {
    let mut set = set(5);
    set.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now()));
    assert_eq!(text(&plan(&set, &observe(vec![]), now())), Vec::<String>::new());
}

#[test]
fn the_pod_missed_least_goes_first() {
    let order = [
        pod("a-unscheduled", json!({"spec": {"nodeName": null}, "status": {"phase": "Pending", "conditions": null}})),
        pod("b-pending", json!({"status": {"phase": "Pending", "conditions": null}})),
        pod("c-not-ready", json!({"status": {"conditions": null}})),
        pod("d-cheap", json!({"metadata": {"annotations": {"controller.kubernetes.io/pod-deletion-cost": "-5"}}})),
        pod("e-crowded", json!({"spec": {"nodeName": "n2"}})),
        pod(
            "f-ready-lately",
            json!({"status": {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": ago(3)}]}}),
        ),
        pod(
            "g-restarted",
            json!({"status": {"containerStatuses": [
            {"name": "c", "image": "i", "imageID": "", "ready": true, "restartCount": 4}]}}),
        ),
        pod("h-younger", json!({"metadata": {"creationTimestamp": ago(20)}})),
        pod("i-best", json!({})),
    ];
    for keep in 0..order.len() {
        let mut observed = observe(order.to_vec());
        observed.ready_on_node = [("n1".to_owned(), 1), ("n2".to_owned(), 2)].into();
        observed.pods.reverse();
        let plan = plan(&set(i32::try_from(keep).unwrap()), &observed, now());
        let names: Vec<_> =
            order[..order.len() - keep].iter().map(|pod| pod["metadata"]["name"].as_str().unwrap()).collect();
        let expected: Vec<_> = names.iter().map(|name| format!("delete {name}")).collect();
        assert_eq!(text(&plan), expected);
    }
}

#[test]
fn a_scale_beyond_the_burst_goes_in_steps() {
    assert_eq!(plan(&set(100_000), &observe(vec![]), now()).creations.len(), BURST_MAX);
}

#[test]
fn status_counts_ready_and_available_apart_and_says_when_to_look_again() {
    let mut set = set(2);
    set.spec.as_mut().unwrap().min_ready_seconds = Some(30);
    let fresh = json!({"status": {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": ago(10)}]}});
    let plan = plan(&set, &observe(vec![pod("a", fresh), pod("b", json!({}))]), now());
    assert_eq!(
        (plan.status.replicas, plan.status.ready_replicas, plan.status.available_replicas),
        (2, Some(2), Some(1))
    );
    assert_eq!(plan.requeue_after.map(|delay| delay.as_secs()), Some(20));
    assert_eq!(plan.status.observed_generation, Some(3));
}

fn failed(name: &str, age: i64) -> Value {
    pod(name, json!({"metadata": {"creationTimestamp": ago(age)}, "status": {"phase": "Failed", "conditions": null}}))
}

#[test]
fn a_single_failure_is_replaced_at_once_and_a_streak_waits_longer_each_time() {
    assert_eq!(plan(&set(3), &observe(vec![failed("a", 5)]), now()).creations.len(), 3);
    let three = || vec![failed("a", 40), failed("b", 30), failed("c", 15)];
    let held = plan(&set(3), &observe(three()), now());
    assert_eq!(held.creations, []);
    assert!(held.held_back.unwrap().contains("keep failing"));
    assert_eq!(held.requeue_after.map(|delay| delay.as_secs()), Some(5));
    let mut healthy = three();
    healthy.push(pod("good", json!({"metadata": {"creationTimestamp": ago(10)}})));
    assert_eq!(plan(&set(3), &observe(healthy), now()).creations.len(), 2, "a pod that got ready ends the streak");
}

#[test]
fn a_set_whose_pods_are_always_rejected_makes_few_of_them_in_an_hour() {
    let (mut pods, mut created, start) = (Vec::<Value>::new(), 0, now());
    for second in 0..3600 {
        let at = start + SignedDuration::from_secs(second);
        let plan = plan(&set(1), &observe(pods.clone()), at);
        for action in &plan.deletions {
            let Action::Delete { pod, .. } = action else { panic!("{action}") };
            pods.retain(|existing| existing["metadata"]["name"] != json!(pod));
        }
        for action in &plan.creations {
            let Action::Create { pod } = action else { panic!("{action}") };
            created += 1;
            let mut rejected = failed(pod, 0);
            rejected["metadata"]["creationTimestamp"] = json!(at.to_string());
            pods.push(rejected);
        }
        assert!(pods.len() <= 6, "failed pods pile up");
    }
    assert!((5..=10).contains(&created), "{created} pods in an hour");
}

fn any_pod() -> impl Strategy<Value = Value> {
    let phase = prop_oneof![Just("Pending"), Just("Running"), Just("Failed"), Just("Succeeded"), Just("junk")];
    (0u32..30, phase, any::<bool>(), any::<bool>(), 0..4u8, any::<bool>(), -50i64..5000).prop_map(
        |(number, phase, ready, terminating, owner, labelled, age)| {
            let owners = match owner {
                0 => Value::Null,
                1 => json!([{"apiVersion": "v1", "kind": "ReplicaSet", "name": "x", "uid": "rs-x", "controller": true}]),
                _ => json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "rs-1", "controller": true}]),
            };
            let conditions = json!([{"type": "Ready", "status": if ready { "True" } else { "False" }}]);
            pod(&slot(number), json!({
                "metadata": {"ownerReferences": owners, "creationTimestamp": ago(age),
                    "deletionTimestamp": terminating.then(|| ago(1)),
                    "labels": {"app": if labelled { "web" } else { "other" }}},
                "status": {"phase": phase, "conditions": conditions}}))
        },
    )
}

/// Carries out a plan on a list of pods, as the API server would.
fn enact(plan: &Plan, pods: &mut Vec<Value>) {
    for action in plan.ownership.iter().chain(&plan.deletions).chain(&plan.creations) {
        match action {
            Action::Adopt { pod: name, .. } => {
                let found = pods.iter_mut().find(|pod| pod["metadata"]["name"] == json!(name)).unwrap();
                found["metadata"]["ownerReferences"] = pod("x", json!({}))["metadata"]["ownerReferences"].clone();
            }
            Action::Release { pod: name, .. } => {
                let found = pods.iter_mut().find(|pod| pod["metadata"]["name"] == json!(name)).unwrap();
                found["metadata"]["ownerReferences"] = Value::Null;
            }
            Action::Create { pod: name } => {
                pods.push(pod(name, json!({"metadata": {"creationTimestamp": now().to_string()}})))
            }
            Action::Delete { pod: name, .. } => pods.retain(|pod| pod["metadata"]["name"] != json!(name)),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn whatever_there_is_the_plan_is_bounded_owned_and_settles(
        mut pods in proptest::collection::vec(any_pod(), 0..25), replicas in 0i32..12,
    ) {
        pods.sort_by_key(|pod| pod["metadata"]["name"].to_string());
        pods.dedup_by_key(|pod| pod["metadata"]["name"].to_string());
        let observed = observe(pods.clone());
        let first = plan(&set(replicas), &observed, now());

        let mut reversed = observed.clone();
        reversed.pods.reverse();
        prop_assert_eq!(&first, &plan(&set(replicas), &reversed, now()), "order of the input matters");

        for action in &first.deletions {
            let Action::Delete { uid, .. } = action else { return Err(TestCaseError::fail("not a deletion")) };
            let target = observed.pods.iter().find(|pod| pod.metadata.uid.as_ref() == Some(uid)).unwrap();
            let adopted = first.ownership.iter().any(|a| matches!(a, Action::Adopt { uid: other, .. } if other == uid));
            prop_assert!(adopted || crate::objects::owners::is_controlled_by(&target.metadata, "rs-1"), "foreign pod deleted");
        }
        for action in &first.creations {
            let Action::Create { pod } = action else { return Err(TestCaseError::fail("not a creation")) };
            prop_assert!(!observed.taken_names.contains(pod), "name taken");
        }

        let world = |pods: &[Value]| World {
            replica_sets: vec![set(replicas)],
            pods: pods.iter().map(|pod| serde_json::from_value(pod.clone()).unwrap()).collect(),
            ..World::default()
        };
        let before = world(&pods);
        enact(&first, &mut pods);
        prop_assert_eq!(check_step(&before, &world(&pods)), vec![]);
        if first.held_back.is_none() {
            let mut steps = 0;
            loop {
                let again = plan(&set(replicas), &observe(pods.clone()), now());
                if text(&again).is_empty() { break; }
                steps += 1;
                prop_assert!(steps < 15, "does not settle: {:?}", text(&again));
                enact(&again, &mut pods);
            }
        }
    }
}
