//! Crash everywhere (faults R1, R6): the agent dies at every call to the engine, before it takes effect and after, and
//! the next agent brings the pod to the same end without starting anything twice.

use std::time::Duration;

use serde_json::{Value, json};

use super::harness::{Host, pod};
use crate::engine::fake::{Behaviour, Effect, FakeEngine, Fault, When};

fn prepare(engine: &FakeEngine) {
    let step = Behaviour { runs_for: Some(Duration::from_secs(1)), ..Default::default() };
    engine.add_image("step:1", step);
    engine.add_registry_image("pulled:1", Behaviour::default(), Duration::from_secs(1));
}

fn spec() -> Value {
    json!({
        "initContainers": [
            {"name": "step", "image": "step:1"},
            {"name": "side", "image": "web:1", "restartPolicy": "Always"},
        ],
        "containers": [
            {"name": "app", "image": "web:1"},
            {"name": "other", "image": "pulled:1", "imagePullPolicy": "IfNotPresent"},
        ],
    })
}

/// Runs the scenario to its end with an agent that is replaced when a fault swallowed an answer.
async fn run(faults: Vec<Fault>) -> (Vec<String>, std::collections::BTreeMap<String, u32>) {
    let (host, engine) = Host::fake();
    prepare(&engine);
    for fault in faults {
        engine.inject(fault);
    }
    let mut agent = host.start_agent();
    host.api.put(pod("web", &spec()));
    let mut crashed = false;
    for deleted in [false, true] {
        if deleted {
            host.api.mark_deleted("web", 30, host.clock.now());
        }
        loop {
            let goal = async { if deleted { host.until_gone("web").await } else { host.until_ready("web").await } };
            tokio::select! {
                () = goal => break,
                _ = engine.struck(), if !crashed => {
                    crashed = true;
                    agent.crash().await;
                    agent = host.start_agent();
                }
            }
        }
    }
    // Whatever a crash left is found by a listing.
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(engine.containers().is_empty(), "left behind: {:?}", engine.containers());
    assert_eq!(host.network.list().await.expect("list"), [], "a name space is left");
    (engine.calls(), engine.starts())
}

#[tokio::test(start_paused = true)]
async fn an_agent_may_die_at_any_call_and_nothing_starts_twice() {
    let (calls, starts) = run(Vec::new()).await;
    assert_eq!(starts.len(), 4, "{starts:?}");
    for (number, call) in calls.iter().enumerate() {
        for effect in [Effect::Hang, Effect::LoseReply] {
            let what = format!("{effect:?} at call {number} ({})", call);
            let fault = Fault { when: When::Call(number), effect };
            let (_, again) = run(vec![fault]).await;
            assert_eq!(again, starts, "{what}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_time_out_of_any_call_whose_effect_is_unknown_changes_nothing() {
    let (calls, starts) = run(Vec::new()).await;
    for (number, call) in calls.iter().enumerate() {
        let what = format!("time-out after call {number} ({})", call);
        let fault = Fault { when: When::Call(number), effect: Effect::TimeOutAfter };
        let (_, again) = run(vec![fault]).await;
        assert_eq!(again, starts, "{what}");
    }
}
