//! The fallback network with a real Docker Engine: pods of several containers, their Services, and what may break.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use bollard::{API_DEFAULT_VERSION, Docker};
use drover_agent::{
    clock::Clock,
    config::{ContainerIdentity, Owner},
    engine::{ContainerConfig, ContainerPhase, DockerEngine},
    ids::{ContainerId, PodUid},
    ledger::{Ledger, LedgerEntry},
    network::{BridgeNetwork, Cidr, EngineAccess, NetworkConfig, mode_of_pods, record_mode, remove_bridge_mode},
    proxy::{ProxyConfig, ProxyInput, run},
    seams::{NetworkMode, PodNetwork, Sandbox},
};
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    lab::{inside, request, root},
    runtime::{Cleanup, SOCKET, docker, image},
};

const PATIENCE: Duration = Duration::from_secs(30);

/// One test's network, engine objects and image.
struct Fallback {
    network: Arc<BridgeNetwork>,
    config: NetworkConfig,
    access: EngineAccess,
    image: String,
    // In the order of their removal.
    _leftovers: Leftovers,
    _cleanup: Cleanup,
    _folder: tempfile::TempDir,
}

/// Removes from the engine what a failed test left.
struct Leftovers {
    cluster: String,
    network: String,
    run_dir: PathBuf,
}

impl Drop for Leftovers {
    fn drop(&mut self) {
        let script = "docker ps -aq --filter label=dev.drover.cluster=$1 | xargs -r docker rm -fv; \
            docker network rm $2; umount $3/netns/*";
        let run_dir = self.run_dir.to_string_lossy();
        drop(Command::new("sh").args(["-c", script, "sh", &self.cluster, &self.network, &run_dir]).output());
    }
}

impl Fallback {
    async fn start(what: u8) -> Option<Self> {
        if !root() || !Path::new(SOCKET).exists() {
            return None;
        }
        let name = format!("drover-test-bridge:{}-{what}", std::process::id());
        if !image(&name) {
            return None;
        }
        let cluster = format!("test-{}-{what}", std::process::id());
        let cleanup = Cleanup { containers: Vec::new(), image: name.clone() };
        let folder = tempfile::tempdir().unwrap();
        let unique = (std::process::id() & 0x3ff) << 1 | u32::from(what);
        let range = |base| Cidr::new(Ipv4Addr::from_bits(Ipv4Addr::to_bits(base) + (unique << 8)), 24).unwrap();
        let config = NetworkConfig {
            bridge: format!("drb{:x}{what}", std::process::id()),
            run_dir: folder.path().join("run"),
            links_dir: folder.path().join("run/containers"),
            pod_cidr: range(Ipv4Addr::new(100, 96, 0, 0)),
            cluster_cidr: Cidr::new(Ipv4Addr::new(100, 64, 0, 0), 10).unwrap(),
            service_cidr: range(Ipv4Addr::new(100, 104, 0, 0)),
            runtime: "drover".into(),
        };
        let owner = Owner { cluster: cluster.clone(), node: "here".into() };
        let network = format!("drover-{}", config.bridge);
        let leftovers = Leftovers { cluster, network, run_dir: config.run_dir.clone() };
        let engine = Arc::new(DockerEngine::new(&format!("unix://{SOCKET}")));
        let docker = Docker::connect_with_unix(SOCKET, 60, API_DEFAULT_VERSION).unwrap();
        let docker = docker.negotiate_version().await.unwrap();
        let ledger = Ledger::open(&folder.path().join("ledger"), owner.clone()).unwrap();
        let access = EngineAccess { engine, docker, owner, ledger };
        let network = BridgeNetwork::start(config.clone(), access.clone(), Clock::System).await.unwrap();
        record_mode(&config.run_dir, network.mode()).unwrap();
        let network = Arc::new(network);
        Some(Self { network, config, access, image: name, _leftovers: leftovers, _cleanup: cleanup, _folder: folder })
    }

    /// The network as a new agent finds it after this one was killed.
    async fn restart(&mut self) {
        let network = BridgeNetwork::start(self.config.clone(), self.access.clone(), Clock::System).await;
        self.network = Arc::new(network.unwrap());
    }

    async fn pod(&self, uid: &str) -> Sandbox {
        let pod = request(uid, Vec::new());
        let entry = LedgerEntry { namespace: pod.namespace.clone(), name: pod.name.clone() };
        self.access.ledger.enter(&pod.pod, entry).await.unwrap();
        self.network.ensure(&pod).await.unwrap()
    }

    /// Starts a container of a pod as the life cycle does; it answers on `port` with its name and the caller's address.
    async fn container(&self, sandbox: &Sandbox, pod: &str, name: &str, attempt: u32, port: u16) -> ContainerId {
        let script = format!(
            "mkdir -p /w/cgi-bin; printf '#!/busybox sh\\necho; echo {name}{attempt} $REMOTE_ADDR\\n' >/w/cgi-bin/who; \
             /busybox chmod +x /w/cgi-bin/who; exec /busybox httpd -f -p {port} -h /w"
        )
        .replace("mkdir", "/busybox mkdir");
        let mut identity = ContainerIdentity {
            owner: self.access.owner.clone(),
            pod: PodUid::new(pod).unwrap(),
            namespace: "default".into(),
            pod_name: pod.into(),
            container: name.into(),
            attempt,
            hash: String::new(),
            seal: String::new(),
        };
        identity.seal = self.access.ledger.seal(&identity.name());
        let config = ContainerConfig {
            image: self.image.clone(),
            entrypoint: Some(["/busybox", "sh", "-c", &script].map(str::to_owned).into()),
            labels: identity.labels(),
            network_mode: sandbox.engine.network_mode.clone(),
            runtime: sandbox.engine.runtime.clone(),
            ipv4: sandbox.engine.ipv4,
            ..Default::default()
        };
        let id = self.access.engine.create_container(&identity.name(), &config).await.unwrap();
        self.network.link_container(&id, &identity.pod).await.unwrap();
        self.access.engine.start_container(&id).await.unwrap();
        id
    }

    async fn end(self) {
        for container in self.access.engine.list_containers(&self.access.owner.filter()).await.unwrap() {
            if self.access.ledger.owns(&container) {
                self.access.engine.remove_container(&container.id).await.unwrap();
            }
        }
        remove_bridge_mode(&self.config, &self.access, Clock::System).await.unwrap();
        assert!(!self.bridge().exists(), "the engine took its bridge away");
        assert_eq!(mode_of_pods(&self.config.run_dir).unwrap(), None);
        assert_eq!(self.access.engine.list_containers(&self.access.owner.filter()).await.unwrap(), []);
    }

    fn bridge(&self) -> PathBuf {
        Path::new("/sys/class/net").join(&self.config.bridge)
    }
}

/// Asks once; the server may still be starting, so a refusal is tried again for a while.
fn who(target: SocketAddr) -> String {
    let started = Instant::now();
    loop {
        match who_once(target) {
            Ok(answer) => return answer,
            Err(error) if started.elapsed() > PATIENCE => panic!("{target}: {error}"),
            Err(_) => std::thread::yield_now(),
        }
    }
}

fn who_once(target: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&target, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET /cgi-bin/who HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    // An IPv6 socket serves both families.
    let answer = text.lines().last().unwrap_or_default().replace("[::ffff:", "").replace(']', "");
    if answer.contains("100.") { Ok(answer) } else { Err(std::io::Error::other(text)) }
}

fn who_from(netns: &Path, target: SocketAddr) -> String {
    inside(netns, move || Ok(who(target))).join().unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_containers_share_an_address_that_outlives_both_the_agent_and_the_holder() {
    let Some(mut fallback) = Fallback::start(0).await else { return };
    let pod = fallback.pod("pair").await;
    assert_eq!(fallback.network.mode(), NetworkMode::Bridge);
    let first = fallback.container(&pod, "pair", "first", 0, 8080).await;
    let second = fallback.container(&pod, "pair", "second", 0, 9090).await;
    let (one, two) = (SocketAddr::from((pod.address, 8080)), SocketAddr::from((pod.address, 9090)));
    let host = fallback.network.gateway();
    assert_eq!(who(one), format!("first0 {host}"));
    assert_eq!(who(two), format!("second0 {host}"));
    let name = docker(&["exec", first.as_str(), "/busybox", "hostname"]);
    assert_eq!(name, "pair", "the pod's host name");

    fallback.access.engine.remove_container(&first).await.unwrap();
    assert_eq!(who(two), format!("second0 {host}"), "the other container does not notice");
    fallback.container(&pod, "pair", "first", 1, 8080).await;
    assert_eq!(who(one), format!("first1 {host}"));

    fallback.restart().await;
    assert_eq!(fallback.pod("pair").await, pod, "a new agent finds the pod as it was");
    assert_eq!(who(one), format!("first1 {host}"));

    // The holder dies: the pod's link goes with it, and both containers are cut off.
    docker(&["kill", "drover_POD_pair"]);
    assert_eq!(fallback.pod("pair").await, pod, "the address stays");
    let phase = fallback.access.engine.inspect_container(second.as_str()).await.unwrap().summary.phase;
    assert_eq!(phase, ContainerPhase::Exited, "what nobody can reach is ended, to be started again");
    fallback.access.engine.remove_container(&second).await.unwrap();
    fallback.container(&pod, "pair", "second", 1, 9090).await;
    assert_eq!(who(two), format!("second1 {host}"));

    // Somebody removes it: the next container brings it back.
    docker(&["rm", "-f", "drover_POD_pair"]);
    fallback.container(&pod, "pair", "second", 2, 9091).await;
    assert_eq!(who(SocketAddr::from((pod.address, 9091))), format!("second2 {host}"));

    let uid = PodUid::new("pair").unwrap();
    for _ in 0..2 {
        fallback.network.remove(&uid).await.unwrap();
    }
    assert_eq!(fallback.network.list().await.unwrap(), []);
    assert!(!pod.netns.exists());
    fallback.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_and_dns_are_reached_from_pods_and_from_the_host() {
    let Some(fallback) = Fallback::start(1).await else { return };
    let (server, client) = (fallback.pod("server").await, fallback.pod("client").await);
    fallback.container(&server, "server", "web", 0, 8080).await;
    assert_eq!(who(SocketAddr::from((server.address, 8080))), format!("web0 {}", fallback.network.gateway()));
    let address = Ipv4Addr::from_bits(fallback.config.service_cidr.network().to_bits() + 10);
    let target = SocketAddr::from((address, 80));
    let (input, stop, table) = serve_service(&fallback, address, &[&server]).await;

    assert_eq!(who(target), format!("web0 {}", fallback.network.gateway()), "from the host");
    assert_eq!(who_from(&client.netns, target), format!("web0 {}", client.address), "the source address is kept");
    let itself = who_from(&server.netns, target);
    assert!(itself.starts_with("web0 "), "a pod reaches itself through its Service: {itself}");

    // Where DNS listens; the resolver itself has tests of its own.
    let socket = UdpSocket::bind((fallback.network.gateway(), 0)).unwrap();
    let resolver = socket.local_addr().unwrap();
    let echo = std::thread::spawn(move || -> std::io::Result<()> {
        let mut bytes = [0; 8];
        let (count, from) = socket.recv_from(&mut bytes)?;
        socket.send_to(&bytes[..count], from).map(drop)
    });
    let asked = inside(&client.netns, move || {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.send_to(b"who", resolver)?;
        let mut bytes = [0; 8];
        socket.recv(&mut bytes).map(|count| bytes[..count].to_vec())
    });
    assert_eq!(asked.join().unwrap().unwrap(), b"who");
    echo.join().unwrap().unwrap();

    input.apply(&[]).await;
    let refused = inside(&client.netns, move || who_once(target)).join().unwrap().unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "without endpoints: refused at once");

    stop.cancel();
    assert!(Command::new("nft").args(["delete", "table", "ip", &table]).status().unwrap().success());
    for pod in fallback.network.list().await.unwrap() {
        fallback.network.remove(&pod).await.unwrap();
    }
    fallback.end().await;
}

/// The objects that the proxy sees.
struct Input {
    sender: watch::Sender<Option<ProxyInput>>,
    acknowledged: watch::Receiver<u64>,
    address: Ipv4Addr,
}

impl Input {
    async fn apply(&self, pods: &[&Sandbox]) {
        let spec = json!({ "clusterIP": self.address, "ports": [{ "name": "http", "port": 80, "protocol": "TCP" }] });
        let service = json!({ "metadata": { "namespace": "default", "name": "web" }, "spec": spec });
        let ready = json!({ "ready": true, "serving": true, "terminating": false });
        let endpoint = |pod: &&Sandbox| json!({ "addresses": [pod.address], "nodeName": "here", "conditions": ready });
        let labels = json!({ "kubernetes.io/service-name": "web" });
        let slice = json!({ "metadata": { "namespace": "default", "name": "web-1", "labels": labels },
            "addressType": "IPv4", "endpoints": pods.iter().map(endpoint).collect::<Vec<_>>(),
            "ports": [{ "name": "http", "port": 8080, "protocol": "TCP" }] });
        let revision = *self.acknowledged.borrow() + 1;
        self.sender.send_replace(Some(ProxyInput {
            services: vec![Arc::new(serde_json::from_value(service).unwrap())],
            slices: vec![Arc::new(serde_json::from_value(slice).unwrap())],
            host_ports: Default::default(),
            doubted: Default::default(),
            revision,
        }));
        let mut acknowledged = self.acknowledged.clone();
        let applied = acknowledged.wait_for(|seen| *seen >= revision);
        tokio::time::timeout(PATIENCE, applied).await.expect("the proxy acknowledges").unwrap();
    }
}

async fn serve_service(
    fallback: &Fallback,
    address: Ipv4Addr,
    pods: &[&Sandbox],
) -> (Input, CancellationToken, String) {
    let table = fallback.config.bridge.clone();
    let config = ProxyConfig {
        table: table.clone(),
        node: "here".into(),
        pod_cidr: fallback.config.pod_cidr,
        cluster_cidr: fallback.config.pod_cidr,
        service_cidr: fallback.config.service_cidr,
    };
    let (sender, inputs) = watch::channel(None);
    let (acknowledge, acknowledged) = watch::channel(0);
    let stop = CancellationToken::new();
    tokio::spawn(run(config, inputs, acknowledge, stop.clone()));
    let input = Input { sender, acknowledged, address };
    input.apply(pods).await;
    (input, stop, table)
}
