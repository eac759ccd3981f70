//! Decisions as tables, and the index against a rebuild from scratch.

use expect_test::{Expect, expect};
use k8s_openapi::api::core::v1::{Node, Pod};
use proptest::prelude::{Strategy as _, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};
use serde_json::{Value, json};

use super::*;
use crate::scheduler::node::Offer;
use crate::scheduler::shape::Placed;

fn node(name: &str, change: Value) -> Node {
    let mut node = json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "spec": {},
        "status": {"allocatable": {"cpu": "2", "memory": "1Gi", "pods": "10"},
                   "conditions": [{"type": "Ready", "status": "True"}]},
    });
    json_patch(&mut node, change);
    serde_json::from_value(node).expect("a node")
}

fn pod(change: Value) -> Pod {
    let mut pod = json!({"metadata": {"name": "p", "uid": "p"}, "spec": {"containers": [{"name": "c"}]}});
    json_patch(&mut pod, change);
    serde_json::from_value(pod).expect("a pod")
}

fn asking(cpu: &str) -> Value {
    json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}})
}

fn json_patch(target: &mut Value, change: Value) {
    match (target, change) {
        (Value::Object(target), Value::Object(change)) => {
            for (key, value) in change {
                json_patch(target.entry(key).or_insert(Value::Null), value);
            }
        }
        (target, change) => *target = change,
    }
}

fn index(nodes: &[Node]) -> Index {
    let mut index = Index::default();
    for node in nodes {
        index.set_node(node.metadata.name.as_deref().unwrap_or_default(), Offer::read(node));
    }
    index
}

fn check_in(index: &mut Index, pod: &Pod, expected: &Expect) {
    let decision = place(index, &Shape::read(pod), &[], Strategy::Spread, 0);
    let verdicts: Vec<String> = decision.trace.nodes.iter().map(|v| format!("  {}: {}", v.node, v.why)).collect();
    let outcome = decision.node.unwrap_or_else(|message| message);
    expected.assert_eq(&format!("{outcome}\n{}", verdicts.join("\n")));
}

#[test]
fn the_reasons_of_all_nodes_are_counted_and_each_is_explained() {
    let mut index = index(&[
        node("cordoned", json!({"spec": {"unschedulable": true}})),
        node("small", json!({"status": {"allocatable": {"cpu": "500m"}}})),
        node("sick", json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}})),
        node("tainted", json!({"spec": {"taints": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]}})),
    ]);
    check_in(
        &mut index,
        &pod(asking("1")),
        &expect![[r#"
            0/4 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint {gpu: yes}, 1 node(s) were not ready, 1 node(s) were unschedulable.
              cordoned: node(s) were unschedulable
              sick: node(s) were not ready
              small: Insufficient cpu (asks 1000m, 0m of 500m used)
              tainted: node(s) had untolerated taint {gpu: yes} (NoSchedule)"#]],
    );
}

#[test]
fn without_nodes_the_pod_waits_with_that_reason() {
    check_in(
        &mut Index::default(),
        &pod(json!({})),
        &expect![[r"
        0/0 nodes are available: no node has joined.
    "]],
    );
}

#[test]
fn spread_prefers_the_node_with_fewest_siblings_over_the_emptier_one() {
    let mut index = index(&[node("a", json!({})), node("b", json!({}))]);
    let owned = json!({"metadata": {"ownerReferences": [
        {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "rs", "uid": "rs", "controller": true}]}});
    index.set_pod("sibling", "a", Placed::read(&pod(owned.clone())));
    index.set_pod("stranger", "b", Placed::read(&pod(asking("1"))));
    check_in(
        &mut index,
        &pod(owned),
        &expect![[r"
            b
              b: 50% used with the pod, 1 pods
              a: 0% used with the pod, 1 pods, 1 of the same controller"]],
    );
}

#[test]
fn binpack_fills_the_fullest_node_that_fits() {
    let mut index = index(&[node("a", json!({})), node("b", json!({}))]);
    index.set_pod("x", "b", Placed::read(&pod(asking("1"))));
    let shape = Shape::read(&pod(asking("1")));
    let first = place(&mut index, &shape, &[], Strategy::Binpack, 0).node;
    assert_eq!(first, Ok("b".to_owned()));
    index.set_pod("y", "b", shape.placed.clone());
    assert_eq!(place(&mut index, &shape, &[], Strategy::Binpack, 0).node, Ok("a".to_owned()));
}

#[test]
fn random_draws_among_the_nodes_that_fit_and_repeats_for_the_same_draw() {
    let mut index =
        index(&[node("a", json!({})), node("b", json!({})), node("c", json!({"spec": {"unschedulable": true}}))]);
    let shape = Shape::read(&pod(json!({})));
    let draws: Vec<_> =
        (0..4).map(|draw| place(&mut index, &shape, &[], Strategy::Random, draw).node.unwrap()).collect();
    assert_eq!(draws, ["a", "b", "a", "b"]);
}

#[test]
fn a_pod_may_choose_its_strategy() {
    let mut index = index(&[node("a", json!({})), node("b", json!({}))]);
    index.set_pod("x", "b", Placed::read(&pod(asking("1"))));
    let chooses = pod(json!({"metadata": {"annotations": {"drover.dev/placement-strategy": "binpack"}}}));
    assert_eq!(place(&mut index, &Shape::read(&chooses), &[], Strategy::Spread, 0).node, Ok("b".to_owned()));
}

#[test]
fn host_ports_clash_only_where_addresses_overlap() {
    let mut index = index(&[node("a", json!({}))]);
    let with_port = |ip: &str| {
        pod(
            json!({"spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80, "hostIP": ip}]}]}}),
        )
    };
    index.set_pod("x", "a", Placed::read(&with_port("10.0.0.1")));
    assert!(place(&mut index, &Shape::read(&with_port("10.0.0.2")), &[], Strategy::Spread, 0).node.is_ok());
    check_in(
        &mut index,
        &with_port("0.0.0.0"),
        &expect![[r#"
            0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.
              a: node(s) didn't have free ports for the requested pod ports (80/TCP is taken by pod p)"#]],
    );
}

#[test]
fn pods_of_one_controller_share_a_class_whatever_they_are_called() {
    let class = |pod: &Pod| Shape::read(pod).class();
    let replica = |name: &str, cpu: &str| {
        let mut pod = pod(asking(cpu));
        pod.metadata.name = Some(name.to_owned());
        pod.metadata.labels = Some([("pod".to_owned(), name.to_owned())].into());
        pod
    };
    assert_eq!(class(&replica("web-1", "1")), class(&replica("web-2", "1")));
    assert_ne!(class(&replica("web-1", "1")), class(&replica("web-1", "2")));
}

/// What can happen to the index.
#[derive(Debug, Clone)]
enum Step {
    Node(u8, bool, u8),
    Gone(u8),
    Pod(u8, u8, u8),
    Done(u8),
    Look(u8),
}

fn step() -> impl proptest::strategy::Strategy<Value = Step> {
    prop_oneof![
        (0..4u8, any::<bool>(), 0..4u8).prop_map(|(node, cordoned, cpus)| Step::Node(node, cordoned, cpus)),
        (0..4u8).prop_map(Step::Gone),
        (0..6u8, 0..4u8, 0..3u8).prop_map(|(pod, node, cpus)| Step::Pod(pod, node, cpus)),
        (0..6u8).prop_map(Step::Done),
        (0..3u8).prop_map(Step::Look),
    ]
}

proptest! {
    #[test]
    fn the_index_equals_one_built_from_scratch_and_no_node_is_overcommitted(steps in prop::collection::vec(step(), 0..60)) {
        let mut index = Index::default();
        for step in steps {
            match step {
                Step::Node(id, cordoned, cpus) => {
                    let change = json!({"spec": {"unschedulable": cordoned}, "status": {"allocatable": {"cpu": cpus.to_string()}}});
                    index.set_node(&format!("n{id}"), Offer::read(&node(&format!("n{id}"), change)));
                }
                Step::Gone(id) => index.remove_node(&format!("n{id}")),
                Step::Pod(id, on, cpus) => {
                    index.set_pod(&format!("p{id}"), &format!("n{on}"), Placed::read(&pod(asking(&cpus.to_string()))));
                }
                Step::Done(id) => { index.remove_pod(&format!("p{id}")); }
                Step::Look(cpus) => {
                    let shape = Shape::read(&pod(asking(&cpus.to_string())));
                    if let Ok(chosen) = place(&mut index, &shape, &[], Strategy::Spread, 0).node {
                        let on = &index.nodes()[&chosen];
                        let free = on.offer.as_ref().unwrap().allocatable.of("cpu") - on.used.of("cpu");
                        prop_assert!(cpus == 0 || free >= shape.placed.requests.of("cpu"));
                    }
                }
            }
        }
        let mut rebuilt = Index::default();
        for (name, state) in index.nodes().clone() {
            if let Some(offer) = state.offer { rebuilt.set_node(&name, offer); }
            for (uid, placed) in state.pods { rebuilt.set_pod(&uid, &name, placed); }
        }
        for cpus in 0..3u8 {
            let shape = Shape::read(&pod(asking(&cpus.to_string())));
            let (old, new) = (index.class(&shape, Strategy::Spread).clone(), rebuilt.class(&shape, Strategy::Spread).clone());
            prop_assert_eq!(old.order, new.order);
            prop_assert_eq!(old.refusals, new.refusals);
        }
    }
}
