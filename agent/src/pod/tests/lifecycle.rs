//! What happens to pods when the engine behaves, and when it does not.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::PodStatus;
use serde_json::json;

use super::harness::{Host, condition, is_ready, phase, pod, restarts, uid};
use crate::{
    clock::Skew,
    engine::{
        ContainerPhase, ErrorKind,
        fake::{Behaviour, Effect, Fault, When},
    },
    seams::fake::FakeNetwork,
};

const APP_0: &str = "drover_app_web_default_uid-web_0";
const APP_1: &str = "drover_app_web_default_uid-web_1";

#[tokio::test(start_paused = true)]
async fn a_pod_runs_with_two_engine_calls_and_ends_with_two() {
    let (host, engine) = Host::fake();
    let _agent = host.start_agent();
    host.api.put(pod("web", &json!({})));
    host.until_ready("web").await;
    assert_eq!(engine.calls().len(), 2, "create and start: {:?}", engine.calls());
    host.api.mark_deleted("web", 30, host.clock.now());
    host.until_gone("web").await;
    assert_eq!(engine.calls().len(), 4, "signal and removal: {:?}", engine.calls());
    assert!(engine.containers().is_empty());
    assert_eq!(host.network.list().await.expect("list"), []);
    assert!(!host.directory.path().join("pods/uid-web").exists(), "files are gone");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_goes_while_its_name_space_is_made_leaves_none() {
    let (host, engine) = Host::fake();
    let network = FakeNetwork::default();
    network.set_delay(Duration::from_secs(2));
    let host = Host { network: Arc::new(network), ..host };
    let _agent = host.start_agent();
    // While the server does not answer the pod's end is under way for longer than its beginning.
    host.api.set_deletes_fail(true);
    host.api.put(pod("web", &json!({})));
    tokio::time::sleep(Duration::from_secs(1)).await;
    host.api.mark_deleted("web", 30, host.clock.now());
    tokio::time::sleep(Duration::from_secs(10)).await;
    host.api.set_deletes_fail(false);
    host.until_gone("web").await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(host.network.list().await.expect("list"), []);
    assert!(engine.containers().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_converged_pod_writes_nothing() {
    let (host, engine) = Host::fake();
    let _agent = host.start_agent();
    host.api.put(pod("web", &json!({})));
    host.until_ready("web").await;
    let (writes, calls) = (host.api.statuses("web").len(), engine.calls().len());
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(host.api.statuses("web").len(), writes);
    assert_eq!(engine.calls().len(), calls);
    assert!(writes <= 3, "{writes} status writes to get a pod running");
}

#[tokio::test(start_paused = true)]
async fn what_others_say_of_a_pod_while_its_node_was_not_heard_is_put_right() {
    let (host, _engine) = Host::fake();
    let _agent = host.start_agent();
    host.api.put(pod("web", &json!({})));
    host.until_ready("web").await;
    let (ours, writes) = (host.api.get("web").and_then(|pod| pod.status.clone()), host.api.statuses("web").len());
    let mut doubted = (*host.api.get("web").expect("it is there")).clone();
    for condition in doubted.status.iter_mut().flat_map(|status| status.conditions.iter_mut().flatten()) {
        condition.status = "False".to_owned();
        condition.reason = Some("NodeNotReady".to_owned());
    }
    host.api.put(doubted);
    host.until_ready("web").await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let now = host.api.get("web").and_then(|pod| pod.status.clone());
    let statuses = |status: &Option<PodStatus>| {
        let conditions = status.iter().flat_map(|status| status.conditions.clone().unwrap_or_default());
        conditions.map(|condition| (condition.type_, condition.status, condition.reason)).collect::<Vec<_>>()
    };
    assert_eq!(statuses(&now), statuses(&ours));
    assert!(host.api.statuses("web").len() <= writes + 2, "said once");
}

#[tokio::test(start_paused = true)]
async fn a_crashing_container_backs_off_and_says_so() {
    let (host, engine) = Host::fake();
    let crash = Behaviour { runs_for: Some(Duration::from_millis(100)), exit_code: 3, ..Default::default() };
    engine.add_image("web:1", crash);
    let _agent = host.start_agent();
    let began = host.clock.now();
    host.api.put(pod("web", &json!({})));
    host.until_waiting("web", "CrashLoopBackOff").await;
    host.until("web", "restarted four times", |pod| pod.is_some_and(|pod| restarts(pod) == 4)).await;
    // At once, then after 10, 20 and 40 s.
    let took = host.clock.now().duration_since(began).as_secs();
    assert!((70..=75).contains(&took), "{took}");
    let last = host.api.get("web").and_then(|pod| pod.status.clone()?.container_statuses?.first()?.last_state.clone());
    let last = last.and_then(|state| state.terminated).expect("a last state");
    assert_eq!((last.exit_code, last.reason.as_deref()), (3, Some("Error")));
    assert!(engine.containers().len() <= 2, "older attempts are removed: {:?}", engine.containers());
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_may_end_ends_with_its_exit_code() {
    for (policy, code, expected) in [("Never", 0, "Succeeded"), ("Never", 2, "Failed"), ("OnFailure", 0, "Succeeded")] {
        let (host, engine) = Host::fake();
        let job = Behaviour { runs_for: Some(Duration::from_secs(1)), exit_code: code, ..Default::default() };
        engine.add_image("web:1", job);
        let _agent = host.start_agent();
        host.api.put(pod("web", &json!({ "restartPolicy": policy })));
        host.until("web", expected, |pod| pod.is_some_and(|pod| phase(pod) == expected)).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(engine.starts().len(), 1, "it is not run again");
    }
}

#[tokio::test(start_paused = true)]
async fn init_containers_run_in_order_before_the_rest() {
    let (host, engine) = Host::fake();
    let step = Behaviour { runs_for: Some(Duration::from_secs(1)), ..Default::default() };
    engine.add_image("step:1", step);
    let _agent = host.start_agent();
    let spec = json!({"initContainers": [
        {"name": "one", "image": "step:1"},
        {"name": "side", "image": "web:1", "restartPolicy": "Always"},
        {"name": "two", "image": "step:1"},
    ]});
    host.api.put(pod("web", &spec));
    host.until_ready("web").await;
    let created: Vec<_> = engine.calls().into_iter().filter(|call| call.starts_with("create")).collect();
    let order: Vec<_> = created.iter().filter_map(|call| call.split('_').nth(1)).collect();
    assert_eq!(order, ["one", "side", "two", "app"]);
    host.api.mark_deleted("web", 30, host.clock.now());
    host.until_gone("web").await;
    assert!(engine.containers().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_absent_image_is_pulled_once_or_waited_for() {
    let (host, engine) = Host::fake();
    engine.add_registry_image("r.example/app:1", Behaviour::default(), Duration::from_secs(5));
    let _agent = host.start_agent();
    let image = |image: &str, policy: &str| json!({"containers": [{"image": image, "imagePullPolicy": policy}]});
    host.api.put(pod("web", &image("r.example/app:1", "IfNotPresent")));
    host.api.put(pod("absent", &image("r.example/none:1", "IfNotPresent")));
    host.api.put(pod("never", &image("r.example/none:1", "Never")));
    host.until_ready("web").await;
    host.until_waiting("absent", "ErrImagePull").await;
    host.until_waiting("never", "ErrImageNeverPull").await;
    host.until_waiting("absent", "ImagePullBackOff").await;
    // Deletion ends the waiting.
    host.api.mark_deleted("absent", 30, host.clock.now());
    host.until_gone("absent").await;
    engine.add_image("r.example/none:1", Behaviour::default());
}

#[tokio::test(start_paused = true)]
async fn a_start_that_fails_is_a_crash_with_the_engines_words() {
    let (host, engine) = Host::fake();
    let broken = Behaviour { start_error: Some("exec: \"nope\": not found".to_owned()), ..Default::default() };
    engine.add_image("web:1", broken);
    let _agent = host.start_agent();
    host.api.put(pod("web", &json!({})));
    host.until_waiting("web", "CrashLoopBackOff").await;
    let last = host.api.get("web").and_then(|pod| pod.status.clone()?.container_statuses?.first()?.last_state.clone());
    let last = last.and_then(|state| state.terminated).expect("a last state");
    assert_eq!(last.reason.as_deref(), Some("ContainerCannotRun"));
    assert!(last.message.unwrap_or_default().contains("not found"));
}

#[tokio::test(start_paused = true)]
async fn without_any_event_pods_still_run_restart_and_end() {
    let (host, engine) = Host::fake();
    engine.lose_events(true);
    let _agent = host.start_agent();
    host.api.put(pod("web", &json!({})));
    host.until_ready("web").await;
    engine.exit(APP_0, 1, false);
    host.until("web", "restarted", |pod| pod.is_some_and(|pod| restarts(pod) == 1 && is_ready(pod))).await;
    host.api.mark_deleted("web", 30, host.clock.now());
    host.until_gone("web").await;
    assert!(engine.containers().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_container_killed_for_memory_says_so() {
    let (host, engine) = Host::fake();
    let _agent = host.start_agent();
    host.api.put(pod("web", &json!({"restartPolicy": "Never"})));
    host.until_ready("web").await;
    engine.exit(APP_0, 137, true);
    host.until("web", "failed", |pod| pod.is_some_and(|pod| phase(pod) == "Failed")).await;
    let state = host.api.get("web").and_then(|pod| pod.status.clone()?.container_statuses?.first()?.state.clone());
    assert_eq!(state.and_then(|state| state.terminated?.reason).as_deref(), Some("OOMKilled"));
}

#[tokio::test(start_paused = true)]
async fn a_container_that_vanishes_is_replaced_once() {
    let (host, engine) = Host::fake();
    let _agent = host.start_agent();
    host.api.put(pod("web", &json!({})));
    host.until_ready("web").await;
    engine.vanish(APP_0);
    host.until("web", "replaced", |pod| pod.is_some_and(|pod| restarts(pod) == 1 && is_ready(pod))).await;
    assert_eq!(engine.containers().keys().collect::<Vec<_>>(), [APP_1]);
}

#[tokio::test(start_paused = true)]
async fn what_ignores_sigterm_is_killed_at_the_end_of_its_grace() {
    let (host, engine) = Host::fake();
    engine.add_image("web:1", Behaviour { stops_after: None, ..Default::default() });
    let _agent = host.start_agent();
    host.api.put(pod("web", &json!({})));
    host.until_ready("web").await;
    let asked = host.clock.now();
    host.api.mark_deleted("web", 7, asked);
    host.until_gone("web").await;
    let took = host.clock.now().duration_since(asked).as_secs();
    assert!((7..=8).contains(&took), "{took}");
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_neither_shortens_nor_lengthens_a_wait() {
    for offset in [2_532, -2_532] {
        let (mut host, engine) = Host::fake();
        let skew = Skew::default();
        host.clock = host.clock.skewed(&skew);
        engine.add_image("web:1", Behaviour { stops_after: None, ..Default::default() });
        let _agent = host.start_agent();
        host.api.put(pod("web", &json!({})));
        host.until_ready("web").await;
        let asked = tokio::time::Instant::now();
        host.api.mark_deleted("web", 7, host.clock.now());
        tokio::time::sleep(Duration::from_secs(3)).await;
        skew.set(jiff::SignedDuration::from_secs(offset));
        host.until_gone("web").await;
        let took = asked.elapsed().as_secs();
        assert!((7..=8).contains(&took), "set by {offset} s: {took}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_deletion_without_grace_takes_one_call() {
    let (host, engine) = Host::fake();
    let _agent = host.start_agent();
    host.api.put(pod("web", &json!({})));
    host.until_ready("web").await;
    host.api.mark_deleted("web", 0, host.clock.now());
    host.until_gone("web").await;
    assert_eq!(engine.calls().len(), 3, "{:?}", engine.calls());
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_has_ended_goes_as_soon_as_the_api_is_back() {
    let (host, _engine) = Host::fake();
    let _agent = host.start_agent();
    host.api.put(pod("web", &json!({})));
    host.until_ready("web").await;
    host.api.set_deletes_fail(true);
    host.api.mark_deleted("web", 1, host.clock.now());
    tokio::time::sleep(Duration::from_secs(120)).await;
    host.api.set_deletes_fail(false);
    let back = tokio::time::Instant::now();
    host.until_gone("web").await;
    assert!(back.elapsed() <= Duration::from_secs(2), "{:?}", back.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_container_whose_creation_was_not_answered_goes_with_its_pod() {
    let (host, engine) = Host::fake();
    let _agent = host.start_agent();
    engine.inject(Fault { when: When::Next("create"), effect: Effect::TimeOutAfter });
    host.api.put(pod("web", &json!({})));
    host.until_waiting("web", "CreateContainerError").await;
    host.api.mark_deleted("web", 1, host.clock.now());
    host.until_gone("web").await;
    assert!(engine.containers().is_empty(), "{:?}", engine.containers());
}

#[tokio::test(start_paused = true)]
async fn a_call_that_hangs_delays_its_own_pod_only() {
    let (host, engine) = Host::fake();
    engine.inject(Fault { when: When::Next("create"), effect: Effect::Hang });
    let _agent = host.start_agent();
    host.api.put(pod("stuck", &json!({})));
    engine.struck().await;
    let began = host.clock.now();
    host.api.put(pod("web", &json!({})));
    host.until_ready("web").await;
    assert!(host.clock.now().duration_since(began).as_secs() < 2);
    host.until_ready("stuck").await;
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_is_down_is_left_alone_and_pods_come_back_as_they_were() {
    let (host, engine) = Host::fake();
    let _agent = host.start_agent();
    host.api.put(pod("web", &json!({})));
    host.until_ready("web").await;
    for operation in ["ping", "list", "inspect", "create"] {
        engine.inject(Fault { when: When::Every(operation), effect: Effect::Fail(ErrorKind::Unavailable) });
    }
    tokio::time::sleep(Duration::from_secs(30)).await;
    host.api.put(pod("later", &json!({})));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(engine.starts().len(), 1);
    engine.heal();
    host.until_ready("later").await;
    assert_eq!(engine.starts()[APP_0], 1, "the healthy container was not restarted");
}

#[tokio::test(start_paused = true)]
async fn foreign_containers_are_never_touched() {
    let (host, engine) = Host::fake();
    let first = host.start_agent();
    host.api.put(pod("web", &json!({})));
    host.until_ready("web").await;
    // Look-alikes: our labels of a live pod, of a dead pod, and a name like ours.
    let ours = host.engine.list_containers(&host.owner.filter()).await.expect("list").remove(0);
    engine.add_foreign("copy", ours.labels.clone());
    engine.add_foreign("drover_app_web_default_uid-web_9", ours.labels.clone());
    let mut dead = ours.labels;
    dead.insert("dev.drover.pod.uid".to_owned(), "uid-dead".to_owned());
    engine.add_foreign("drover_app_web_default_uid-dead_0", dead);
    first.crash().await;
    let _second = host.start_agent();
    tokio::time::sleep(Duration::from_secs(60)).await;
    host.api.mark_deleted("web", 30, host.clock.now());
    host.until_gone("web").await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let left = engine.containers();
    assert_eq!(left.len(), 3, "{left:?}");
    assert!(left.values().all(|phase| *phase == ContainerPhase::Running));
}

#[tokio::test(start_paused = true)]
async fn a_pod_gone_while_the_agent_was_down_is_ended_after_a_complete_list_only() {
    let (host, engine) = Host::fake();
    let agent = host.start_agent();
    host.api.put(pod("web", &json!({})));
    host.until_ready("web").await;
    agent.crash().await;
    let listed = host.clone();
    // An informer that has not listed yet: nothing may be concluded.
    let mut blind = host.clone();
    blind.api = Arc::new(super::harness::FakeApi::default());
    let agent = blind.start_agent();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(engine.containers().len(), 1, "no list, no removal");
    blind.api.pods.mark_listed();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(engine.containers().is_empty(), "the list is complete and lacks the pod");
    assert_eq!(listed.network.list().await.expect("list"), []);
    agent.crash().await;
}

#[tokio::test(start_paused = true)]
async fn a_changed_image_restarts_the_container() {
    let (host, engine) = Host::fake();
    engine.add_image("web:2", Behaviour::default());
    let _agent = host.start_agent();
    host.api.put(pod("web", &json!({})));
    host.until_ready("web").await;
    let mut changed = pod("web", &json!({"containers": [{"image": "web:2"}]}));
    changed.status = host.api.get("web").and_then(|pod| pod.status.clone());
    host.api.put(changed);
    host.until("web", "restarted", |pod| pod.is_some_and(|pod| restarts(pod) == 1 && is_ready(pod))).await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_past_its_deadline_fails_and_stays() {
    let (host, engine) = Host::fake();
    let _agent = host.start_agent();
    host.api.put(pod("web", &json!({"activeDeadlineSeconds": 20})));
    host.until_ready("web").await;
    host.until("web", "failed", |pod| pod.is_some_and(|pod| phase(pod) == "Failed")).await;
    let pod = host.api.get("web").expect("the object stays");
    assert_eq!(pod.status.as_ref().and_then(|s| s.reason.as_deref()), Some("DeadlineExceeded"));
    assert!(engine.containers().values().all(|phase| *phase == ContainerPhase::Exited));
    host.api.mark_deleted("web", 30, host.clock.now());
    host.until_gone("web").await;
    assert!(engine.containers().is_empty());
}

fn service() -> k8s_openapi::api::core::v1::Service {
    let object = json!({"metadata": {"name": "web", "namespace": "default"}, "spec": {"selector": {"app": "web"}}});
    serde_json::from_value(object).expect("a service")
}

fn slice(revision: u64, ready: bool, terminating: bool) -> k8s_openapi::api::discovery::v1::EndpointSlice {
    let object = json!({
        "metadata": {"name": "web-1", "namespace": "default", "resourceVersion": revision.to_string(),
            "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "ports": [],
        "endpoints": [{"addresses": ["10.128.0.2"], "targetRef": {"uid": uid("web").as_str()},
            "conditions": {"ready": ready, "terminating": terminating}}],
    });
    serde_json::from_value(object).expect("a slice")
}

#[tokio::test(start_paused = true)]
async fn readiness_waits_for_the_proxies_and_the_stop_signal_too() {
    let (host, engine) = Host::fake();
    host.services.apply(service());
    let _agent = host.start_agent();
    host.api.put(pod("web", &json!({})));
    let awaiting = ("False".to_owned(), "AwaitingRoutes".to_owned());
    host.until("web", "awaiting", |pod| pod.and_then(|pod| condition(pod, "Ready")) == Some(awaiting.clone())).await;
    host.slices.apply(slice(5, true, false));
    host.acknowledged.send_replace(4);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!is_ready(&host.api.get("web").expect("pod")), "acknowledged only up to 4");
    host.acknowledged.send_replace(5);
    host.until_ready("web").await;

    host.api.mark_deleted("web", 30, host.clock.now());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(engine.calls().len(), 2, "no signal while proxies may route: {:?}", engine.calls());
    host.slices.apply(slice(6, false, true));
    host.acknowledged.send_replace(6);
    host.until_gone("web").await;
    assert!(host.api.statuses("web").len() <= 5);
}

#[tokio::test(start_paused = true)]
async fn broken_proxies_delay_a_pod_but_never_wedge_it() {
    let (host, _engine) = Host::fake();
    host.services.apply(service());
    let _agent = host.start_agent();
    let began = host.clock.now();
    host.api.put(pod("web", &json!({})));
    host.until_ready("web").await;
    let waited = host.clock.now().duration_since(began).as_secs();
    assert!((9..=11).contains(&waited), "{waited}");
    host.slices.apply(slice(5, true, false));
    let asked = host.clock.now();
    host.api.mark_deleted("web", 30, asked);
    host.until_gone("web").await;
    let waited = host.clock.now().duration_since(asked).as_secs();
    assert!((5..=6).contains(&waited), "{waited}");
}

#[tokio::test(start_paused = true)]
async fn taking_a_pod_over_changes_neither_its_readiness_nor_its_status() {
    let (host, engine) = Host::fake();
    let probe = json!({"exec": {"command": ["true"]}, "periodSeconds": 30, "initialDelaySeconds": 20});
    let agent = host.start_agent();
    host.api.put(pod("web", &json!({"containers": [{"readinessProbe": probe, "startupProbe": probe}]})));
    host.until_ready("web").await;
    agent.crash().await;
    let writes = host.api.statuses("web").len();
    let _second = host.start_agent();
    tokio::time::sleep(Duration::from_secs(300)).await;
    let later: Vec<_> = host.api.statuses("web").split_off(writes);
    assert!(later.is_empty(), "{later:?}");
    assert_eq!(engine.starts()[APP_0], 1);
}
