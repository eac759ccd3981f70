//! The service proxy on a real kernel, between real name spaces.

use std::{
    collections::{BTreeMap, HashMap},
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::lab::{Lab, inside, request, root};
use drover_agent::{
    proxy::{ProxyConfig, ProxyInput, run},
    seams::{HostPort, PodNetwork, Sandbox},
};
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

const PORT: u16 = 8080;
const PATIENCE: Duration = Duration::from_secs(20);

/// A lab with a running proxy.
struct Proxied {
    lab: Lab,
    config: ProxyConfig,
    input: watch::Sender<Option<ProxyInput>>,
    acknowledged: watch::Receiver<u64>,
    stop: CancellationToken,
    task: JoinHandle<()>,
    revision: u64,
}

impl Proxied {
    async fn start() -> Self {
        let lab = Lab::start().await;
        let config = ProxyConfig {
            table: format!("drt{}", std::process::id()),
            node: "here".into(),
            pod_cidr: lab.config.pod_cidr,
            cluster_cidr: lab.config.pod_cidr,
            service_cidr: lab.config.service_cidr,
        };
        let (input, acknowledged, stop, task) = spawn(&config);
        Self { lab, config, input, acknowledged, stop, task, revision: 0 }
    }

    /// Hands in the objects and waits until the kernel has them.
    async fn apply(&mut self, services: &[Value], slices: &[Value]) {
        self.revision += 1;
        let parse_service = |value: &Value| Arc::new(serde_json::from_value::<Service>(value.clone()).unwrap());
        let parse_slice = |value: &Value| Arc::new(serde_json::from_value::<EndpointSlice>(value.clone()).unwrap());
        self.input.send_replace(Some(ProxyInput {
            services: services.iter().map(parse_service).collect(),
            slices: slices.iter().map(parse_slice).collect(),
            host_ports: self.lab.network.host_ports().borrow().clone(),
            doubted: Default::default(),
            revision: self.revision,
        }));
        let revision = self.revision;
        let applied = self.acknowledged.wait_for(|seen| *seen >= revision);
        tokio::time::timeout(PATIENCE, applied).await.expect("the proxy acknowledges").unwrap();
    }

    /// The proxy as it is after the agent was killed and started anew.
    async fn restart(&mut self) {
        self.stop.cancel();
        (&mut self.task).await.unwrap();
        (self.input, self.acknowledged, self.stop, self.task) = spawn(&self.config);
    }

    fn listing(&self) -> String {
        let listed = Command::new("nft").args(["list", "table", "ip", &self.config.table]).output().unwrap();
        String::from_utf8(listed.stdout).unwrap()
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap();
        assert!(Command::new("nft").args(["delete", "table", "ip", &self.config.table]).status().unwrap().success());
        self.lab.end().await;
    }
}

type Running = (watch::Sender<Option<ProxyInput>>, watch::Receiver<u64>, CancellationToken, JoinHandle<()>);

fn spawn(config: &ProxyConfig) -> Running {
    let (input, inputs) = watch::channel(None);
    let (acknowledge, acknowledged) = watch::channel(0);
    let stop = CancellationToken::new();
    let task = tokio::spawn(run(config.clone(), inputs, acknowledge, stop.clone()));
    (input, acknowledged, stop, task)
}

/// A Service `web` on port 80, with more fields of `spec` on request.
fn service(address: Ipv4Addr, extra: &Value) -> Value {
    let mut spec = json!({ "clusterIP": address, "ports": [{ "name": "http", "port": 80, "protocol": "TCP" }] });
    for (field, value) in extra.as_object().unwrap() {
        spec[field] = value.clone();
    }
    json!({ "metadata": { "namespace": "default", "name": "web" }, "spec": spec })
}

fn slice(ready: &[&Sandbox], terminating: &[&Sandbox]) -> Value {
    let endpoint = |pod: &&Sandbox, ready: bool| {
        json!({ "addresses": [pod.address], "nodeName": "here",
            "conditions": { "ready": ready, "serving": true, "terminating": !ready } })
    };
    let endpoints: Vec<Value> =
        ready.iter().map(|pod| endpoint(pod, true)).chain(terminating.iter().map(|pod| endpoint(pod, false))).collect();
    json!({ "metadata": { "namespace": "default", "name": "web-1", "labels": { "kubernetes.io/service-name": "web" } },
        "addressType": "IPv4", "endpoints": endpoints, "ports": [{ "name": "http", "port": PORT, "protocol": "TCP" }] })
}

/// Serves in the pod until the test's process ends: each line that comes in is answered by `<pod> <peer>`.
fn serve(pod: &Sandbox) {
    let address = SocketAddr::from((pod.address, PORT));
    let (ready, listening) = std::sync::mpsc::channel();
    inside(&pod.netns, move || {
        let listener = TcpListener::bind(address)?;
        ready.send(()).unwrap();
        for stream in listener.incoming() {
            std::thread::spawn(move || answer(stream?, &address.ip().to_string()));
        }
        Ok(())
    });
    listening.recv().unwrap();
}

fn answer(mut stream: TcpStream, name: &str) -> std::io::Result<()> {
    let peer = stream.peer_addr()?.ip();
    let mut byte = [0];
    while stream.read(&mut byte)? == 1 {
        stream.write_all(format!("{name} {peer}\n").as_bytes())?;
    }
    Ok(())
}

struct Client(TcpStream);

impl Client {
    fn connect(target: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect_timeout(&target, Duration::from_secs(10))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(Self(stream))
    }

    /// Sends one request; the answering pod and the caller as that pod saw it.
    fn ask(&mut self) -> std::io::Result<(String, String)> {
        self.0.write_all(b"?")?;
        let mut line = Vec::new();
        let mut byte = [0];
        while self.0.read(&mut byte)? == 1 && byte[0] != b'\n' {
            line.push(byte[0]);
        }
        let line = String::from_utf8(line).map_err(std::io::Error::other)?;
        let (pod, peer) = line.split_once(' ').ok_or_else(|| std::io::Error::other("cut off"))?;
        Ok((pod.to_owned(), peer.to_owned()))
    }
}

fn ask(target: SocketAddr) -> std::io::Result<(String, String)> {
    Client::connect(target)?.ask()
}

fn ask_from(netns: &Path, target: SocketAddr) -> (String, String) {
    inside(netns, move || ask(target)).join().unwrap().unwrap()
}

async fn three_backends(lab: &Lab) -> [Sandbox; 3] {
    let pods = [lab.pod("a").await, lab.pod("b").await, lab.pod("c").await];
    pods.iter().for_each(serve);
    pods
}

/// The answering pods of many new connections.
fn spread(target: SocketAddr, count: usize) -> HashMap<String, usize> {
    let mut answers = HashMap::new();
    for _ in 0..count {
        *answers.entry(ask(target).unwrap().0).or_insert(0) += 1;
    }
    answers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_is_reached_from_the_host_from_pods_and_from_its_own_backend() {
    if !root() {
        return;
    }
    let mut proxied = Proxied::start().await;
    let [a, b, c] = three_backends(&proxied.lab).await;
    let client = proxied.lab.pod("client").await;
    let address = proxied.lab.service_address(10);
    let target = SocketAddr::from((address, 80));
    proxied.apply(&[service(address, &json!({}))], &[slice(&[&a, &b, &c], &[])]).await;
    let answers = spread(target, 60);
    assert_eq!(answers.len(), 3, "all three get traffic: {answers:?}");
    let (_, peer) = ask_from(&client.netns, target);
    assert_eq!(peer, client.address.to_string(), "the source address is kept");
    for _ in 0..12 {
        // One in three comes back to the caller itself, which works only with a translated source.
        ask_from(&a.netns, target);
    }
    proxied.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_ports_and_host_ports_lead_in_from_outside() {
    if !root() {
        return;
    }
    let mut proxied = Proxied::start().await;
    let [a, b, c] = three_backends(&proxied.lab).await;
    let host_port = 40_000 + u16::try_from(std::process::id() % 8000).unwrap();
    let node_port = host_port + 8000;
    let port = HostPort { host_address: None, host_port, container_port: PORT, protocol: "TCP".into() };
    proxied.lab.network.ensure(&request("c", vec![port])).await.unwrap();
    let outside = Outside::new(&proxied.lab);
    let address = proxied.lab.service_address(11);
    let ports = json!([{ "name": "http", "port": 80, "protocol": "TCP", "nodePort": node_port }]);
    let spec = json!({ "type": "NodePort", "ports": ports });
    proxied.apply(&[service(address, &spec)], &[slice(&[&a, &b], &[])]).await;
    let (pod, peer) = ask_from(&outside.netns, SocketAddr::from((outside.host, node_port)));
    assert!([&a, &b].iter().any(|backend| backend.address.to_string() == pod));
    assert_eq!(peer, outside.guest.to_string(), "the source address is kept");
    let (pod, _) = ask_from(&outside.netns, SocketAddr::from((outside.host, host_port)));
    assert_eq!(pod, c.address.to_string());
    ask(SocketAddr::from((outside.host, node_port))).expect("a process of the host reaches it, too");
    proxied.apply(&[service(address, &spec)], &[slice(&[], &[])]).await;
    let target = SocketAddr::from((outside.host, node_port));
    let refused = inside(&outside.netns, move || ask(target)).join().unwrap().unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "without endpoints: refused at once");
    drop(outside);
    proxied.end().await;
}

/// A machine next to this one: a name space on a link of its own.
struct Outside {
    name: String,
    netns: std::path::PathBuf,
    host: Ipv4Addr,
    guest: Ipv4Addr,
}

impl Outside {
    fn new(lab: &Lab) -> Self {
        let name = format!("dro{:x}", std::process::id());
        let base = lab.config.pod_cidr.network().to_bits() + (48 << 16);
        let (host, guest) = (Ipv4Addr::from_bits(base + 1), Ipv4Addr::from_bits(base + 2));
        let script = format!(
            "ip netns add {name} && ip link add {name} type veth peer name eth0 netns {name} && \
             ip addr add {host}/30 dev {name} && ip link set {name} up && \
             ip -n {name} addr add {guest}/30 dev eth0 && ip -n {name} link set eth0 up && \
             ip -n {name} route add default via {host}"
        );
        assert!(Command::new("sh").args(["-c", &script]).status().unwrap().success());
        Self { netns: format!("/run/netns/{name}").into(), name, host, guest }
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let script = format!("ip link del {0}; ip netns del {0}", self.name);
        Command::new("sh").args(["-c", &script]).status().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leaving_backend_keeps_its_connections_and_gets_no_new_ones() {
    if !root() {
        return;
    }
    let mut proxied = Proxied::start().await;
    let [a, b, c] = three_backends(&proxied.lab).await;
    let address = proxied.lab.service_address(12);
    let target = SocketAddr::from((address, 80));
    let web = service(address, &json!({}));
    proxied.apply(std::slice::from_ref(&web), &[slice(&[&a], &[])]).await;
    let mut established = Client::connect(target).unwrap();
    assert_eq!(established.ask().unwrap().0, a.address.to_string());
    proxied.apply(std::slice::from_ref(&web), &[slice(&[&b, &c], &[&a])]).await;
    let answers = spread(target, 40);
    assert!(!answers.contains_key(&a.address.to_string()), "{answers:?}");
    assert_eq!(established.ask().unwrap().0, a.address.to_string(), "the connection lives on");
    proxied.apply(std::slice::from_ref(&web), &[slice(&[], &[&a])]).await;
    assert_eq!(ask(target).unwrap().0, a.address.to_string(), "with nobody ready, who still serves serves (KEP-1669)");
    proxied.apply(&[web], &[]).await;
    assert_eq!(established.ask().unwrap().0, a.address.to_string());
    let refused = ask(target).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    proxied.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replacing_every_endpoint_again_and_again_loses_no_new_connection() {
    if !root() {
        return;
    }
    let mut proxied = Proxied::start().await;
    let [a, b, c] = three_backends(&proxied.lab).await;
    let address = proxied.lab.service_address(13);
    let target = SocketAddr::from((address, 80));
    let web = service(address, &json!({}));
    proxied.apply(std::slice::from_ref(&web), &[slice(&[&a], &[])]).await;
    let (over, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (over, answered) = (over.clone(), answered.clone());
            std::thread::spawn(move || -> std::io::Result<()> {
                while !over.load(Ordering::Relaxed) {
                    ask(target)?;
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            })
        })
        .collect();
    for round in 0..30 {
        let ready = [&a, &b, &c][round % 3];
        proxied.apply(std::slice::from_ref(&web), &[slice(&[ready], &[])]).await;
        if round == 15 {
            // A new agent takes the table over without a gap.
            proxied.restart().await;
        }
    }
    over.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().unwrap().unwrap();
    }
    eprintln!("{} connections over 30 replacements", answered.load(Ordering::Relaxed));
    proxied.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn session_affinity_holds_a_client_until_its_backend_goes() {
    if !root() {
        return;
    }
    let mut proxied = Proxied::start().await;
    let [a, b, c] = three_backends(&proxied.lab).await;
    let address = proxied.lab.service_address(14);
    let target = SocketAddr::from((address, 80));
    let web = service(address, &json!({ "sessionAffinity": "ClientIP" }));
    proxied.apply(std::slice::from_ref(&web), &[slice(&[&a, &b, &c], &[])]).await;
    let first = ask(target).unwrap().0;
    assert_eq!(spread(target, 12), HashMap::from([(first.clone(), 12)]));
    let pods = BTreeMap::from([&a, &b, &c].map(|pod| (pod.address.to_string(), pod)));
    let others: Vec<&Sandbox> = pods.iter().filter(|(name, _)| **name != first).map(|(_, pod)| *pod).collect();
    proxied.apply(std::slice::from_ref(&web), &[slice(&[pods[&first], others[0]], &[])]).await;
    assert_eq!(ask(target).unwrap().0, first, "another backend going changes nothing");
    proxied.apply(&[web], &[slice(&others, &[])]).await;
    let second = ask(target).unwrap().0;
    assert_ne!(second, first);
    assert_eq!(spread(target, 12), HashMap::from([(second, 12)]));
    proxied.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flushed_or_deleted_table_is_repaired() {
    if !root() {
        return;
    }
    let mut proxied = Proxied::start().await;
    let [a, b, _] = three_backends(&proxied.lab).await;
    let address = proxied.lab.service_address(15);
    let web = service(address, &json!({ "sessionAffinity": "ClientIP" }));
    proxied.apply(std::slice::from_ref(&web), &[slice(&[&a, &b], &[])]).await;
    let whole = proxied.listing();
    let table = proxied.config.table.clone();
    let services = format!("flush map ip {table} services");
    for damage in [format!("flush table ip {table}"), format!("delete table ip {table}"), services] {
        assert!(Command::new("nft").args(damage.split(' ')).status().unwrap().success());
        let repaired = async {
            while proxied.listing() != whole {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, repaired).await.unwrap_or_else(|_| panic!("{damage}: {}", proxied.listing()));
    }
    proxied.restart().await;
    proxied.apply(&[web], &[slice(&[&a, &b], &[])]).await;
    assert_eq!(proxied.listing(), whole, "a restart finds nothing to do");
    proxied.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_nobody_answers_is_led_to_the_next_endpoint() {
    if !root() {
        return;
    }
    let mut proxied = Proxied::start().await;
    let (gone, next) = (proxied.lab.pod("gone").await, proxied.lab.pod("next").await);
    // As a host that died: it says nothing, not even that nobody listens.
    let silence = format!("--net={}", gone.netns.display());
    let rules = "add table ip t; add chain ip t c { type filter hook input priority 0; policy drop; }";
    let silenced = Command::new("nsenter").args([&silence, "--", "nft", rules]).status().unwrap();
    assert!(silenced.success());
    serve(&next);
    let address = proxied.lab.service_address(17);
    let service = service(address, &json!({}));
    proxied.apply(std::slice::from_ref(&service), &[slice(&[&gone], &[])]).await;
    let asking = tokio::spawn(async move { tokio::net::TcpStream::connect((address, 80)).await });
    // Its first packet is on its way once the kernel knows of the flow.
    let flow = format!("src={}", gone.address);
    while !std::fs::read_to_string("/proc/net/nf_conntrack").unwrap().contains(&flow) {
        tokio::task::yield_now().await;
    }
    proxied.apply(&[service], &[slice(&[&next], &[])]).await;
    let connected = tokio::time::timeout(PATIENCE, asking).await.expect("the next try is answered");
    connected.unwrap().unwrap();
    proxied.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn udp_clients_follow_their_service_to_the_next_endpoint() {
    if !root() {
        return;
    }
    let mut proxied = Proxied::start().await;
    let (a, b) = (proxied.lab.pod("a").await, proxied.lab.pod("b").await);
    for pod in [&a, &b] {
        let address = pod.address;
        let (ready, listening) = std::sync::mpsc::channel();
        inside(&pod.netns, move || {
            let socket = UdpSocket::bind((address, PORT))?;
            ready.send(()).unwrap();
            let mut buffer = [0; 16];
            loop {
                let (_, peer) = socket.recv_from(&mut buffer)?;
                socket.send_to(address.to_string().as_bytes(), peer)?;
            }
            #[expect(unreachable_code, reason = "gives the closure its type")]
            Ok(())
        });
        listening.recv().unwrap();
    }
    let address = proxied.lab.service_address(16);
    let ports = json!([{ "name": "dns", "port": 53, "protocol": "UDP" }]);
    let service = service(address, &json!({ "ports": ports }));
    let udp_slice = |pod: &Sandbox| {
        let mut value = slice(&[pod], &[]);
        value["ports"] = json!([{ "name": "dns", "port": PORT, "protocol": "UDP" }]);
        value
    };
    proxied.apply(std::slice::from_ref(&service), &[udp_slice(&a)]).await;
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket.connect((address, 53)).unwrap();
    let question = || {
        let mut buffer = [0; 64];
        socket.send(b"?").unwrap();
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    assert_eq!(question(), a.address.to_string());
    proxied.apply(&[service], &[udp_slice(&b)]).await;
    assert_eq!(question(), b.address.to_string(), "the same socket, the next endpoint");
    proxied.end().await;
}
