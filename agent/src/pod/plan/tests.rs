//! Tables and properties of the planner.

use std::fmt::Write as _;

use expect_test::{Expect, expect};
use jiff::SignedDuration;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    ids::ContainerId,
    pod::observed::{
        Attempt, ContainerState, End, Hook, Observed, Operation, Phase, Routes, Setback, Stop, Termination, Verdicts,
    },
};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).expect("a second")
}

fn pod(spec: &Value) -> Pod {
    let mut object = json!({"metadata": {"name": "p", "namespace": "d", "uid": "u"},
        "spec": {"restartPolicy": "Always", "containers": [{"name": "app", "image": "web:1"}]}});
    for (key, value) in spec.as_object().into_iter().flatten() {
        object["spec"][key] = value.clone();
    }
    serde_json::from_value(object).expect("a pod")
}

fn ready(containers: Vec<(&str, ContainerState)>) -> Observed {
    Observed {
        engine_up: true,
        listed: true,
        network: Stage::Ready,
        volumes: Stage::Ready,
        containers: containers.into_iter().map(|(name, state)| (name.to_owned(), state)).collect(),
        started_at: Some(at(0)),
        ..Default::default()
    }
}

fn idle() -> ContainerState {
    ContainerState { image_present: Some(true), ..Default::default() }
}

fn attempt(number: u32, phase: Phase, image: &str) -> Attempt {
    let container = k8s_openapi::api::core::v1::Container {
        name: "app".to_owned(),
        image: Some(image.to_owned()),
        ..Default::default()
    };
    let id = ContainerId::new(&format!("{number:064x}")).expect("an id");
    Attempt { id, number, phase, image_id: String::new(), hash: spec_hash(&container) }
}

fn running() -> ContainerState {
    ContainerState { attempts: vec![attempt(0, Phase::Running { started_at: at(0) }, "web:1")], ..idle() }
}

fn ended(exit_code: i32, finished: i64, crashes: u32) -> ContainerState {
    let end = End {
        id: None,
        exit_code,
        reason: "Error".to_owned(),
        message: None,
        started_at: None,
        finished_at: at(finished),
    };
    ContainerState { attempts: vec![attempt(0, Phase::Exited(end), "web:1")], crashes, ..idle() }
}

fn deleted(grace_secs: i64, routes: Routes) -> Termination {
    Termination {
        since: at(100),
        grace_secs,
        cause: Cause::Deleted,
        routes,
        connections: None,
        counted_at: None,
        counting: false,
    }
}

fn text(plan: &Plan) -> String {
    let mut text = String::new();
    for action in &plan.actions {
        let _ = writeln!(text, "{}", serde_json::to_string(action).expect("json"));
    }
    if let Some(requeue_at) = plan.requeue_at {
        let _ = writeln!(text, "again at {}", requeue_at.as_second() - 1_000_000);
    }
    if plan.done {
        text.push_str("done\n");
    }
    text
}

#[expect(clippy::needless_pass_by_value, reason = "tables read better")]
fn check(spec: Value, observed: Observed, now: i64, expected: Expect) {
    expected.assert_eq(&text(&plan(&pod(&spec), &observed, at(now))));
}

#[test]
fn a_new_pod_makes_network_and_volumes_at_once_and_then_starts() {
    let mut observed = ready(vec![("app", idle())]);
    (observed.network, observed.volumes) = (Stage::Pending, Stage::Pending);
    check(
        json!({}),
        observed,
        0,
        expect![[r#"
        "EnsureNetwork"
        "PrepareVolumes"
    "#]],
    );
    check(
        json!({}),
        ready(vec![("app", idle())]),
        0,
        expect![[r#"
        {"Start":{"container":"app","attempt":0}}
    "#]],
    );
}

#[test]
fn nothing_is_done_before_the_engine_was_asked_or_while_it_is_down() {
    let unlisted = Observed { listed: false, ..ready(vec![("app", idle())]) };
    check(json!({}), unlisted, 0, expect![[""]]);
    let down = Observed { engine_up: false, ..ready(vec![("app", idle())]) };
    check(json!({}), down, 0, expect![[""]]);
}

#[test]
fn images_follow_their_pull_policy() {
    let absent = || ContainerState { image_present: Some(false), ..Default::default() };
    check(
        json!({}),
        ready(vec![("app", absent())]),
        0,
        expect![[r#"
        {"Pull":{"container":"app","attempt":0}}
    "#]],
    );
    let with = |policy: &str| json!({"containers": [{"name": "app", "image": "web:1", "imagePullPolicy": policy}]});
    check(with("Never"), ready(vec![("app", absent())]), 0, expect![[""]]);
    check(
        with("Always"),
        ready(vec![("app", idle())]),
        0,
        expect![[r#"
        {"Pull":{"container":"app","attempt":0}}
    "#]],
    );
    let pulled = ContainerState { pulled_for: Some(0), ..idle() };
    check(
        with("Always"),
        ready(vec![("app", pulled)]),
        0,
        expect![[r#"
        {"Start":{"container":"app","attempt":0}}
    "#]],
    );
    let setback = Setback { reason: "ErrImagePull".to_owned(), message: String::new(), retry_at: at(40), count: 2 };
    let failed = ContainerState { setback: Some(setback), ..absent() };
    check(
        json!({}),
        ready(vec![("app", failed)]),
        20,
        expect![[r#"
        again at 40
    "#]],
    );
}

#[test]
fn restarts_follow_the_policy_and_the_back_off() {
    check(
        json!({}),
        ready(vec![("app", ended(1, 50, 1))]),
        50,
        expect![[r#"
        {"Start":{"container":"app","attempt":1}}
    "#]],
    );
    check(
        json!({}),
        ready(vec![("app", ended(1, 50, 3))]),
        60,
        expect![[r#"
        again at 70
    "#]],
    );
    check(
        json!({}),
        ready(vec![("app", ended(1, 5_000, 3))]),
        60,
        expect![[r#"
        {"Start":{"container":"app","attempt":1}}
    "#]],
    );
    check(json!({"restartPolicy": "Never"}), ready(vec![("app", ended(1, 50, 1))]), 60, expect![[""]]);
    check(json!({"restartPolicy": "OnFailure"}), ready(vec![("app", ended(0, 50, 1))]), 60, expect![[""]]);
    check(
        json!({"restartPolicy": "OnFailure"}),
        ready(vec![("app", ended(2, 50, 1))]),
        60,
        expect![[r#"
        {"Start":{"container":"app","attempt":1}}
    "#]],
    );
}

#[test]
fn a_restart_without_grace_still_ends_by_a_signal_so_that_its_back_off_counts() {
    let sick = ContainerState { probes: Verdicts { liveness: Some(false), ..Default::default() }, ..running() };
    let spec = json!({"terminationGracePeriodSeconds": 0, "containers": [{"name": "app", "image": "web:1",
        "livenessProbe": {"tcpSocket": {"port": 1}}}]});
    check(
        spec,
        ready(vec![("app", sick)]),
        50,
        expect![[r#"
        {"BeginStop":{"container":"app","grace_secs":2,"message":"Container app failed liveness probe, will be restarted"}}
    "#]],
    );
}

#[test]
fn a_container_that_must_go_is_stopped_with_its_reason() {
    let sick = ContainerState { probes: Verdicts { liveness: Some(false), ..Default::default() }, ..running() };
    let spec = json!({"terminationGracePeriodSeconds": 20, "containers": [{"name": "app", "image": "web:1",
        "livenessProbe": {"tcpSocket": {"port": 1}, "terminationGracePeriodSeconds": 3}}]});
    check(
        spec,
        ready(vec![("app", sick)]),
        50,
        expect![[r#"
        {"BeginStop":{"container":"app","grace_secs":3,"message":"Container app failed liveness probe, will be restarted"}}
    "#]],
    );
    check(
        json!({"containers": [{"name": "app", "image": "web:2"}]}),
        ready(vec![("app", running())]),
        50,
        expect![[r#"
        {"BeginStop":{"container":"app","grace_secs":30,"message":"Container app definition changed, will be restarted"}}
    "#]],
    );
    let stop = Stop { since: at(50), grace_secs: 3, signalled_at: Some(at(50)), killed_at: None };
    let stopping = ContainerState { stop: Some(stop), ..running() };
    check(
        json!({}),
        ready(vec![("app", stopping.clone())]),
        51,
        expect![[r#"
        again at 53
    "#]],
    );
    check(
        json!({}),
        ready(vec![("app", stopping)]),
        53,
        expect![[r#"
        {"Kill":{"container":"app"}}
    "#]],
    );
}

#[test]
fn a_deleted_pod_leaves_its_services_drains_and_only_then_is_signalled() {
    let mut observed = ready(vec![("app", running())]);
    observed.termination = Some(deleted(30, Routes::Waiting));
    check(
        json!({}),
        observed.clone(),
        101,
        expect![[r#"
        again at 105
    "#]],
    );
    observed.termination = Some(deleted(30, Routes::Withdrawn));
    check(
        json!({}),
        observed.clone(),
        101,
        expect![[r#"
        "CountConnections"
        again at 128
    "#]],
    );
    let counted = Some(at(101));
    observed.termination =
        Some(Termination { connections: Some(3), counted_at: counted, ..deleted(30, Routes::Withdrawn) });
    check(
        json!({}),
        observed.clone(),
        101,
        expect![[r#"
        again at 101
    "#]],
    );
    observed.termination =
        Some(Termination { connections: Some(0), counted_at: counted, ..deleted(30, Routes::Withdrawn) });
    check(
        json!({}),
        observed.clone(),
        101,
        expect![[r#"
        {"Terminate":{"container":"app"}}
        again at 130
    "#]],
    );
    // Connections that never end take what the application can spare.
    observed.termination =
        Some(Termination { connections: Some(3), counted_at: counted, ..deleted(30, Routes::Withdrawn) });
    check(
        json!({}),
        observed,
        128,
        expect![[r#"
        {"Terminate":{"container":"app"}}
        again at 130
    "#]],
    );
}

#[test]
fn the_hook_runs_before_the_signal_and_never_past_the_grace() {
    let spec = json!({"containers": [{"name": "app", "image": "web:1",
        "lifecycle": {"preStop": {"exec": {"command": ["x"]}}}}]});
    let mut observed = ready(vec![("app", running())]);
    observed.termination = Some(deleted(30, Routes::None));
    check(
        spec.clone(),
        observed.clone(),
        101,
        expect![[r#"
        {"PreStop":{"container":"app"}}
        again at 130
    "#]],
    );
    let runs = ContainerState { pre_stop: Hook::Running, ..running() };
    observed.containers.insert("app".to_owned(), runs);
    check(
        spec.clone(),
        observed.clone(),
        101,
        expect![[r#"
        again at 130
    "#]],
    );
    check(
        spec,
        observed,
        130,
        expect![[r#"
        {"Kill":{"container":"app"}}
    "#]],
    );
}

#[test]
fn what_is_left_of_a_pod_goes_in_order() {
    let mut observed = ready(vec![("app", ended(0, 50, 1))]);
    observed.termination = Some(deleted(30, Routes::None));
    check(
        json!({}),
        observed.clone(),
        101,
        expect![[r#"
        {"Remove":{"container":"app","attempt":0}}
    "#]],
    );
    observed.containers.insert("app".to_owned(), idle());
    for making in [
        Observed { network: Stage::Busy(None), ..observed.clone() },
        Observed { volumes: Stage::Busy(None), ..observed.clone() },
    ] {
        check(json!({}), making, 101, expect![[""]]);
    }
    check(
        json!({}),
        observed.clone(),
        101,
        expect![[r#"
        "CleanUp"
    "#]],
    );
    observed.cleanup = Stage::Ready;
    check(
        json!({}),
        observed.clone(),
        101,
        expect![[r#"
        "DeleteObject"
    "#]],
    );
    observed.object = Stage::Ready;
    check(
        json!({}),
        observed,
        101,
        expect![[r#"
        done
    "#]],
    );
}

#[test]
fn a_deletion_without_grace_removes_at_once() {
    let mut observed = ready(vec![("app", running())]);
    observed.termination = Some(deleted(0, Routes::Waiting));
    check(
        json!({}),
        observed,
        100,
        expect![[r#"
        {"Remove":{"container":"app","attempt":0}}
    "#]],
    );
}

#[test]
fn sidecars_end_last_and_in_reverse() {
    let spec = json!({"initContainers": [
        {"name": "one", "image": "web:1", "restartPolicy": "Always"},
        {"name": "two", "image": "web:1", "restartPolicy": "Always"},
    ]});
    let mut observed = ready(vec![("one", running()), ("two", running()), ("app", running())]);
    observed.termination = Some(deleted(30, Routes::None));
    check(
        spec.clone(),
        observed.clone(),
        100,
        expect![[r#"
        {"Terminate":{"container":"app"}}
        again at 130
    "#]],
    );
    observed.containers.insert("app".to_owned(), ended(0, 100, 1));
    check(
        spec,
        observed,
        100,
        expect![[r#"
        {"Terminate":{"container":"two"}}
        again at 130
    "#]],
    );
}

#[test]
fn waits_follow_a_clock_that_was_set_ahead_or_back() {
    let setback = |at: Timestamp| Setback { reason: String::new(), message: String::new(), retry_at: at, count: 1 };
    let failed = ContainerState { setback: Some(setback(at(110))), ..idle() };
    let stop = Stop { since: at(100), grace_secs: 20, signalled_at: Some(at(100)), killed_at: None };
    let stopping = ContainerState { stop: Some(stop), ..running() };
    let mut starting = ready(vec![("app", failed)]);
    (starting.network, starting.volumes) = (Stage::Failed(setback(at(107))), Stage::Busy(Some(setback(at(90)))));
    let mut ending = ready(vec![("app", stopping)]);
    ending.termination = Some(deleted(30, Routes::Waiting));
    for observed in [starting, ending] {
        let planned = plan(&pod(&json!({})), &observed, at(102));
        for jump in [2_532, -2_532, -7] {
            let mut moved = observed.clone();
            moved.follow_clock(SignedDuration::from_secs(jump));
            let then = plan(&pod(&json!({})), &moved, at(102 + jump));
            assert_eq!(then.actions, planned.actions);
            assert_eq!(then.requeue_at.map(|at| after(at, -jump)), planned.requeue_at, "set by {jump} s");
        }
    }
}

fn any_phase() -> impl Strategy<Value = Phase> {
    prop_oneof![
        Just(Phase::Created),
        Just(Phase::Unknown),
        (0i64..300).prop_map(|second| Phase::Running { started_at: at(second) }),
        (any::<i32>(), 0i64..300).prop_map(|(exit_code, second)| Phase::Exited(End {
            id: None,
            exit_code,
            reason: "Error".to_owned(),
            message: None,
            started_at: None,
            finished_at: at(second),
        })),
    ]
}

fn any_operation() -> impl Strategy<Value = Option<Operation>> {
    proptest::option::weighted(
        0.3,
        prop_oneof![Just(Operation::Pull), Just(Operation::Start), Just(Operation::Signal), Just(Operation::Remove)],
    )
}

fn any_stage() -> impl Strategy<Value = Stage> {
    prop_oneof![
        Just(Stage::Pending),
        Just(Stage::Busy(None)),
        Just(Stage::Ready),
        (0i64..300).prop_map(|second| Stage::Failed(Setback {
            reason: "x".to_owned(),
            message: String::new(),
            retry_at: at(second),
            count: 1,
        })),
    ]
}

prop_compose! {
    fn any_container()(
        phases in proptest::collection::vec(any_phase(), 0..4),
        busy in any_operation(),
        image_present in any::<Option<bool>>(),
        crashes in 0u32..9,
        liveness in any::<Option<bool>>(),
        startup in any::<Option<bool>>(),
        stopping in proptest::option::of((0i64..300, -1i64..60)),
    ) -> ContainerState {
        let number = |index: usize| u32::try_from(index).unwrap_or(0);
        ContainerState {
            attempts: phases.into_iter().enumerate().map(|(index, phase)| attempt(number(index), phase, "web:1")).collect(),
            busy,
            image_present,
            crashes,
            probes: Verdicts { liveness, startup, readiness: None },
            stop: stopping.map(|(since, grace_secs)| Stop { since: at(since), grace_secs, signalled_at: None, killed_at: None }),
            ..Default::default()
        }
    }
}

prop_compose! {
    fn any_observed()(
        listed in proptest::bool::weighted(0.9),
        engine_up in proptest::bool::weighted(0.9),
        network in any_stage(),
        volumes in any_stage(),
        cleanup in any_stage(),
        object in any_stage(),
        initialized in any::<bool>(),
        containers in proptest::collection::vec(any_container(), 3),
        ending in proptest::option::of((-1i64..60, any::<bool>(), any::<Option<u32>>())),
    ) -> Observed {
        let names = ["init", "side", "app"].map(str::to_owned);
        let termination = ending.map(|(grace, waiting, connections)| Termination {
            connections,
            ..deleted(grace, if waiting { Routes::Waiting } else { Routes::Withdrawn })
        });
        Observed {
            engine_up, listed, network, volumes, cleanup, object, initialized, termination,
            containers: names.into_iter().zip(containers).collect(),
            started_at: Some(at(0)),
            ..Default::default()
        }
    }
}

fn full_pod() -> Pod {
    pod(&json!({"initContainers": [
        {"name": "init", "image": "web:1"}, {"name": "side", "image": "web:1", "restartPolicy": "Always"},
    ]}))
}

/// What beginning an action does to the observations.
fn begin(observed: &mut Observed, action: &Action, now: Timestamp) {
    let stage = match action {
        Action::EnsureNetwork => &mut observed.network,
        Action::PrepareVolumes => &mut observed.volumes,
        Action::CleanUp => &mut observed.cleanup,
        Action::DeleteObject => &mut observed.object,
        Action::CountConnections => {
            if let Some(end) = &mut observed.termination {
                end.counting = true;
            }
            return;
        }
        other => {
            let state = other.container().and_then(|name| observed.containers.get_mut(name));
            let Some(state) = state else { return };
            match other {
                Action::BeginStop { grace_secs, .. } => {
                    state.stop =
                        Some(Stop { since: now, grace_secs: *grace_secs, signalled_at: None, killed_at: None });
                }
                Action::PostStart { .. } => state.post_start = Hook::Running,
                Action::PreStop { .. } => state.pre_stop = Hook::Running,
                _ => state.busy = Some(Operation::Start),
            }
            return;
        }
    };
    stage.begin();
}

proptest! {
    #[test]
    fn a_step_under_way_is_not_asked_for_again(observed in any_observed(), now in 0i64..400) {
        let (pod, mut observed) = (full_pod(), observed);
        for _ in 0..3 {
            let planned = plan(&pod, &observed, at(now));
            for action in &planned.actions {
                begin(&mut observed, action, at(now));
            }
        }
        let again = plan(&pod, &observed, at(now));
        prop_assert_eq!(again.actions, Vec::new());
    }

    #[test]
    fn one_container_gets_one_step_and_none_while_busy(observed in any_observed(), now in 0i64..400) {
        let planned = plan(&full_pod(), &observed, at(now));
        let mut seen = std::collections::BTreeSet::new();
        for action in &planned.actions {
            let Some(name) = action.container() else { continue };
            let state = &observed.containers[name];
            prop_assert!(seen.insert(name.to_owned()), "two steps for {name}: {:?}", planned.actions);
            let note = matches!(action, Action::BeginStop { .. });
            prop_assert!(note || state.busy.is_none(), "{action:?} while {:?}", state.busy);
        }
    }

    #[test]
    fn nothing_is_started_beside_a_running_attempt(observed in any_observed(), now in 0i64..400) {
        for action in plan(&full_pod(), &observed, at(now)).actions {
            if let Action::Start { container, attempt } = action {
                let state = &observed.containers[&container];
                prop_assert!(!state.is_running());
                prop_assert!(observed.termination.is_none());
                let next = state.current().map_or(0, |current| match current.phase {
                    Phase::Created => current.number,
                    Phase::Unknown | Phase::Running { .. } | Phase::Exited(_) => current.number + 1,
                });
                prop_assert_eq!(attempt, next);
            }
        }
    }

    #[test]
    fn only_known_attempts_are_removed_and_running_ones_only_after_their_grace(
        observed in any_observed(),
        now in 0i64..400,
    ) {
        for action in plan(&full_pod(), &observed, at(now)).actions {
            if let Action::Remove { container, attempt } = action {
                let state = &observed.containers[&container];
                let known = state.attempts.iter().find(|known| known.number == attempt);
                prop_assert!(known.is_some());
                let current = state.current().is_some_and(|current| current.number == attempt);
                if current && state.is_running() {
                    let over = observed.termination.as_ref().is_some_and(|end| end.grace_secs <= 0)
                        || state.stop.as_ref().is_some_and(|stop| stop.grace_secs <= 0);
                    prop_assert!(over, "a running container is removed within its grace");
                }
            }
        }
    }
}
