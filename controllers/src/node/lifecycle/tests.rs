//! Silence, taints and the brake, as tables.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};

use super::plan::{Action, Observed, Seen, plan, unknown_conditions};

fn now() -> Timestamp {
    "2026-01-01T12:00:00Z".parse().unwrap()
}

fn ago(seconds: i64) -> Timestamp {
    now() - SignedDuration::from_secs(seconds)
}

fn node(name: &str, ready: &str, spec: &Value) -> Node {
    serde_json::from_value(json!({"metadata": {"name": name, "creationTimestamp": ago(5000).to_string()}, "spec": spec,
        "status": {"conditions": [{"type": "Ready", "status": ready}]}}))
    .unwrap()
}

fn seen(node: Node, silence: i64) -> Seen {
    Seen { node: Arc::new(node), heard_at: Some(ago(silence)), pods_ready: true }
}

fn check(nodes: Vec<Seen>, sighted: i64) -> Vec<String> {
    let plan = plan(&Observed { nodes, sighted_since: ago(sighted) }, now());
    plan.actions.iter().map(ToString::to_string).collect()
}

fn fleet(total: usize, lost: usize) -> Vec<Seen> {
    let silence = |number| if number < lost { 60 } else { 1 };
    (0..total).map(|number| seen(node(&format!("n{number:02}"), "True", &json!({})), silence(number))).collect()
}

#[test]
fn a_node_that_speaks_is_left_alone() {
    assert_eq!(check(fleet(3, 0), 1000), Vec::<String>::new());
}

#[test]
fn one_silent_node_is_marked_tainted_and_taken_out_of_services() {
    assert_eq!(
        check(fleet(3, 1), 1000),
        [
            "mark n00 unknown",
            "mark pods of n00 not ready",
            "taint n00 [node.kubernetes.io/unreachable:NoSchedule node.kubernetes.io/unreachable:NoExecute]",
        ]
    );
}

#[test]
fn when_most_nodes_are_lost_at_once_nothing_is_evicted() {
    for lost in 1..=20 {
        let actions = check(fleet(20, lost), 1000);
        let evicting = actions.iter().any(|action| action.contains("NoExecute") || action.contains("pods"));
        assert_eq!(evicting, lost * 100 < 55 * 20, "{lost} of 20: {actions:?}");
        assert_eq!(actions.iter().any(|action| action.starts_with("suspect")), !evicting);
    }
}

#[test]
fn the_only_node_of_a_cluster_is_never_evicted() {
    assert!(!check(fleet(1, 1), 1000).join(" ").contains("NoExecute"));
}

#[test]
fn a_controller_that_just_started_or_was_cut_off_waits_the_full_time() {
    assert_eq!(check(fleet(3, 1), 39), Vec::<String>::new());
    let unheard = Seen { heard_at: None, ..seen(node("n", "True", &json!({})), 0) };
    assert_eq!(check(vec![unheard], 39), Vec::<String>::new());
}

#[test]
fn a_node_that_returns_loses_our_taints_and_keeps_those_of_others() {
    let taints = json!({"taints": [
        {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}, {"key": "gpu", "effect": "NoSchedule", "value": "yes"}]});
    assert_eq!(check(vec![seen(node("n", "True", &taints), 1)], 1000), ["taint n [gpu:NoSchedule]"]);
}

#[test]
fn a_cordoned_node_and_one_under_pressure_take_no_new_pods() {
    let mut pressed = node("n", "True", &json!({"unschedulable": true}));
    pressed.status = serde_json::from_value(json!({"conditions": [
        {"type": "Ready", "status": "True"}, {"type": "DiskPressure", "status": "True"}]}))
    .unwrap();
    assert_eq!(
        check(vec![seen(pressed, 1)], 1000),
        ["taint n [node.kubernetes.io/disk-pressure:NoSchedule node.kubernetes.io/unschedulable:NoSchedule]"]
    );
}

#[test]
fn a_second_pass_over_what_was_written_writes_nothing() {
    let mut nodes = fleet(3, 1);
    let actions = plan(&Observed { nodes: nodes.clone(), sighted_since: ago(1000) }, now()).actions;
    let mut lost = (*nodes[0].node).clone();
    for action in actions {
        match action {
            Action::MarkUnknown { .. } => {
                lost.status.get_or_insert_default().conditions = Some(unknown_conditions(&lost.clone(), now()))
            }
            Action::SetTaints { taints, .. } => lost.spec.get_or_insert_default().taints = Some(taints),
            Action::MarkPodsNotReady { .. } => nodes[0].pods_ready = false,
            Action::SuspectPartition { .. } => {}
        }
    }
    nodes[0].node = Arc::new(lost);
    assert_eq!(check(nodes, 1000), Vec::<String>::new());
}
