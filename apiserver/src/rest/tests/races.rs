//! Many writers at once.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use drover_store::{
    Backend, ChangeStream, Error, KeyValue, Operation, Range, RangeResult, Revision, Transaction, TransactionResult,
};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{
    registry::{
        SERVICE_ALLOCATIONS,
        testing::{Server, config, pod},
    },
    volatile::Volatile,
};

const CONFIGS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";
const SERVICES: &str = "/api/v1/namespaces/default/services";

/// A backend whose commits take a while, so that writers really overlap.
#[derive(Debug)]
struct Slow {
    store: Volatile,
    /// Allocations of another, faster server that get in before ours.
    overtakers: AtomicUsize,
}

impl Slow {
    fn backend() -> Arc<dyn Backend> {
        Self::overtaken(0)
    }

    fn overtaken(times: usize) -> Arc<dyn Backend> {
        Arc::new(Self { store: Volatile::new(1, Vec::new()), overtakers: AtomicUsize::new(times) })
    }

    async fn overtake(&self, transaction: &Transaction) -> Result<(), Error> {
        let key = Bytes::from_static(SERVICE_ALLOCATIONS.as_bytes());
        let fewer = |left: usize| left.checked_sub(1);
        if transaction.compares.iter().any(|compare| compare.key == key)
            && self.overtakers.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer).is_ok()
        {
            let operations = vec![Operation::Put { key, value: Bytes::new() }];
            self.store.commit(Transaction { compares: Vec::new(), operations }).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Backend for Slow {
    async fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, Error> {
        self.store.get(key).await
    }

    async fn range(&self, range: Range) -> Result<RangeResult, Error> {
        self.store.range(range).await
    }

    async fn commit(&self, transaction: Transaction) -> Result<TransactionResult, Error> {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        self.overtake(&transaction).await?;
        self.store.commit(transaction).await
    }

    async fn changes(&self, prefix: &[u8], after: Revision) -> Result<ChangeStream, Error> {
        self.store.changes(prefix, after).await
    }

    async fn revision(&self) -> Result<Revision, Error> {
        self.store.revision().await
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.store.compact(revision).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_updates_from_one_version_one_wins() {
    let server = Server::start_on(Slow::backend()).await;
    let created = server.post(CONFIGS, &config("a", "0")).await.body;
    let mut writers = JoinSet::new();
    for index in 0..16 {
        let (server, mut object) = (server.clone(), created.clone());
        object["data"]["v"] = format!("writer {index}").into();
        writers.spawn(async move { server.put(&format!("{CONFIGS}/a"), &object).await.code });
    }
    let codes = writers.join_all().await;
    assert_eq!(codes.iter().filter(|code| **code == 200).count(), 1, "{codes:?}");
    assert!(codes.iter().all(|code| matches!(code, 200 | 409)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn patches_of_different_fields_all_arrive() {
    let server = Server::start_on(Slow::backend()).await;
    server.post(CONFIGS, &config("a", "0")).await;
    let mut writers = JoinSet::new();
    for index in 0..12 {
        let server = server.clone();
        writers.spawn(async move {
            let patch = json!({"data": {format!("k{index}"): "x"}});
            server.patch(&format!("{CONFIGS}/a"), "merge", &patch).await.code
        });
    }
    assert!(writers.join_all().await.iter().all(|code| *code == 200));
    let data = server.get(&format!("{CONFIGS}/a")).await.body["data"].clone();
    assert_eq!(data.as_object().map(serde_json::Map::len), Some(13));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_of_one_lets_one_pod_go() {
    let server = Server::start().await;
    let budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    let budget = json!({
        "kind": "PodDisruptionBudget", "apiVersion": "policy/v1", "metadata": {"name": "b"},
        "spec": {"minAvailable": 3, "selector": {"matchLabels": {"app": "web"}}},
    });
    assert_eq!(server.post(budgets, &budget).await.code, 201);
    let status = json!({"status": {
        "observedGeneration": 1, "disruptionsAllowed": 1, "currentHealthy": 4, "desiredHealthy": 3, "expectedPods": 4,
    }});
    assert_eq!(server.patch(&format!("{budgets}/b/status"), "merge", &status).await.code, 200);
    for index in 0..4 {
        let path = format!("{PODS}/p{index}");
        server.post(PODS, &pod(&format!("p{index}"))).await;
        let running = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
        assert_eq!(server.patch(&format!("{path}/status"), "merge", &running).await.code, 200);
    }
    let mut evictions = JoinSet::new();
    for index in 0..4 {
        let server = server.clone();
        evictions.spawn(async move {
            let name = format!("p{index}");
            let eviction = json!({"kind": "Eviction", "apiVersion": "policy/v1", "metadata": {"name": name}});
            server.post(&format!("{PODS}/{name}/eviction"), &eviction).await
        });
    }
    let answers = evictions.join_all().await;
    let mut codes: Vec<u16> = answers.iter().map(|answer| answer.code).collect();
    codes.sort_unstable();
    assert_eq!(codes, [201, 429, 429, 429]);
    let refused = answers.iter().find(|answer| answer.code == 429).expect("three of them");
    assert_eq!(refused.message(), "Cannot evict pod as it would violate the pod's disruption budget.");
    assert_eq!(refused.body["details"]["causes"][0]["reason"], "DisruptionBudget");
    assert_eq!(server.get(PODS).await.names().len(), 3);
    let after = server.get(&format!("{budgets}/b")).await.body;
    assert_eq!(after["status"]["disruptionsAllowed"], 0);
    assert_eq!(after["status"]["disruptedPods"].as_object().map(serde_json::Map::len), Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_never_give_one_address_or_port_twice() {
    let backend = Slow::backend();
    let servers = [Server::start_on(Arc::clone(&backend)).await, Server::start_on(backend).await];
    let mut writers = JoinSet::new();
    for index in 0..24 {
        let server = servers[index % 2].clone();
        writers.spawn(async move {
            let service = json!({
                "kind": "Service", "apiVersion": "v1", "metadata": {"name": format!("s{index}")},
                "spec": {"type": "NodePort", "selector": {"app": "web"}, "ports": [{"port": 80}]},
            });
            server.post(SERVICES, &service).await
        });
    }
    let answers = writers.join_all().await;
    let field = |path: &str| {
        answers.iter().map(|answer| answer.body.pointer(path).map(Value::to_string)).collect::<BTreeSet<_>>()
    };
    assert!(
        answers.iter().all(|answer| answer.code == 201),
        "{:?}",
        answers.iter().map(|a| a.message().to_owned()).collect::<Vec<_>>()
    );
    assert_eq!(field("/spec/clusterIP").len(), 24);
    assert_eq!(field("/spec/ports/0/nodePort").len(), 24);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_port_asked_for_on_two_servers_goes_to_one_service() {
    let backend = Slow::backend();
    let servers = [Server::start_on(Arc::clone(&backend)).await, Server::start_on(backend).await];
    for round in 0..4 {
        let mut writers = JoinSet::new();
        for (index, server) in servers.iter().cloned().enumerate() {
            writers.spawn(async move {
                let service = json!({
                    "kind": "Service", "apiVersion": "v1", "metadata": {"name": format!("s{round}-{index}")},
                    "spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30_080 + round}]},
                });
                server.post(SERVICES, &service).await
            });
        }
        let answers = writers.join_all().await;
        let mut codes: Vec<u16> = answers.iter().map(|answer| answer.code).collect();
        codes.sort_unstable();
        assert_eq!(codes, [201, 422], "{:?}", answers.iter().map(|answer| answer.message()).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_service_is_created_however_often_another_server_allocates_first() {
    let server = Server::start_on(Slow::overtaken(40)).await;
    let service = json!({
        "kind": "Service", "apiVersion": "v1", "metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]},
    });
    let created = server.post(SERVICES, &service).await;
    assert_eq!(created.code, 201, "{}", created.message());
}
