//! Holders on the engine in memory.

use expect_test::expect;

use super::*;
use crate::{
    clock::Clock,
    engine::fake::{Behaviour, Effect, FakeEngine, Fault, When},
    seams::SandboxRequest,
};

struct Lab {
    engine: FakeEngine,
    holders: Holders,
    _folder: tempfile::TempDir,
}

fn lab() -> Lab {
    let folder = tempfile::tempdir().unwrap();
    let owner = Owner { cluster: "c".into(), node: "n".into() };
    let engine = FakeEngine::new(Clock::System);
    engine.add_image("drover/holder:1", Behaviour::default());
    let holders = Holders {
        engine: Arc::new(engine.clone()),
        ledger: Ledger::open(folder.path(), owner.clone()).unwrap(),
        owner,
        bridge: "drover0".into(),
        image: "drover/holder:1".into(),
        oom_score_adj: -998,
    };
    Lab { engine, holders, _folder: folder }
}

fn pod() -> PodUid {
    PodUid::new("u-1").unwrap()
}

fn record(last: u8) -> Record {
    let request = SandboxRequest {
        pod: pod(),
        namespace: "default".into(),
        name: "web".into(),
        hostname: "www".into(),
        host_ports: Vec::new(),
    };
    Record::new([10, 128, 0, last].into(), &request)
}

/// The names of the calls that changed something since the last look.
fn calls(engine: &FakeEngine, seen: &mut usize) -> String {
    let all = engine.calls();
    let names = all[*seen..].iter().map(|call| call.split(' ').next().unwrap_or_default());
    let text = names.collect::<Vec<_>>().join(" ");
    *seen = all.len();
    text
}

#[tokio::test]
async fn a_holder_is_made_once_started_again_and_made_anew_for_another_address() {
    let Lab { engine, holders, _folder } = lab();
    let mut seen = 0;
    assert!(holders.hold(&pod(), &record(2)).await.unwrap().started);
    assert_eq!(calls(&engine, &mut seen), "create start");
    assert!(!holders.hold(&pod(), &record(2)).await.unwrap().started);
    assert_eq!(calls(&engine, &mut seen), "", "one that runs is left alone");
    engine.exit(&holder_name(&pod()), 137, false);
    assert!(holders.hold(&pod(), &record(2)).await.unwrap().started);
    assert_eq!(calls(&engine, &mut seen), "start", "containers that name it find the same one");
    assert!(holders.hold(&pod(), &record(3)).await.unwrap().started);
    assert_eq!(calls(&engine, &mut seen), "remove create start");
    engine.vanish(&holder_name(&pod()));
    assert!(holders.hold(&pod(), &record(3)).await.unwrap().started);
    assert_eq!(calls(&engine, &mut seen), "create start");
    holders.remove(&pod()).await.unwrap();
    holders.remove(&pod()).await.unwrap();
    assert_eq!(calls(&engine, &mut seen), "remove");
}

#[tokio::test]
async fn a_call_that_is_cut_off_is_made_good_by_the_next() {
    for fault in ["create", "start"] {
        for effect in [Effect::Fail(ErrorKind::Failed), Effect::TimeOutAfter] {
            let Lab { engine, holders, _folder } = lab();
            engine.inject(Fault { when: When::Next(fault), effect: effect.clone() });
            holders.hold(&pod(), &record(2)).await.unwrap_err();
            holders.hold(&pod(), &record(2)).await.unwrap_or_else(|error| panic!("{fault} {effect:?}: {error}"));
            assert_eq!(engine.containers().len(), 1, "{fault} {effect:?}");
        }
    }
}

#[tokio::test]
async fn what_only_looks_like_a_holder_is_not_touched() {
    let Lab { engine, holders, _folder } = lab();
    // All labels of a holder of ours, but for the seal, which nobody else can make.
    let mut labels = holders.config(&pod(), &record(2)).labels;
    labels.insert(SEAL.to_owned(), "0".repeat(32));
    engine.add_foreign(&holder_name(&pod()), labels);
    let refused = holders.hold(&pod(), &record(2)).await.unwrap_err();
    assert_eq!(refused.to_string(), "container drover_POD_u-1 is not Drover's");
    assert_eq!(holders.list().await.unwrap(), []);
    holders.remove(&pod()).await.unwrap();
    assert_eq!(engine.containers().len(), 1);
    assert_eq!(engine.calls(), [""; 0]);
}

#[tokio::test]
async fn the_life_cycle_does_not_take_a_holder_for_a_container_of_the_pod() {
    let Lab { engine: _engine, holders, _folder } = lab();
    holders.hold(&pod(), &record(2)).await.unwrap();
    let listed = holders.list().await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(crate::config::identity_of(&listed[0].1.labels), None);
}

#[test]
fn a_holder_may_do_nothing_but_hold() {
    let config = lab().holders.config(&pod(), &record(2));
    let Security { cap_drop, read_only_root, no_new_privileges, privileged, .. } = &config.security;
    assert!(*read_only_root && *no_new_privileges && !*privileged && *cap_drop == ["ALL"]);
    expect![[r#"drover-drover0 10.128.0.2 www SIGKILL ["/holder"] -998"#]].assert_eq(&format!(
        "{} {} {} {} {:?} {}",
        config.network_mode,
        config.ipv4.unwrap(),
        config.hostname.unwrap(),
        config.stop_signal.unwrap(),
        config.entrypoint.unwrap(),
        config.resources.oom_score_adj
    ));
}
