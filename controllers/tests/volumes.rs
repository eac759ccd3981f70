//! The volume controller against an API in memory: whole lives of claims, and a crash after every single write.

#![expect(clippy::unwrap_used, clippy::or_fun_call, reason = "a failed test says enough by where it stops")]

#[allow(dead_code, unused_imports, reason = "every test binary uses a part of the fake")]
mod fake;

use std::collections::BTreeSet;
use std::time::Duration;

use drover_controllers::runtime::Environment;
use drover_controllers::{Config, run};
use fake::{Fake, client};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

const CLAIMS: &str = "/persistentvolumeclaims";
const VOLUMES: &str = "/persistentvolumes";

struct Cluster {
    fake: Fake,
    running: tokio::task::JoinHandle<()>,
}

fn start(fake: &Fake) -> Cluster {
    let config = Config { enabled: BTreeSet::from(["persistentvolume".to_owned()]), ..Config::all() };
    let config = Config { environment: Environment::system(), ..config };
    let client = client(fake);
    let running = tokio::spawn(async move { run(client, config, CancellationToken::new()).await.unwrap() });
    Cluster { fake: fake.clone(), running }
}

impl Cluster {
    /// Waits until `done` holds, for ten minutes of the cluster's time.
    async fn until(&self, what: &str, done: impl Fn(&Fake) -> bool) {
        for _ in 0..6000 {
            if done(&self.fake) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let objects = self.fake.lock().objects.values().map(ToString::to_string).collect::<Vec<_>>();
        panic!("never: {what}\n{}", objects.join("\n"));
    }

    /// Proves over twenty minutes that nothing is written without a cause (L2).
    async fn stays_quiet(&self) {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let before = self.fake.writes();
        tokio::time::sleep(Duration::from_secs(1200)).await;
        assert_eq!(self.fake.writes(), before, "writes without a cause");
    }

    /// Ends at once, in the middle of whatever is under way.
    async fn crash(self) {
        self.running.abort();
        assert!(self.running.await.unwrap_err().is_cancelled());
    }
}

fn key(collection: &str, namespace: &str, name: &str) -> (String, String, String) {
    (collection.to_owned(), namespace.to_owned(), name.to_owned())
}

fn world(mode: &str, policy: &str) -> Fake {
    let fake = Fake::new();
    let ready = json!({"conditions": [{"type": "Ready", "status": "True"}]});
    let node = json!({"metadata": {"name": "n1", "labels": {"kubernetes.io/hostname": "n1"}}, "status": ready});
    fake.create("/nodes", node).unwrap();
    let class = json!({"metadata": {"name": "local"}, "provisioner": "drover.dev/local", "volumeBindingMode": mode,
        "reclaimPolicy": policy});
    fake.create("storage.k8s.io/storageclasses", class).unwrap();
    fake
}

fn create_claim(fake: &Fake) -> String {
    let claim = json!({"metadata": {"name": "data", "namespace": "shop", "finalizers": ["kubernetes.io/pvc-protection"]},
        "spec": {"storageClassName": "local", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        "status": {"phase": "Pending"}});
    fake.create(CLAIMS, claim).unwrap()["metadata"]["uid"].as_str().unwrap().to_owned()
}

/// Does the scheduler's part.
fn select_node(fake: &Fake) {
    let patch = json!({"metadata": {"annotations": {"volume.kubernetes.io/selected-node": "n1"}}});
    fake.patch(&key(CLAIMS, "shop", "data"), &patch, None).unwrap();
}

/// Does the agent's part: removes the data and then the finalizer.
fn remove_data(fake: &Fake, volume: &str) {
    fake.patch(&key(VOLUMES, "", volume), &json!({"metadata": {"finalizers": []}}), None).unwrap();
}

fn claim(fake: &Fake) -> Value {
    fake.get(CLAIMS, "shop", "data").unwrap_or_default()
}

fn volume(fake: &Fake, name: &str) -> Value {
    fake.get(VOLUMES, "", name).unwrap_or_default()
}

fn is_bound(fake: &Fake, name: &str) -> bool {
    let claim = claim(fake);
    claim["status"]["phase"] == "Bound"
        && claim["spec"]["volumeName"] == name
        && volume(fake, name)["status"]["phase"] == "Bound"
        && volume(fake, name)["spec"]["claimRef"]["uid"] == claim["metadata"]["uid"]
}

/// The volume is deleted but for its data, which is the agent's.
fn awaits_agent(fake: &Fake, name: &str) -> bool {
    let metadata = &volume(fake, name)["metadata"];
    metadata["deletionTimestamp"].is_string() && metadata["finalizers"] == json!(["drover.dev/volume"])
}

fn has_event(fake: &Fake, reason: &str) -> bool {
    fake.list("/events").iter().any(|event| event["reason"] == reason)
}

#[tokio::test(start_paused = true)]
async fn a_claim_waits_for_its_consumer_lives_and_takes_its_data_along() {
    let fake = world("WaitForFirstConsumer", "Delete");
    let cluster = start(&fake);
    let name = format!("pvc-{}", create_claim(&fake));
    cluster.until("the reason", |fake| has_event(fake, "WaitForFirstConsumer")).await;
    assert!(fake.list(VOLUMES).is_empty());
    select_node(&fake);
    cluster.until("bound", |fake| is_bound(fake, &name)).await;
    let status = claim(&fake)["status"].clone();
    assert_eq!(status["capacity"], json!({"storage": "1Gi"}));
    assert!(has_event(&fake, "ProvisioningSucceeded"));

    let pod = json!({"metadata": {"name": "p", "namespace": "shop"}, "spec": {"nodeName": "n1", "containers": [],
        "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]}, "status": {"phase": "Running"}});
    fake.create("/pods", pod).unwrap();
    fake.delete(&key(CLAIMS, "shop", "data"), &Value::Null).unwrap();
    fake.delete(&key(VOLUMES, "", &name), &Value::Null).unwrap();
    cluster
        .until("both say why they stay", |fake| has_event(fake, "ClaimInUse") && has_event(fake, "VolumeInUse"))
        .await;
    cluster.stays_quiet().await;
    assert!(is_bound(&fake, &name));

    fake.patch(&key("/pods", "shop", "p"), &json!({"status": {"phase": "Succeeded"}}), Some("status")).unwrap();
    cluster.until("released", |fake| claim(fake).is_null() && awaits_agent(fake, &name)).await;
    cluster.stays_quiet().await;
    remove_data(&fake, &name);
    cluster.until("gone", |fake| fake.list(VOLUMES).is_empty()).await;
    cluster.crash().await;
}

#[tokio::test(start_paused = true)]
async fn a_claim_recreated_gets_a_volume_of_its_own_and_retain_keeps_the_old() {
    let fake = world("Immediate", "Retain");
    let cluster = start(&fake);
    let old = format!("pvc-{}", create_claim(&fake));
    cluster.until("bound", |fake| is_bound(fake, &old)).await;
    fake.delete(&key(CLAIMS, "shop", "data"), &Value::Null).unwrap();
    cluster.until("claim gone", |fake| claim(fake).is_null()).await;
    let new = format!("pvc-{}", create_claim(&fake));
    cluster.until("bound anew", |fake| is_bound(fake, &new)).await;
    cluster.until("released", |fake| volume(fake, &old)["status"]["phase"] == "Released").await;
    cluster.stays_quiet().await;
    assert_eq!(fake.list(VOLUMES).len(), 2);
    cluster.crash().await;
}

#[tokio::test(start_paused = true)]
async fn a_volume_made_by_hand_is_bound_and_a_loser_of_the_race_waits() {
    let fake = world("Immediate", "Delete");
    let cluster = start(&fake);
    let made = json!({"metadata": {"name": "disk", "finalizers": ["kubernetes.io/pv-protection"]},
        "spec": {"capacity": {"storage": "5Gi"}, "accessModes": ["ReadWriteOnce"], "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": "/disk"}}, "status": {"phase": "Pending"}});
    for name in ["a", "b"] {
        let claim = json!({"metadata": {"name": name, "namespace": "shop"}, "status": {"phase": "Pending"},
            "spec": {"storageClassName": "", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
        fake.create(CLAIMS, claim).unwrap();
    }
    cluster.until("the reason", |fake| has_event(fake, "FailedBinding")).await;
    fake.create(VOLUMES, made).unwrap();
    let phases = |fake: &Fake| {
        let mut phases: Vec<_> = fake.list(CLAIMS).iter().map(|claim| claim["status"]["phase"].to_string()).collect();
        phases.sort();
        phases
    };
    cluster.until("one bound", |fake| phases(fake) == ["\"Bound\"", "\"Pending\""]).await;
    cluster.stays_quiet().await;
    assert_eq!(phases(&fake), ["\"Bound\"", "\"Pending\""]);
    cluster.crash().await;
}

/// R1: the controller dies after its first, second, … write, is started again, and ends where an undisturbed one does.
#[tokio::test(start_paused = true)]
async fn a_crash_after_any_write_changes_nothing() {
    for deadly in 1..=8 {
        let fake = world("Immediate", "Delete");
        let name = format!("pvc-{}", create_claim(&fake));
        let cluster = start_after_crash(&fake, deadly).await;
        cluster.until("bound", |fake| is_bound(fake, &name)).await;
        cluster.crash().await;

        fake.delete(&key(CLAIMS, "shop", "data"), &Value::Null).unwrap();
        let cluster = start_after_crash(&fake, deadly).await;
        cluster.until("released", |fake| claim(fake).is_null() && awaits_agent(fake, &name)).await;
        cluster.stays_quiet().await;
        let made = fake.lock().history.iter().filter(|(_, of, kind, _)| of == VOLUMES && *kind == "ADDED").count();
        assert_eq!(made, 1, "volumes made with a crash after write {deadly}");
        cluster.crash().await;
    }
}

/// Runs the controller until it has written `writes` times or has nothing more to write, lets it die, starts another.
async fn start_after_crash(fake: &Fake, writes: usize) -> Cluster {
    let mut changed = fake.changed.subscribe();
    let deadly = fake.writes() + writes;
    let cluster = start(fake);
    while fake.writes() < deadly {
        if tokio::time::timeout(Duration::from_secs(60), changed.recv()).await.is_err() {
            break;
        }
    }
    cluster.crash().await;
    start(fake)
}
