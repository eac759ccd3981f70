//! All controllers together against an API in memory, in one thread and with time that only moves when all is still.

#![expect(clippy::unwrap_used, clippy::or_fun_call, reason = "a failed test says enough by where it stops")]

mod fake;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use drover_controllers::runtime::{Clock, Environment, Random};
use drover_controllers::{Config, run};
use drover_invariants::{World, check_invariants, check_step};
use fake::{Fake, Faults, client};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// Wall time that follows tokio's.
#[derive(Debug)]
struct Time {
    origin: tokio::time::Instant,
}

impl Clock for Time {
    fn now(&self) -> Timestamp {
        let elapsed = self.origin.elapsed();
        Timestamp::from_second(1_767_268_800).unwrap() + jiff::SignedDuration::try_from(elapsed).unwrap()
    }
}

#[derive(Debug)]
struct Middle;

impl Random for Middle {
    fn unit(&self) -> f64 {
        0.5
    }
}

struct Cluster {
    fake: Fake,
    shutdown: CancellationToken,
    running: tokio::task::JoinHandle<()>,
    nodes: tokio::task::JoinHandle<()>,
}

/// Starts every controller that decides about workloads, and a stand-in for the nodes.
fn start(fake: &Fake) -> Cluster {
    start_with(fake, |name| !matches!(name, "nodelifecycle" | "podgc"))
}

fn start_with(fake: &Fake, wanted: impl Fn(&str) -> bool) -> Cluster {
    let shutdown = CancellationToken::new();
    let origin = tokio::time::Instant::now();
    let environment = Environment { clock: Arc::new(Time { origin }), random: Arc::new(Middle) };
    let enabled: BTreeSet<String> = drover_controllers::names()
        .filter(|name| wanted(name) && *name != "scheduler" && !name.contains("volume"))
        .map(ToOwned::to_owned)
        .collect();
    let config = Config { enabled, environment, ca_pem: "CA".to_owned(), ..Config::all() };
    let running = tokio::spawn({
        let (client, shutdown) = (client(fake), shutdown.clone());
        async move { run(client, config, shutdown).await.unwrap() }
    });
    let nodes = tokio::spawn(play_nodes(fake.clone()));
    Cluster { fake: fake.clone(), shutdown, running, nodes }
}

/// Binds pods, makes them ready, and ends those being deleted.
async fn play_nodes(fake: Fake) {
    let mut changed = fake.changed.subscribe();
    loop {
        for pod in fake.list("/pods") {
            let name = pod["metadata"]["name"].as_str().unwrap();
            let key = ("/pods".to_owned(), pod["metadata"]["namespace"].as_str().unwrap().to_owned(), name.to_owned());
            if pod["metadata"]["deletionTimestamp"].is_string() {
                let _ = fake.delete(&key, &json!({"gracePeriodSeconds": 0}));
            } else if pod["spec"]["nodeName"].is_null() {
                let _ = fake.patch(&key, &json!({"spec": {"nodeName": "n1"}}), None);
                let uid = pod["metadata"]["uid"].as_str().unwrap();
                let number: u32 = uid.trim_start_matches("uid-").parse().unwrap();
                let since = "2026-01-01T12:00:00Z";
                let status = json!({"phase": "Running", "podIP": format!("10.128.{}.{}", number >> 8 & 255, number & 255),
                    "conditions": [{"type": "ContainersReady", "status": "True"}, {"type": "Ready", "status": "True", "lastTransitionTime": since}]});
                let _ = fake.patch(&key, &json!({"status": status}), Some("status"));
            }
        }
        if changed.recv().await.is_err() {
            changed = fake.changed.subscribe();
        }
    }
}

impl Cluster {
    /// Waits until `done` holds, for ten minutes of the cluster's time.
    async fn until(&self, what: &str, done: impl Fn(&Fake) -> bool) {
        let mut before = world(&self.fake, 0.0);
        for _ in 0..6000 {
            let after = world(&self.fake, 0.0);
            assert_eq!(check_step(&before, &after), []);
            before = after;
            if done(&self.fake) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let objects: Vec<String> =
            self.fake.lock().objects.iter().map(|(key, object)| format!("{key:?} {}", object["status"])).collect();
        panic!("never: {what}\n{}", objects.join("\n"));
    }

    /// Waits until nothing is written any more, and proves it over ten minutes (L2).
    async fn until_quiet(&self) {
        let mut before = usize::MAX;
        for _ in 0..100 {
            let now = self.fake.writes();
            if now == before {
                tokio::time::sleep(Duration::from_secs(600)).await;
                assert_eq!(self.fake.writes(), now, "writes without a cause: {:?}", self.fake.lock().writes);
                assert_eq!(check_invariants(&world(&self.fake, 600.0)), []);
                return;
            }
            before = now;
            tokio::time::sleep(Duration::from_secs(20)).await;
        }
        panic!("never quiet: {:?}", self.fake.lock().writes);
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.running.await.unwrap();
        self.nodes.abort();
    }
}

/// What the oracles look at; the nodes are played and have no objects where the test makes none.
fn world(fake: &Fake, quiet_secs: f64) -> World {
    fn all<K: serde::de::DeserializeOwned>(fake: &Fake, collection: &str) -> Vec<K> {
        fake.list(collection).into_iter().map(|object| serde_json::from_value(object).unwrap()).collect()
    }
    World {
        now: Timestamp::from_second(1_767_268_800 + 86_400).unwrap(),
        quiet_secs,
        deployments: all(fake, "apps/deployments"),
        replica_sets: all(fake, "apps/replicasets"),
        pods: all(fake, "/pods"),
        services: all(fake, "/services"),
        slices: all(fake, "discovery.k8s.io/endpointslices"),
        nodes: all(fake, "/nodes"),
        ..World::default()
    }
}

fn namespace(fake: &Fake) {
    fake.create("/namespaces", json!({"metadata": {"name": "shop"}, "spec": {"finalizers": ["kubernetes"]}})).unwrap();
}

fn deployment(fake: &Fake, replicas: usize) {
    fake.create("apps/deployments", json!({"metadata": {"name": "web", "namespace": "shop"},
        "spec": {"replicas": replicas, "progressDeadlineSeconds": 600, "revisionHistoryLimit": 2, "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "v1", "ports": [{"containerPort": 80}]}]}}}}))
    .unwrap();
}

fn set_image(fake: &Fake, image: &str) {
    let key = ("apps/deployments".to_owned(), "shop".to_owned(), "web".to_owned());
    let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}});
    fake.patch(&key, &patch, None).unwrap();
}

fn is_complete(fake: &Fake, replicas: usize, image: &str) -> bool {
    let Some(deployment) = fake.get("apps/deployments", "shop", "web") else { return false };
    let status = &deployment["status"];
    let pods = fake.list("/pods");
    let images = pods.iter().all(|pod| pod["spec"]["containers"][0]["image"] == json!(image));
    let counts =
        ["replicas", "updatedReplicas", "availableReplicas"].iter().all(|count| status[count] == json!(replicas));
    counts && images && pods.len() == replicas && status["observedGeneration"] == deployment["metadata"]["generation"]
}

fn ready_endpoints(fake: &Fake) -> usize {
    let slices = fake.list("discovery.k8s.io/endpointslices");
    let ready = |slice: &Value| {
        let endpoints = slice["endpoints"].as_array().cloned().unwrap_or_default();
        endpoints.iter().filter(|endpoint| endpoint["conditions"]["ready"] == json!(true)).count()
    };
    slices.iter().map(ready).sum()
}

#[tokio::test(start_paused = true)]
async fn a_deployment_comes_up_rolls_and_falls_quiet() {
    let fake = Fake::new();
    let cluster = start(&fake);
    namespace(&fake);
    fake.create(
        "/services",
        json!({"metadata": {"name": "web", "namespace": "shop"},
        "spec": {"clusterIP": "10.96.0.9", "selector": {"app": "web"}, "ports": [{"port": 80}]}}),
    )
    .unwrap();
    deployment(&fake, 10);
    cluster.until("up", |fake| is_complete(fake, 10, "v1") && ready_endpoints(fake) == 10).await;
    set_image(&fake, "v2");
    cluster.until("rolled", |fake| is_complete(fake, 10, "v2") && ready_endpoints(fake) == 10).await;
    assert_eq!(
        fake.get("apps/deployments", "shop", "web").unwrap()["metadata"]["annotations"]["deployment.kubernetes.io/revision"],
        "2"
    );
    assert!(fake.get("/serviceaccounts", "shop", "default").is_some());
    assert_eq!(fake.get("/configmaps", "shop", "kube-root-ca.crt").unwrap()["data"]["ca.crt"], "CA");
    cluster.until_quiet().await;
    let told: BTreeSet<String> =
        fake.list("/events").iter().map(|event| event["reason"].as_str().unwrap().to_owned()).collect();
    assert!(told.contains("ScalingReplicaSet") && told.contains("SuccessfulCreate"), "{told:?}");
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn lost_replies_and_broken_watches_make_no_pod_too_many() {
    for every in 2..6 {
        let fake = Fake::new();
        let cluster = start(&fake);
        namespace(&fake);
        fake.set_faults(Faults { lose_reply_of_create: Some(every), ..Faults::default() });
        deployment(&fake, 20);
        let breaker = tokio::spawn({
            let fake = fake.clone();
            async move {
                for _ in 0..50 {
                    tokio::time::sleep(Duration::from_millis(37)).await;
                    fake.break_watches();
                }
            }
        });
        cluster.until("up", |fake| is_complete(fake, 20, "v1")).await;
        breaker.await.unwrap();
        cluster.until_quiet().await;
        let made = fake.lock().history.iter().filter(|(_, of, kind, _)| of == "/pods" && *kind == "ADDED").count();
        assert_eq!(made, 20, "with every reply number {every} lost");
        fake.set_faults(Faults::default());
        set_image(&fake, "v2");
        cluster.until("rolled, by streams that came back", |fake| is_complete(fake, 20, "v2")).await;
        cluster.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn refused_creates_slow_the_set_down_and_say_why() {
    let fake = Fake::new();
    let cluster = start(&fake);
    namespace(&fake);
    deployment(&fake, 3);
    fake.set_faults(Faults { refuse_create: Some(1), ..Faults::default() });
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(fake.lock().creates < 200, "{} creates in a minute", fake.lock().creates);
    fake.set_faults(Faults::default());
    cluster.until("up", |fake| is_complete(fake, 3, "v1")).await;
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_of_the_controllers_in_the_middle_of_a_roll_changes_nothing() {
    let fake = Fake::new();
    let mut cluster = start(&fake);
    namespace(&fake);
    deployment(&fake, 6);
    cluster.until("up", |fake| is_complete(fake, 6, "v1")).await;
    set_image(&fake, "v2");
    for _ in 0..12 {
        tokio::time::sleep(Duration::from_millis(3)).await;
        cluster.stop().await;
        cluster = start(&fake);
    }
    cluster.until("rolled", |fake| is_complete(fake, 6, "v2")).await;
    let made = fake.lock().history.iter().filter(|(_, of, kind, _)| of == "/pods" && *kind == "ADDED").count();
    assert_eq!(made, 12, "each version's pods are made once");
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_deployment_deleted_takes_its_own_and_nothing_else_along() {
    let fake = Fake::new();
    let cluster = start(&fake);
    namespace(&fake);
    deployment(&fake, 4);
    fake.create("/pods", json!({"metadata": {"name": "bystander", "namespace": "shop", "labels": {"app": "other"}}, "spec": {"containers": []}})).unwrap();
    cluster.until("up", |fake| fake.list("/pods").len() == 5).await;
    cluster.until_quiet().await;
    let key = ("apps/deployments".to_owned(), "shop".to_owned(), "web".to_owned());
    fake.delete(&key, &json!({"propagationPolicy": "Foreground"})).unwrap();
    cluster.until("gone", |fake| fake.list("apps/deployments").is_empty()).await;
    assert!(fake.list("apps/replicasets").is_empty(), "foreground: the owned go first");
    cluster.until("pods gone", |fake| fake.list("/pods").len() == 1).await;
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn orphans_stay_and_are_adopted_by_the_next_of_the_name() {
    let fake = Fake::new();
    let cluster = start(&fake);
    namespace(&fake);
    deployment(&fake, 3);
    cluster.until("up", |fake| is_complete(fake, 3, "v1")).await;
    let pods =
        |fake: &Fake| fake.list("/pods").iter().map(|pod| pod["metadata"]["uid"].to_string()).collect::<BTreeSet<_>>();
    let before = pods(&fake);
    let key = ("apps/deployments".to_owned(), "shop".to_owned(), "web".to_owned());
    fake.delete(&key, &json!({"propagationPolicy": "Orphan"})).unwrap();
    cluster.until("gone", |fake| fake.list("apps/deployments").is_empty()).await;
    deployment(&fake, 3);
    cluster.until("up again", |fake| is_complete(fake, 3, "v1")).await;
    assert_eq!(pods(&fake), before, "the same pods serve on");
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_namespace_is_emptied_and_goes() {
    let fake = Fake::new();
    let cluster = start(&fake);
    namespace(&fake);
    deployment(&fake, 3);
    cluster.until("up", |fake| is_complete(fake, 3, "v1")).await;
    fake.delete(&("/namespaces".to_owned(), String::new(), "shop".to_owned()), &Value::Null).unwrap();
    cluster.until("gone", |fake| fake.get("/namespaces", "", "shop").is_none()).await;
    let left: Vec<_> =
        fake.lock().objects.keys().filter(|key| key.1 == "shop" && key.0 != "/events").cloned().collect();
    assert_eq!(left, []);
    cluster.stop().await;
}

/// Renews the Leases of some nodes for ever.
async fn renew_leases(fake: Fake, nodes: &'static [&'static str]) {
    for beat in 0u64.. {
        for node in nodes {
            let key = ("coordination.k8s.io/leases".to_owned(), "kube-node-lease".to_owned(), (*node).to_owned());
            let renewed = Timestamp::from_second(1_767_268_800 + i64::try_from(beat).unwrap()).unwrap();
            fake.patch(&key, &json!({"spec": {"renewTime": format!("{renewed:.6}")}}), None).unwrap();
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
}

fn node(fake: &Fake, name: &str) {
    fake.create("/nodes", json!({"metadata": {"name": name}, "spec": {}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}})).unwrap();
    fake.create(
        "coordination.k8s.io/leases",
        json!({"metadata": {"name": name, "namespace": "kube-node-lease"}, "spec": {}}),
    )
    .unwrap();
}

fn ready(fake: &Fake, name: &str) -> String {
    let node = fake.get("/nodes", "", name).unwrap();
    let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.iter().find(|condition| condition["type"] == "Ready").unwrap()["status"].as_str().unwrap().to_owned()
}

fn taints(fake: &Fake, name: &str) -> String {
    fake.get("/nodes", "", name).unwrap()["spec"]["taints"].to_string()
}

#[tokio::test(start_paused = true)]
async fn a_silent_node_loses_its_pods_and_the_others_keep_theirs() {
    let fake = Fake::new();
    ["n1", "n2", "n3"].iter().for_each(|name| node(&fake, name));
    let cluster = start_with(&fake, |_| true);
    let renewing = tokio::spawn(renew_leases(fake.clone(), &["n2", "n3"]));
    namespace(&fake);
    for (pod, node) in [("lost", "n1"), ("kept", "n2")] {
        fake.create("/pods", json!({"metadata": {"name": pod, "namespace": "shop"}, "spec": {"nodeName": node, "containers": [],
            "tolerations": [{"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30}]}})).unwrap();
    }
    cluster.until("unknown", |fake| ready(fake, "n1") == "Unknown" && taints(fake, "n1").contains("NoExecute")).await;
    assert!(fake.get("/pods", "shop", "lost").is_some(), "tolerated for thirty seconds");
    cluster.until("evicted", |fake| fake.get("/pods", "shop", "lost").is_none()).await;
    assert!(fake.get("/pods", "shop", "kept").is_some());
    assert_eq!((ready(&fake, "n2"), taints(&fake, "n2")), ("True".to_owned(), "null".to_owned()));
    assert_eq!(fake.get("/nodes", "", "n2").unwrap()["spec"]["podCIDR"], "10.128.4.0/22");
    renewing.abort();
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn when_every_node_falls_silent_no_pod_is_evicted() {
    let fake = Fake::new();
    ["n1", "n2"].iter().for_each(|name| node(&fake, name));
    let cluster = start_with(&fake, |_| true);
    namespace(&fake);
    fake.create(
        "/pods",
        json!({"metadata": {"name": "kept", "namespace": "shop"}, "spec": {"nodeName": "n1", "containers": []}}),
    )
    .unwrap();
    cluster.until("unknown", |fake| ready(fake, "n1") == "Unknown" && ready(fake, "n2") == "Unknown").await;
    tokio::time::sleep(Duration::from_secs(1200)).await;
    assert!(fake.get("/pods", "shop", "kept").is_some());
    assert!(fake.list("/events").iter().any(|event| event["reason"] == "PartitionSuspected"));
    cluster.stop().await;
}
