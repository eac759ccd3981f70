//! Hollow nodes: the shipping agent without a host, against the shipping API server and controllers in this process.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use drover_agent::{
    chance::Chance,
    clock::Clock,
    engine::fake::Behaviour,
    hollow::{Capacity, HollowConfig, HollowState, RoutesFrom},
};
use drover_apiserver::{Handle, request::User};
use drover_store::{Embedded, embedded};
use drover_tests::{client_of, eventually};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Node, Pod},
};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// API server and controllers in this process.
struct Plane {
    handle: Handle,
    shutdown: CancellationToken,
    controllers: JoinHandle<()>,
    _dir: tempfile::TempDir,
}

impl Plane {
    async fn start() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let store = dir.path().join("store");
        let backend = tokio::task::spawn_blocking(move || Embedded::open(&store, embedded::Options::default()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let config = drover_apiserver::Config::new(dir.path().to_owned(), vec![listener], backend.await??);
        let shutdown = CancellationToken::new();
        let handle = drover_apiserver::start(config, shutdown.clone()).await?;
        let user = User::new("system:drover:controllers", &["system:masters"]);
        let client = Client::new(handle.local_service(user), "default");
        // Pods mount the authority's certificate; without one none would start.
        let config = drover_controllers::Config { ca_pem: handle.ca_pem.clone(), ..drover_controllers::Config::all() };
        let end = shutdown.clone();
        let controllers = tokio::spawn(async move {
            drover_controllers::run(client, config, end).await.expect("the controllers run");
        });
        Ok(Self { handle, shutdown, controllers, _dir: dir })
    }

    fn admin(&self) -> Client {
        Client::new(self.handle.local_service(User::new("admin", &["system:masters"])), "default")
    }

    /// Starts a node's agent, as that node's identity.
    fn start_node(&self, name: &str, state: &HollowState) -> JoinHandle<()> {
        let user = User::new(format!("system:node:{name}"), &["system:nodes"]);
        let config = HollowConfig {
            client: Client::new(self.handle.local_service(user), "default"),
            node_name: name.to_owned(),
            address: "192.0.2.1".parse().ok(),
            labels: BTreeMap::new(),
            cluster_name: "test".to_owned(),
            state: state.clone(),
            clock: Clock::System,
            chance: Chance::seeded(1),
            cluster_cidr: "10.128.0.0/9".parse().expect("a network"),
            service_cidr: "10.96.0.0/16".parse().expect("a network"),
            routes: RoutesFrom::Controllers,
        };
        let shutdown = self.shutdown.clone();
        tokio::spawn(async move { drover_agent::hollow::run(config, shutdown).await.expect("the node runs") })
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.controllers.await.expect("the controllers end");
        self.handle.join().await;
    }
}

fn node_state(seed: u64) -> HollowState {
    HollowState::new(&Clock::System, &Chance::seeded(seed), Capacity::default())
}

async fn kill(agent: JoinHandle<()>) {
    agent.abort();
    // Aborted: that is what was asked for.
    let _ = agent.await;
}

fn deployment(replicas: u32, image: &str) -> Result<Deployment> {
    let labels = json!({"app": "web"});
    Ok(serde_json::from_value(json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels},
            "spec": {"containers": [{"name": "app", "image": image, "imagePullPolicy": "IfNotPresent",
                "readinessProbe": {"httpGet": {"path": "/", "port": 80}, "periodSeconds": 1}}]},
        }},
    }))?)
}

async fn apply(client: &Client, name: &str, patch: &Value) -> Result<()> {
    let deployments: Api<Deployment> = Api::default_namespaced(client.clone());
    deployments.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|list| list.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
}

/// Waits until exactly `count` pods are there, all ready and of `image`.
async fn ready(client: &Client, count: usize, image: &str) -> Result<Vec<Pod>> {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    eventually(&format!("{count} pods of {image} ready"), async || {
        let items = pods.list(&ListParams::default()).await?.items;
        let good = |pod: &&Pod| {
            let of_image = pod.spec.as_ref().is_some_and(|spec| spec.containers[0].image.as_deref() == Some(image));
            is_ready(pod) && of_image && pod.metadata.deletion_timestamp.is_none()
        };
        let states = items.iter().map(|pod| (pod.metadata.name.clone(), pod.status.clone())).collect::<Vec<_>>();
        Ok(if items.len() == count && items.iter().all(|pod| good(&pod)) { Ok(items) } else { Err(states) })
    })
    .await
}

async fn all_gone(client: &Client, nodes: &[HollowState]) -> Result<()> {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    eventually("nothing left", async || {
        let count = pods.list(&ListParams::default()).await?.items.len();
        let containers: Vec<_> = nodes.iter().flat_map(|node| node.engine.containers()).collect();
        Ok(if count == 0 && containers.is_empty() { Ok(()) } else { Err((count, containers)) })
    })
    .await?;
    for node in nodes {
        assert!(node.network.addresses().is_empty(), "a name space is left");
        assert!(node.files.directories().is_empty(), "files are left");
        assert!(node.volumes.pods().is_empty(), "volumes are left");
        assert!(node.disk.entries().is_empty(), "the ledger is not empty");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_live_roll_and_end_on_hollow_nodes() -> Result<()> {
    let plane = Plane::start().await?;
    let nodes = [node_state(1), node_state(2)];
    let agents = [plane.start_node("h-1", &nodes[0]), plane.start_node("h-2", &nodes[1])];
    let client = plane.admin();
    let deployments: Api<Deployment> = Api::default_namespaced(client.clone());
    deployments.create(&PostParams::default(), &deployment(6, "web:1")?).await?;
    let pods = ready(&client, 6, "web:1").await?;
    let addresses: std::collections::BTreeSet<_> =
        pods.iter().filter_map(|pod| pod.status.as_ref()?.pod_ip.clone()).collect();
    assert_eq!(addresses.len(), 6, "every pod has an address of its own");
    apply(
        &client,
        "web",
        &json!({"spec": {"template": {"spec": {"containers": [
        {"name": "app", "image": "web:2", "imagePullPolicy": "IfNotPresent"}]}}}}),
    )
    .await?;
    ready(&client, 6, "web:2").await?;
    let twice: Vec<_> = nodes.iter().flat_map(|node| node.engine.starts()).filter(|(_, count)| *count != 1).collect();
    assert!(twice.is_empty(), "started more than once: {twice:?}");
    deployments.delete("web", &DeleteParams::background()).await?;
    all_gone(&client, &nodes).await?;
    plane.stop().await;
    for agent in agents {
        agent.await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_was_killed_adopts_what_runs_and_a_reboot_starts_it_anew() -> Result<()> {
    let plane = Plane::start().await?;
    let node = node_state(1);
    let agent = plane.start_node("h-1", &node);
    let client = plane.admin();
    let deployments: Api<Deployment> = Api::default_namespaced(client.clone());
    deployments.create(&PostParams::default(), &deployment(4, "web:1")?).await?;
    ready(&client, 4, "web:1").await?;
    let (running, addresses) = (node.engine.running(), node.network.addresses());
    kill(agent).await;

    // The next agent is at work once it has started what was added meanwhile.
    apply(&client, "web", &json!({"spec": {"replicas": 5}})).await?;
    let agent = plane.start_node("h-1", &node);
    ready(&client, 5, "web:1").await?;
    let after = node.engine.running();
    assert!(running.iter().all(|(name, since)| after.get(name) == Some(since)), "{running:?} became {after:?}");
    assert!(addresses.iter().all(|(pod, address)| node.network.addresses().get(pod) == Some(address)));
    assert!(node.engine.starts().values().all(|count| *count == 1));

    kill(agent).await;
    node.reboot(true);
    let _agent = plane.start_node("h-1", &node);
    eventually("all containers replaced", async || {
        let now = node.engine.running();
        let fresh = now.keys().filter(|name| !after.contains_key(*name)).count();
        Ok(if fresh == 5 { Ok(()) } else { Err(now) })
    })
    .await?;
    // What the API says may be older than what the engine shows.
    eventually("one restart of each", async || {
        let pods = ready(&client, 5, "web:1").await?;
        let statuses = pods.iter().filter_map(|pod| pod.status.as_ref()?.container_statuses.as_ref()?.first());
        let restarts: Vec<i32> = statuses.map(|status| status.restart_count).collect();
        Ok(if restarts == [1; 5] { Ok(()) } else { Err(restarts) })
    })
    .await?;
    plane.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_that_never_answers_is_never_ready() -> Result<()> {
    let plane = Plane::start().await?;
    let node = node_state(1);
    node.engine.add_image("web:1", Behaviour { answers_after: None, ..Default::default() });
    let _agent = plane.start_node("h-1", &node);
    let client = plane.admin();
    let deployments: Api<Deployment> = Api::default_namespaced(client.clone());
    deployments.create(&PostParams::default(), &deployment(1, "web:1")?).await?;
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let pod = eventually("a pod that runs", async || {
        let pod = pods.list(&ListParams::default()).await?.items.into_iter().next();
        let running = |pod: &Pod| pod.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Running");
        Ok(pod.filter(running).ok_or("none"))
    })
    .await?;
    assert!(!is_ready(&pod));
    // Once its image answers, the next container does.
    node.engine.add_image("web:2", Behaviour::default());
    apply(
        &client,
        "web",
        &json!({"spec": {"template": {"spec": {"containers": [{"name": "app", "image": "web:2"}]}}}}),
    )
    .await?;
    ready(&client, 1, "web:2").await.context("the other image")?;
    plane.stop().await;
    Ok(())
}

/// Ends a process with SIGTERM and returns its exit code.
async fn terminate(mut child: tokio::process::Child) -> Result<Option<i32>> {
    let pid = child.id().context("the process has ended already")?.to_string();
    drover_tests::run("kill".as_ref(), &["-TERM", &pid], "", &[]).await?.success()?;
    Ok(child.wait().await?.code())
}

#[tokio::test]
async fn a_fleet_over_tls_runs_pods_and_ends_on_sigterm() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (data, drover) = (dir.path().join("data"), drover_tests::binary("drover")?);
    let kubeconfig = data.join("admin.kubeconfig");
    let start = |command: &mut tokio::process::Command| {
        command.stdin(std::process::Stdio::null()).kill_on_drop(true).spawn().context("drover starts")
    };
    let mut command = tokio::process::Command::new(&drover);
    let server = start(command.arg("server").arg("--data-dir").arg(&data).args(["--listen", "127.0.0.1:0"]))?;
    eventually("the server serving", async || {
        Ok(if data.join("server.json").is_file() { Ok(()) } else { Err("no server.json") })
    })
    .await?;
    let mut command = tokio::process::Command::new(&drover);
    command.arg("hollow").arg("--kubeconfig").arg(&kubeconfig);
    command.args(["--nodes", "5", "--name-prefix", "fleet", "--labels", "kind=hollow", "--pod-start-latency", "10ms"]);
    let fleet = start(&mut command)?;
    let client = client_of(&kubeconfig).await?;
    let nodes: Api<Node> = Api::all(client.clone());
    eventually("five nodes ready", async || {
        let items = nodes.list(&ListParams::default().labels("kind=hollow")).await?.items;
        let is_ready = |node: &&Node| {
            let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
            conditions.is_some_and(|list| list.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
        };
        let ready = items.iter().filter(is_ready).count();
        Ok(if ready == 5 { Ok(()) } else { Err(ready) })
    })
    .await?;
    let deployments: Api<Deployment> = Api::default_namespaced(client.clone());
    deployments.create(&PostParams::default(), &deployment(20, "web:1")?).await?;
    let pods = ready(&client, 20, "web:1").await?;
    let nodes: std::collections::BTreeSet<_> =
        pods.iter().filter_map(|pod| pod.spec.as_ref()?.node_name.clone()).collect();
    assert_eq!(nodes.into_iter().collect::<Vec<_>>(), ["fleet-0", "fleet-1", "fleet-2", "fleet-3", "fleet-4"]);
    assert_eq!(terminate(fleet).await?, Some(0));
    assert_eq!(terminate(server).await?, Some(0));
    Ok(())
}
