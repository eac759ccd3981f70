//! Tables of phases, states and conditions.

use serde_json::{Value, json};

use super::*;
use crate::{
    ids::ContainerId,
    pod::observed::{Attempt, End, Phase, Setback, Stage, Verdicts},
};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).expect("a second")
}

fn pod(spec: &Value) -> Pod {
    let mut object = json!({"metadata": {"name": "p", "namespace": "d", "uid": "u"},
        "spec": {"containers": [{"name": "app", "image": "web:1"}]}});
    for (key, value) in spec.as_object().into_iter().flatten() {
        object["spec"][key] = value.clone();
    }
    serde_json::from_value(object).expect("a pod")
}

fn container(phase: Phase) -> ContainerState {
    let id = ContainerId::new(&"a".repeat(64)).expect("an id");
    let attempt = Attempt { id, number: 0, phase, image_id: "sha256:1".to_owned(), hash: String::new() };
    ContainerState { attempts: vec![attempt], image_present: Some(true), ..Default::default() }
}

fn running() -> ContainerState {
    container(Phase::Running { started_at: at(0) })
}

fn ended(exit_code: i32) -> ContainerState {
    let reason = if exit_code == 0 { "Completed" } else { "Error" }.to_owned();
    container(Phase::Exited(End { id: None, exit_code, reason, message: None, started_at: None, finished_at: at(50) }))
}

fn observed(app: ContainerState) -> Observed {
    Observed {
        engine_up: true,
        listed: true,
        network: Stage::Ready,
        volumes: Stage::Ready,
        containers: [("app".to_owned(), app)].into(),
        ..Default::default()
    }
}

fn status(pod: &Pod, observed: &Observed, join: Join) -> PodStatus {
    build_status(&StatusInput { pod, observed, host_ip: None, join, join_overdue: false, now: at(51) })
}

fn ready(status: &PodStatus) -> (String, String) {
    let ready = status.conditions.iter().flatten().find(|condition| condition.type_ == "Ready").expect("Ready");
    (ready.status.clone(), ready.reason.clone().unwrap_or_default())
}

fn waiting(status: &PodStatus) -> String {
    let statuses = status.container_statuses.as_ref().expect("statuses");
    let state = statuses[0].state.as_ref().and_then(|state| state.waiting.as_ref());
    state.and_then(|waiting| waiting.reason.clone()).unwrap_or_default()
}

#[test]
fn the_phase_follows_containers_and_policy() {
    let table = [
        ("Always", ContainerState::default(), "Pending"),
        ("Always", running(), "Running"),
        ("Always", ended(0), "Running"),
        ("Never", ended(0), "Succeeded"),
        ("Never", ended(3), "Failed"),
        ("OnFailure", ended(3), "Running"),
        ("OnFailure", ended(0), "Succeeded"),
    ];
    for (policy, app, expected) in table {
        let status = status(&pod(&json!({ "restartPolicy": policy })), &observed(app), Join::NotSelected);
        assert_eq!(status.phase.as_deref(), Some(expected), "{policy}");
    }
}

#[test]
fn ready_takes_probe_gates_and_proxies() {
    let probed =
        json!({"containers": [{"name": "app", "image": "web:1", "readinessProbe": {"tcpSocket": {"port": 1}}}]});
    let passed = ContainerState { probes: Verdicts { readiness: Some(true), ..Default::default() }, ..running() };
    let gated = json!({"readinessGates": [{"conditionType": "x"}]});
    let table = [
        (json!({}), running(), Join::NotSelected, ("True", "")),
        (json!({}), running(), Join::Acknowledged, ("True", "")),
        (json!({}), running(), Join::Waiting, ("False", "AwaitingRoutes")),
        (probed.clone(), running(), Join::NotSelected, ("False", "ContainersNotReady")),
        (probed, passed, Join::NotSelected, ("True", "")),
        (gated, running(), Join::NotSelected, ("False", "ReadinessGatesNotReady")),
    ];
    for (spec, app, join, (expected, reason)) in table {
        let status = status(&pod(&spec), &observed(app), join);
        assert_eq!(ready(&status), (expected.to_owned(), reason.to_owned()), "{spec} {join:?}");
    }
}

#[test]
fn once_ready_a_pod_does_not_wait_for_proxies_again() {
    let mut pod = pod(&json!({}));
    let first = status(&pod, &observed(running()), Join::Acknowledged);
    pod.status = Some(first);
    assert_eq!(ready(&status(&pod, &observed(running()), Join::Waiting)).0, "True");
}

#[test]
fn what_a_container_waits_for_has_a_reason() {
    let back =
        |reason: &str, count| Setback { reason: reason.to_owned(), message: "why".to_owned(), retry_at: at(60), count };
    let with = |setback| ContainerState { setback: Some(setback), ..Default::default() };
    let crashed = ContainerState { crashes: 3, ..ended(1) };
    let table = [
        (ContainerState::default(), "ContainerCreating"),
        (with(back("ErrImagePull", 1)), "ErrImagePull"),
        (with(back("ErrImagePull", 2)), "ImagePullBackOff"),
        (with(back("CreateContainerConfigError", 1)), "CreateContainerConfigError"),
        (crashed, "CrashLoopBackOff"),
        (running(), ""),
    ];
    for (app, expected) in table {
        assert_eq!(waiting(&status(&pod(&json!({})), &observed(app), Join::NotSelected)), expected);
    }
}

#[test]
fn a_condition_keeps_its_date_until_it_changes() {
    let mut pod = pod(&json!({}));
    let mut first = status(&pod, &observed(running()), Join::NotSelected);
    for condition in first.conditions.iter_mut().flatten() {
        condition.last_transition_time = Some(time(at(7)));
    }
    pod.status = Some(first);
    let date = |status: &PodStatus| {
        let ready = status.conditions.iter().flatten().find(|condition| condition.type_ == "Ready").cloned();
        ready.and_then(|ready| ready.last_transition_time)
    };
    assert_eq!(date(&status(&pod, &observed(running()), Join::NotSelected)), Some(time(at(7))));
    assert_eq!(date(&status(&pod, &observed(ended(1)), Join::NotSelected)), Some(time(at(51))));
}
