//! After a restore of an older backup the API does not have what runs here: it is kept until that is confirmed.

use std::time::Duration;

use drover_api::restored::Unconfirmed;
use serde_json::json;

use super::harness::{Host, pod};
use crate::engine::{ContainerPhase, fake::FakeEngine};

fn restored(host: &Host) -> Unconfirmed {
    Unconfirmed { taken_at: host.clock.now(), restored_at: host.clock.now() }
}

fn running(engine: &FakeEngine) -> Vec<String> {
    let containers = engine.containers().into_iter();
    containers.filter(|(_, phase)| *phase == ContainerPhase::Running).map(|(name, _)| name).collect()
}

#[tokio::test(start_paused = true)]
async fn pods_that_a_restore_forgot_run_on_until_it_is_confirmed() {
    let (host, engine) = Host::fake();
    let agent = host.start_agent();
    for name in ["web", "db"] {
        host.api.put(pod(name, &json!({})));
        host.until_ready(name).await;
    }
    let starts = engine.starts();

    host.api.set_restored(Some(restored(&host)));
    let forgotten = host.api.get("web").expect("a pod");
    host.api.pods.delete(&forgotten);
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(running(&engine).len(), 2, "{:?}", engine.containers());

    // An agent that starts anew has no object of the pod at all, only its ledger.
    agent.crash().await;
    let _agent = host.start_agent();
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(running(&engine).len(), 2, "{:?}", engine.containers());
    assert_eq!(engine.starts(), starts, "nothing was restarted");

    host.api.set_restored(None);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let left = running(&engine);
    assert!(left.len() == 1 && left[0].contains("db"), "{left:?}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_cannot_be_asked_ends_nothing() {
    let (host, engine) = Host::fake();
    let _agent = host.start_agent();
    host.api.put(pod("web", &json!({})));
    host.until_ready("web").await;
    host.api.set_restored_fails(true);
    host.api.pods.delete(&host.api.get("web").expect("a pod"));
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(running(&engine).len(), 1);
    host.api.set_restored_fails(false);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(engine.containers().is_empty(), "{:?}", engine.containers());
}

#[tokio::test(start_paused = true)]
async fn a_pod_whose_deletion_was_asked_for_goes_though_nothing_is_confirmed() {
    let (host, engine) = Host::fake();
    let _agent = host.start_agent();
    host.api.put(pod("web", &json!({})));
    host.until_ready("web").await;
    host.api.set_restored(Some(restored(&host)));
    host.api.mark_deleted("web", 1, host.clock.now());
    host.until_gone("web").await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(engine.containers().is_empty(), "{:?}", engine.containers());
}
