//! The life cycle on a real Docker Engine.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::harness::{Host, is_ready, phase, pod, restarts};
use crate::{
    clock::Clock,
    engine::{DockerEngine, Engine},
    seams::fake::FakeNetwork,
    testing::RealEngine,
};

fn host() -> Host {
    let engine: Arc<dyn Engine> = Arc::new(DockerEngine::new(RealEngine::ENDPOINT));
    Host::with(engine, Clock::System, Arc::new(FakeNetwork::default()))
}

fn shell(real: &RealEngine, script: &str, over: &Value) -> Value {
    let mut spec = json!({"containers": [{"image": real.image(), "command": ["/bin/sh", "-c", script]}]});
    for (key, value) in over.as_object().into_iter().flatten() {
        if key == "resources" {
            spec["containers"][0][key] = value.clone();
        } else {
            spec[key] = value.clone();
        }
    }
    spec
}

async fn own_containers(host: &Host) -> Vec<String> {
    let listed = host.engine.list_containers(&host.owner.filter()).await.expect("list");
    listed.into_iter().map(|summary| summary.id.to_string()).collect()
}

#[tokio::test]
async fn a_pod_starts_outlives_its_agent_and_ends() {
    let Some(real) = RealEngine::prepare() else { return };
    let host = host();
    let agent = host.start_agent();
    host.api.put(pod("web", &shell(&real, "trap 'exit 0' TERM; while :; do sleep 0.1; done", &json!({}))));
    host.until_ready("web").await;
    let before = own_containers(&host).await;
    let started = host.engine.inspect_container(&before[0]).await.expect("inspect").started_at;
    agent.crash().await;

    let writes = host.api.statuses("web").len();
    let _second = host.start_agent();
    // The second agent is at work once it has ended another pod.
    host.api.put(pod("other", &shell(&real, "sleep 1000", &json!({}))));
    host.until_ready("other").await;
    host.api.mark_deleted("other", 0, host.clock.now());
    host.until_gone("other").await;
    assert_eq!(own_containers(&host).await, before, "the container was adopted");
    assert_eq!(host.engine.inspect_container(&before[0]).await.expect("inspect").started_at, started);
    assert!(is_ready(&host.api.get("web").expect("pod")));
    assert!(host.api.statuses("web").len() <= writes + 1, "the status says nothing new");

    host.api.mark_deleted("web", 30, host.clock.now());
    host.until_gone("web").await;
    assert_eq!(own_containers(&host).await, Vec::<String>::new());
}

#[tokio::test]
async fn exit_code_and_last_words_are_reported() {
    let Some(real) = RealEngine::prepare() else { return };
    let host = host();
    let _agent = host.start_agent();
    let spec = shell(&real, "echo -n because > /dev/termination-log; exit 7", &json!({"restartPolicy": "Never"}));
    host.api.put(pod("web", &spec));
    host.until("web", "failed", |pod| pod.is_some_and(|pod| phase(pod) == "Failed")).await;
    let state = host.api.get("web").and_then(|pod| pod.status.clone()?.container_statuses?.first()?.state.clone());
    let ended = state.and_then(|state| state.terminated).expect("terminated");
    let said = (ended.exit_code, ended.reason.as_deref(), ended.message.as_deref());
    assert_eq!(said, (7, Some("Error"), Some("because")));
    host.api.mark_deleted("web", 0, host.clock.now());
    host.until_gone("web").await;
}

#[tokio::test]
async fn a_container_that_takes_too_much_memory_is_killed_and_says_so() {
    let Some(real) = RealEngine::prepare() else { return };
    let host = host();
    let _agent = host.start_agent();
    let over = json!({"restartPolicy": "Never", "resources": {"limits": {"memory": "64Mi", "cpu": "500m"}}});
    host.api.put(pod("web", &shell(&real, "tail /dev/zero", &over)));
    host.until("web", "failed", |pod| pod.is_some_and(|pod| phase(pod) == "Failed")).await;
    let state = host.api.get("web").and_then(|pod| pod.status.clone()?.container_statuses?.first()?.state.clone());
    let ended = state.and_then(|state| state.terminated).expect("terminated");
    assert_eq!(ended.reason.as_deref(), Some("OOMKilled"), "{ended:?}");
    host.api.mark_deleted("web", 0, host.clock.now());
    host.until_gone("web").await;
}

#[tokio::test]
async fn a_killed_process_is_restarted_and_a_deaf_one_is_killed() {
    let Some(real) = RealEngine::prepare() else { return };
    let host = host();
    let _agent = host.start_agent();
    host.api.put(pod("web", &shell(&real, "trap '' TERM; while :; do sleep 0.1; done", &json!({}))));
    host.until_ready("web").await;
    let id = own_containers(&host).await.remove(0);
    let id = crate::ids::ContainerId::new(&id).expect("an id");
    host.engine.kill_container(&id, "SIGKILL").await.expect("kill");
    host.until("web", "restarted", |pod| pod.is_some_and(|pod| restarts(pod) == 1 && is_ready(pod))).await;
    host.api.mark_deleted("web", 1, host.clock.now());
    host.until_gone("web").await;
    assert_eq!(own_containers(&host).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_program_that_is_not_there_is_a_crash_with_the_engines_words() {
    let Some(real) = RealEngine::prepare() else { return };
    let host = host();
    let _agent = host.start_agent();
    host.api.put(pod("web", &json!({"containers": [{"image": real.image(), "command": ["/nonexistent"]}]})));
    host.until_waiting("web", "CrashLoopBackOff").await;
    host.api.mark_deleted("web", 0, host.clock.now());
    host.until_gone("web").await;
    assert_eq!(own_containers(&host).await, Vec::<String>::new());
}

/// Not a test of behaviour: prints rates when asked to (`DROVER_BENCH=200`).
#[tokio::test(flavor = "multi_thread")]
async fn rates_of_starts_and_removals() {
    let count: usize = std::env::var("DROVER_BENCH").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let Some(real) = RealEngine::prepare().filter(|_| count > 0) else { return };
    let host = host();
    let _agent = host.start_agent();
    let names: Vec<String> = (0..count).map(|number| format!("web-{number}")).collect();
    let began = std::time::Instant::now();
    for name in &names {
        host.api.put(pod(name, &shell(&real, "trap 'exit 0' TERM; sleep 1000 & wait", &json!({"hostNetwork": true}))));
    }
    for name in &names {
        host.until_ready(name).await;
    }
    let rate = |took: Duration| f64::from(u32::try_from(count).expect("small")) / took.as_secs_f64();
    println!("{count} starts: {:.1}/s", rate(began.elapsed()));
    let began = std::time::Instant::now();
    for name in &names {
        host.api.mark_deleted(name, 30, host.clock.now());
    }
    for name in &names {
        host.until_gone(name).await;
    }
    println!("{count} removals: {:.1}/s", rate(began.elapsed()));
}
