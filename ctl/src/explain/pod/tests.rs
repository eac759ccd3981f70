use expect_test::{Expect, expect};
use serde_json::json;

use super::*;

fn check(spec: &Value, status: &Value, events: &Value, expected: &Expect) {
    let found = json!({"kind": "Pod", "metadata": {"name": "web-1", "uid": "u"}, "spec": spec, "status": status});
    let mut events = events.as_array().cloned().unwrap_or_default();
    for event in &mut events {
        event["involvedObject"] = json!({"uid": "u"});
    }
    let said = match pod(&found, &events) {
        None => "nothing".to_owned(),
        Some(reason) => {
            let mark = if reason.is_problem { "problem" } else { "waiting" };
            let hint = reason.hint.map_or(String::new(), |hint| format!("\nhint: {hint}"));
            format!("{mark}: {}{hint}", reason.what)
        }
    };
    expected.assert_eq(&said);
}

fn container(state: &Value) -> Value {
    let mut status = json!({"name": "web", "image": "web:1", "ready": false, "restartCount": 4, "started": true});
    status.as_object_mut().unwrap().extend(state.as_object().unwrap().clone());
    json!({"phase": "Pending", "containerStatuses": [status]})
}

#[test]
fn a_pod_without_a_node_says_what_the_scheduler_said() {
    let refused = json!({"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/3 nodes fit: 2 lack memory, 1 cordoned"}]});
    check(
        &json!({}),
        &refused,
        &json!([]),
        &expect![[r#"
        problem: has no node: 0/3 nodes fit: 2 lack memory, 1 cordoned
        hint: droverctl why pod/web-1"#]],
    );
    check(
        &json!({}),
        &json!({}),
        &json!([{"reason": "FailedScheduling", "message": "no nodes"}]),
        &expect![[r#"
        problem: has no node: no nodes
        hint: droverctl why pod/web-1"#]],
    );
    check(&json!({}), &json!({}), &json!([]), &expect!["waiting: waits for the scheduler"]);
    check(
        &json!({"schedulingGates": [{"name": "x/y"}]}),
        &json!({}),
        &json!([]),
        &expect!["waiting: is held back by scheduling gate x/y"],
    );
}

#[test]
fn a_container_that_waits_says_why() {
    let node = json!({"nodeName": "n1"});
    let waiting =
        |reason: &str, message: &str| container(&json!({"state": {"waiting": {"reason": reason, "message": message}}}));
    check(
        &node,
        &waiting("ErrImagePull", "manifest unknown"),
        &json!([]),
        &expect![[r#"
        problem: container "web" cannot get image "web:1": manifest unknown
        hint: check the name and tag of the image, and imagePullSecrets for a private registry"#]],
    );
    let back_off = waiting("ImagePullBackOff", "Back-off pulling image \"web:1\"");
    check(
        &node,
        &back_off,
        &json!([{"reason": "Failed", "message": "manifest unknown"}]),
        &expect![[r#"
        problem: container "web" cannot get image "web:1": manifest unknown
        hint: check the name and tag of the image, and imagePullSecrets for a private registry"#]],
    );
    check(
        &node,
        &waiting("CreateContainerConfigError", "secret \"s\" not found"),
        &json!([]),
        &expect![[r#"problem: container "web" cannot be created: secret "s" not found"#]],
    );
    let back_off =
        waiting("ImagePullBackOff", "Back-off pulling image \"web:1\": failed to pull image \"web:1\": no such host");
    check(
        &node,
        &back_off,
        &json!([{"reason": "Failed", "message": "Error: ErrImagePull"}]),
        &expect![[r#"
        problem: container "web" cannot get image "web:1": no such host
        hint: check the name and tag of the image, and imagePullSecrets for a private registry"#]],
    );
    let creating = waiting("ContainerCreating", "");
    check(
        &node,
        &creating,
        &json!([{"reason": "Pulling", "message": "Pulling image \"web:1\""}]),
        &expect![[r#"waiting: pulling image "web:1""#]],
    );
    check(
        &node,
        &creating,
        &json!([{"reason": "FailedMount", "message": "claim \"d\" is not bound"}]),
        &expect![[r#"problem: a volume cannot be mounted: claim "d" is not bound"#]],
    );
    check(&node, &creating, &json!([]), &expect!["waiting: containers are being created"]);
    let crashing = container(
        &json!({"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}),
    );
    check(
        &node,
        &crashing,
        &json!([]),
        &expect![[r#"
        problem: container "web" keeps ending: exit code 137 (OOMKilled), restarted 4 times
        hint: droverctl logs web-1 -c web --previous"#]],
    );
}

#[test]
fn a_container_that_cannot_be_started_says_why_without_the_engines_wrapping() {
    let node = json!({"nodeName": "n1"});
    let cannot_run = json!({"state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"exitCode": 128, "reason": "ContainerCannotRun", "message": "runc create failed: unable to start container process: exec: \"/x\": no such file: unknown"}}});
    check(
        &node,
        &container(&cannot_run),
        &json!([]),
        &expect![[r#"
        problem: container "web" cannot be started: exec: "/x": no such file
        hint: check the command and the image"#]],
    );
}

#[test]
fn a_running_container_that_is_not_ready_says_which_probe() {
    let node = json!({"nodeName": "n1"});
    let running = container(&json!({"state": {"running": {}}}));
    check(&node, &running, &json!([]), &expect![[r#"waiting: container "web" waits for its readiness probe"#]]);
    check(
        &node,
        &running,
        &json!([{"reason": "Unhealthy", "message": "Readiness probe failed: HTTP 503"}]),
        &expect![[r#"
        problem: container "web" is not ready: readiness probe failed: HTTP 503
        hint: droverctl logs web-1 -c web"#]],
    );
    let starting = container(&json!({"state": {"running": {}}, "started": false}));
    check(&node, &starting, &json!([]), &expect![[r#"waiting: container "web" waits for its startup probe"#]]);
}

#[test]
fn a_pod_that_waits_for_routes_or_has_ended_says_so() {
    let node = json!({"nodeName": "n1"});
    let mut routes = container(&json!({"state": {"running": {}}, "ready": true}));
    routes["conditions"] = json!([{"type": "Ready", "status": "False", "reason": "AwaitingRoutes"}]);
    check(&node, &routes, &json!([]), &expect!["waiting: is ready and waits until every node routes to it"]);
    routes["conditions"] = json!([{"type": "Ready", "status": "True"}]);
    check(&node, &routes, &json!([]), &expect!["nothing"]);
    check(&node, &json!({"phase": "Succeeded"}), &json!([]), &expect!["nothing"]);
    let mut failed = container(&json!({"state": {"terminated": {"exitCode": 3, "reason": "Error"}}}));
    failed["phase"] = "Failed".into();
    check(
        &node,
        &failed,
        &json!([]),
        &expect![[r#"
        problem: failed: container "web" ended with exit code 3 (Error)
        hint: droverctl logs web-1 -c web"#]],
    );
}

#[test]
fn whatever_the_status_holds_there_is_an_answer() {
    let junk = json!({"conditions": 3, "containerStatuses": [null, {"state": []}], "phase": []});
    check(
        &json!({"nodeName": "n1"}),
        &junk,
        &json!([]),
        &expect!["waiting: container \"\" waits for its startup probe"],
    );
}
