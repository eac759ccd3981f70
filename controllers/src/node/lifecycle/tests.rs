//! Silence, taints and the brake, as tables.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};

use super::plan::{Action, Loss, Observed, Seen, is_down, not_ready_conditions, plan, unknown_conditions};

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
    Seen { node: Arc::new(node), heard_at: Some(ago(silence)), pods_ready: true, pods_unmarked: true }
}

fn check(nodes: Vec<Seen>, sighted: i64) -> Vec<String> {
    let plan = plan(&Observed { nodes, sighted_since: ago(sighted), ..Observed::default() }, now());
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
    let actions =
        plan(&Observed { nodes: nodes.clone(), sighted_since: ago(1000), ..Observed::default() }, now()).actions;
    let mut lost = (*nodes[0].node).clone();
    for action in actions {
        match action {
            Action::MarkUnknown { .. } => {
                lost.status.get_or_insert_default().conditions =
                    Some(unknown_conditions(&lost.clone(), &Loss::Silence, now()))
            }
            Action::SetTaints { taints, .. } => lost.spec.get_or_insert_default().taints = Some(taints),
            Action::MarkPodsNotReady { .. } => nodes[0].pods_ready = false,
            Action::SuspectPartition { .. } | Action::MarkDown { .. } => {}
        }
    }
    nodes[0].node = Arc::new(lost);
    assert_eq!(check(nodes, 1000), Vec::<String>::new());
}

/// Of `total` nodes the first `accused` were found gone by the roll call, though silent for a second only.
fn accused(total: usize, accused: usize) -> Observed {
    let witnesses = vec!["n98".to_owned(), "n99".to_owned()];
    let gone = (0..accused).map(|number| (format!("n{number:02}"), witnesses.clone())).collect();
    Observed { nodes: fleet(total, 0), sighted_since: ago(1000), gone }
}

fn text(observed: &Observed) -> Vec<String> {
    plan(observed, now()).actions.iter().map(ToString::to_string).collect()
}

#[test]
fn a_host_that_is_gone_takes_its_pods_with_it_until_its_agent_speaks() {
    let mut observed = accused(3, 1);
    assert_eq!(text(&observed), ["mark n00 down by n98 and n99", "mark pods of n00 gone"]);
    let Some(Action::MarkDown { taints, .. }) = plan(&observed, now()).actions.into_iter().next() else {
        panic!("the node is marked first");
    };
    let loss = Loss::HostDown(vec!["n98".to_owned()]);
    let marked = Arc::make_mut(&mut observed.nodes[0].node);
    let conditions = unknown_conditions(&marked.clone(), &loss, now());
    marked.status.get_or_insert_default().conditions = Some(conditions);
    marked.spec.get_or_insert_default().taints = Some(taints);
    assert!(is_down(&observed.nodes[0].node));
    // Whoever takes over knows it from the object alone, and a pod that was bound there meanwhile goes the same way.
    observed.gone.clear();
    assert_eq!(text(&observed), ["mark pods of n00 gone"]);
    observed.nodes[0].pods_unmarked = false;
    observed.nodes[0].pods_ready = false;
    assert_eq!(text(&observed), Vec::<String>::new());
    // Its agent writes, as it does for every other thing that is said of it.
    let back = node("n00", "True", &json!({"taints": observed.nodes[0].node.spec.clone().unwrap().taints}));
    observed.nodes[0].node = Arc::new(back);
    assert_eq!(text(&observed), ["taint n00 []"]);
}

#[test]
fn when_most_hosts_seem_gone_none_is() {
    for count in 1..=20 {
        let actions = text(&accused(20, count));
        assert_eq!(actions.is_empty(), count * 100 >= 20 * 55, "{count} of 20: {actions:?}");
    }
}

#[test]
fn every_pod_of_a_host_that_is_gone_says_so() {
    let pod = |conditions: Value| -> k8s_openapi::api::core::v1::Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "status": {"conditions": conditions}})).unwrap()
    };
    let ready = |status: &str| json!([{"type": "Ready", "status": status, "reason": "x"}, {"type": "ContainersReady", "status": status}]);
    for before in [ready("True"), ready("False"), json!([])] {
        let mut after = pod(before.clone());
        assert!(!crate::objects::pods::is_host_down(&after));
        after.status.get_or_insert_default().conditions = Some(not_ready_conditions(&after, true, now()));
        assert!(crate::objects::pods::is_host_down(&after), "{before}");
        assert!(!crate::objects::pods::is_true(&after, "ContainersReady"));
    }
    let silent = not_ready_conditions(&pod(json!([])), false, now());
    assert!(silent.is_empty(), "nothing is claimed of a pod that claims nothing");
}
