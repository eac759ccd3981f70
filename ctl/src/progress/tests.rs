use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::{State, Target, World, state, stuck::stuck, tree::tree};
use crate::output::Text;

fn deployment(status: &Value) -> Value {
    json!({"kind": "Deployment", "metadata": {"name": "web", "namespace": "shop", "uid": "d", "generation": 2},
        "spec": {"replicas": 3}, "status": status})
}

fn replica_set(name: &str, uid: &str, revision: &str, ready: i64) -> Value {
    json!({"kind": "ReplicaSet", "metadata": {"name": name, "namespace": "shop", "uid": uid,
        "annotations": {"deployment.kubernetes.io/revision": revision},
        "ownerReferences": [{"uid": "d", "controller": true}]}, "spec": {"replicas": 3}, "status": {"readyReplicas": ready}})
}

fn pod(name: &str, owner: &str, ready: bool, waiting: &str) -> Value {
    let state = if waiting.is_empty() {
        json!({"running": {}})
    } else {
        json!({"waiting": {"reason": waiting, "message": "no such image"}})
    };
    json!({"kind": "Pod", "metadata": {"name": name, "namespace": "shop", "uid": name, "ownerReferences": [{"uid": owner, "controller": true}]},
        "spec": {"nodeName": "n1"}, "status": {
            "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}],
            "containerStatuses": [{"name": "c", "image": "web:2", "ready": ready, "started": true, "state": state}]}})
}

fn rolling() -> (World, Vec<Target>) {
    let found =
        deployment(&json!({"observedGeneration": 2, "replicas": 4, "updatedReplicas": 3, "availableReplicas": 2}));
    let targets = vec![Target::of(&found)];
    let mut world = World::default();
    world.put("Deployment", found);
    world.put("ReplicaSet", replica_set("web-old", "r1", "1", 1));
    world.put("ReplicaSet", replica_set("web-new", "r2", "2", 1));
    world.put("ReplicaSet", replica_set("web-older", "r0", "0", 0));
    world.put("Pod", pod("web-old-a", "r1", true, ""));
    world.put("Pod", pod("web-new-a", "r2", true, ""));
    world.put("Pod", pod("web-new-b", "r2", false, ""));
    world.put("Pod", pod("web-new-c", "r2", false, "ErrImagePull"));
    (world, targets)
}

fn check_tree(world: &World, targets: &[Target], expected: &Expect) {
    let lines: Vec<String> = tree(world, targets).iter().map(Text::bare).collect();
    expected.assert_eq(&(lines.join("\n") + "\n"));
}

#[test]
fn the_tree_shows_new_before_old_and_trouble_before_ready() {
    let (world, targets) = rolling();
    check_tree(
        &world,
        &targets,
        &expect![[r#"
        deployment/web  3 of 3 updated, 1 old to go
        ├─ replicaset/web-new  new, 1 of 3 ready
        │  ├─ web-new-b  container "c" waits for its readiness probe  on n1
        │  ├─ web-new-c  container "c" cannot get image "web:2": no such image  on n1
        │  └─ web-new-a  ready  on n1
        └─ replicaset/web-old  old, 1 of 3 ready
           └─ web-old-a  ready  on n1
    "#]],
    );
}

#[test]
fn what_has_not_been_seen_yet_is_said_to_be_awaited() {
    let (_, targets) = rolling();
    check_tree(
        &World::default(),
        &targets,
        &expect![[r"
        deployment/web  waits to be seen
    "]],
    );
}

#[test]
fn the_stuck_sentence_names_the_pod_and_the_cause() {
    let (mut world, targets) = rolling();
    let said = stuck(&world, &targets).unwrap();
    expect![[r#"deployment/web is stuck: pod web-new-c: container "c" cannot get image "web:2": no such image (try: check the name and tag of the image, and imagePullSecrets for a private registry)"#]].assert_eq(&said);
    world.put("Pod", pod("web-new-b", "r2", false, "ErrImagePull"));
    assert!(stuck(&world, &targets).unwrap().contains("2 pods such as web-new-b"));
    world.put("Pod", pod("web-new-b", "r2", true, ""));
    world.put("Pod", pod("web-new-c", "r2", true, ""));
    assert_eq!(stuck(&world, &targets), None);
}

#[test]
fn a_deployment_that_makes_no_pods_says_why() {
    let found = deployment(&json!({"observedGeneration": 2}));
    let targets = [Target::of(&found)];
    let mut world = World::default();
    world.put("Deployment", found);
    let mut set = replica_set("web-new", "r2", "2", 0);
    set["status"] =
        json!({"conditions": [{"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: pods=3"}]});
    world.put("ReplicaSet", set);
    assert_eq!(
        stuck(&world, &targets).unwrap(),
        "deployment/web is stuck: pods cannot be created: exceeded quota: pods=3"
    );
}

#[test]
fn deployments_are_done_when_the_new_generation_is_available_and_the_old_gone() {
    let cases = [
        (
            json!({"observedGeneration": 1, "replicas": 3, "updatedReplicas": 3, "availableReplicas": 3}),
            "waiting: waits for its controller",
        ),
        (json!({"observedGeneration": 2, "replicas": 3, "updatedReplicas": 1}), "waiting: 1 of 3 updated"),
        (
            json!({"observedGeneration": 2, "replicas": 4, "updatedReplicas": 3, "availableReplicas": 3}),
            "waiting: 3 of 3 updated, 1 old to go",
        ),
        (
            json!({"observedGeneration": 2, "replicas": 3, "updatedReplicas": 3, "availableReplicas": 2}),
            "waiting: 2 of 3 available",
        ),
        (
            json!({"observedGeneration": 2, "replicas": 3, "updatedReplicas": 3, "availableReplicas": 3}),
            "done: 3 of 3 available",
        ),
        (
            json!({"observedGeneration": 2, "replicas": 3, "updatedReplicas": 1, "conditions": [
            {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]}),
            "failed: 1 of 3 updated: made no progress within its deadline",
        ),
    ];
    for (status, expected) in cases {
        assert_eq!(spelled(&state(&deployment(&status), 0)), expected);
    }
    // A stale cache cannot make a new write look done.
    let old =
        deployment(&json!({"observedGeneration": 2, "replicas": 3, "updatedReplicas": 3, "availableReplicas": 3}));
    assert_eq!(spelled(&state(&old, 3)), "waiting: waits for its controller");
}

#[test]
fn pods_and_kinds_without_progress() {
    assert_eq!(spelled(&state(&pod("a", "r", true, ""), 0)), "done: ready");
    assert_eq!(spelled(&state(&json!({"kind": "Pod", "status": {"phase": "Succeeded"}}), 0)), "done: succeeded");
    assert_eq!(spelled(&state(&json!({"kind": "ConfigMap"}), 0)), "done: applied");
}

#[test]
fn a_list_replaces_what_was_known_of_its_namespace_only() {
    let (mut world, targets) = rolling();
    world.replace("Pod", "other", vec![]);
    assert_eq!(world.owned("Pod", "r2").count(), 3);
    world.replace("Pod", "shop", vec![pod("web-new-z", "r2", true, "")]);
    assert_eq!(world.owned("Pod", "r2").count(), 1);
    assert!(world.get(&targets[0]).is_some());
}

fn spelled(state: &State) -> String {
    match state {
        State::Done(words) => format!("done: {words}"),
        State::Waiting(words) => format!("waiting: {words}"),
        State::Failed(words) => format!("failed: {words}"),
    }
}
