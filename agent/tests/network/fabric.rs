//! The way between hosts on a real kernel: hosts are name spaces, joined by a bridge or by a router.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::Command,
    sync::Arc,
    time::Duration,
};

use drover_agent::network::{
    Cidr,
    fabric::{FabricConfig, Own, run},
};
use k8s_openapi::api::core::v1::Node;
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::lab::{inside, root};

const PORT: u16 = 8080;
const PATIENCE: Duration = Duration::from_secs(20);
/// What one transfer carries: many full packets.
const BYTES: usize = 1 << 20;

/// Hosts of one test; everything goes with this value.
struct World {
    prefix: String,
    nodes: watch::Sender<Option<Vec<Arc<Node>>>>,
    stop: CancellationToken,
    runners: Vec<std::thread::JoinHandle<std::io::Result<()>>>,
    /// A router between the hosts; otherwise one link.
    routed: bool,
}

impl World {
    /// Two hosts, each with a fabric and one pod.
    fn start(routed: bool) -> Self {
        let prefix = format!("drf{:x}", std::process::id());
        let (nodes, _) = watch::channel(None);
        let mut world = Self { prefix, nodes, stop: CancellationToken::new(), runners: Vec::new(), routed };
        sh(&format!("ip netns add {0}r && ip -n {0}r link set lo up", world.prefix));
        let router = format!("ip netns exec {}r sysctl -qw net.ipv4.ip_forward=1", world.prefix);
        match routed {
            true => sh(&router),
            false => {
                sh(&format!("ip -n {0}r link add name lan type bridge && ip -n {0}r link set lan up", world.prefix))
            }
        }
        for host in 1..=2 {
            world.add_host(host);
        }
        for host in 1..=2 {
            world.start_fabric(host);
        }
        world
    }

    fn name(&self, host: u8) -> String {
        format!("{}h{host}", self.prefix)
    }

    fn netns(&self, host: u8) -> PathBuf {
        format!("/run/netns/{}", self.name(host)).into()
    }

    /// The host's own address.
    fn address(&self, host: u8) -> Ipv4Addr {
        if self.routed { Ipv4Addr::new(192, 0, 2, host * 16 + 1) } else { Ipv4Addr::new(192, 0, 2, host) }
    }

    fn pod_cidr(host: u8) -> String {
        format!("10.128.{}.0/22", host * 4)
    }

    fn pod(host: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 128, host * 4, 2)
    }

    fn pod_netns(&self, host: u8) -> PathBuf {
        format!("/run/netns/{}p{host}", self.prefix).into()
    }

    fn add_host(&self, host: u8) {
        let (name, prefix, address) = (self.name(host), &self.prefix, self.address(host));
        sh(&format!(
            "ip netns add {name} && ip -n {name} link set lo up && \
             ip -n {name} link add eth0 type veth peer name v{host} netns {prefix}r && ip -n {name} link set eth0 up && \
             ip -n {prefix}r link set v{host} up && ip netns exec {name} sysctl -qw net.ipv4.ip_forward=1"
        ));
        if self.routed {
            let gateway = Ipv4Addr::new(192, 0, 2, host * 16 + 2);
            sh(&format!(
                "ip -n {name} addr add {address}/30 dev eth0 && ip -n {prefix}r addr add {gateway}/30 dev v{host} && \
                 ip -n {name} route add default via {gateway}"
            ));
        } else {
            sh(&format!("ip -n {prefix}r link set v{host} master lan && ip -n {name} addr add {address}/24 dev eth0"));
        }
        // One pod, routed to as the agent does it.
        let (pod, gateway) = (Self::pod(host), Ipv4Addr::new(10, 128, host * 4, 1));
        sh(&format!(
            "ip netns add {prefix}p{host} && ip -n {name} link add pod type veth peer name eth0 netns {prefix}p{host} && \
             ip -n {name} link set pod up && ip -n {name} addr add {gateway}/32 dev pod && \
             ip -n {name} route add {pod}/32 dev pod && \
             ip -n {prefix}p{host} addr add {pod}/32 dev eth0 && ip -n {prefix}p{host} link set eth0 up && \
             ip -n {prefix}p{host} route add default via {gateway} dev eth0 onlink"
        ));
    }

    fn start_fabric(&mut self, host: u8) {
        let cidr = |text: &str| text.parse::<Cidr>().unwrap();
        let own = Own {
            node_name: format!("n{host}"),
            pod_cidr: cidr(&Self::pod_cidr(host)),
            cluster_cidr: cidr("10.128.0.0/9"),
            service_cidr: cidr("10.96.0.0/16"),
        };
        let config = FabricConfig { own, cluster_name: "test".into(), bridge: "drover0".into() };
        let (nodes, stop) = (self.nodes.subscribe(), self.stop.clone());
        self.runners.push(inside(&self.netns(host), move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(run(config, nodes, stop))
        }));
    }

    /// Says which hosts there are.
    fn list(&self, hosts: &[u8]) {
        self.list_at(&hosts.iter().map(|host| (*host, self.address(*host))).collect::<Vec<_>>());
    }

    /// Says which hosts there are, and what their addresses are.
    fn list_at(&self, hosts: &[(u8, Ipv4Addr)]) {
        let node = |(host, address): &(u8, Ipv4Addr)| {
            let node = json!({"metadata": {"name": format!("n{host}")}, "spec": {"podCIDR": Self::pod_cidr(*host)},
                "status": {"addresses": [{"type": "InternalIP", "address": address}]}});
            Arc::new(serde_json::from_value::<Node>(node).unwrap())
        };
        self.nodes.send_replace(Some(hosts.iter().map(node).collect()));
    }

    /// Sends a megabyte from the pod of one host to that of the other and back; returns the address that came.
    fn transfer(&self, from: u8, to: u8) -> std::io::Result<Ipv4Addr> {
        let (ready, listening) = std::sync::mpsc::channel();
        let server = inside(&self.pod_netns(to), move || {
            let listener = TcpListener::bind((Self::pod(to), PORT))?;
            ready.send(()).unwrap();
            let (mut stream, peer) = listener.accept()?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let mut bytes = vec![0; BYTES];
            stream.read_exact(&mut bytes)?;
            stream.write_all(&bytes)?;
            Ok(peer.ip())
        });
        listening.recv().unwrap();
        let client = inside(&self.pod_netns(from), move || {
            let target = SocketAddr::from((Self::pod(to), PORT));
            let mut stream = TcpStream::connect_timeout(&target, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let mut sender = stream.try_clone()?;
            let writer = std::thread::spawn(move || sender.write_all(&vec![7; BYTES]));
            let mut bytes = vec![0; BYTES];
            stream.read_exact(&mut bytes)?;
            writer.join().unwrap()?;
            assert!(bytes.iter().all(|byte| *byte == 7));
            Ok(())
        });
        client.join().unwrap()?;
        match server.join().unwrap()? {
            std::net::IpAddr::V4(address) => Ok(address),
            std::net::IpAddr::V6(address) => panic!("{address}"),
        }
    }

    fn show(&self, host: u8) -> String {
        let name = self.name(host);
        let script = format!(
            "ip -n {name} route show; ip -n {name} -d link show type vxlan; \
             ip -n {name} neigh show nud permanent; bridge -n {name} fdb show"
        );
        String::from_utf8(Command::new("sh").args(["-c", &script]).output().unwrap().stdout).unwrap()
    }

    /// Waits until what a host shows is as wished.
    fn until(&self, host: u8, what: &str, wished: impl Fn(&str) -> bool) {
        let deadline = std::time::Instant::now() + PATIENCE;
        while !wished(&self.show(host)) {
            assert!(std::time::Instant::now() < deadline, "{what}:\n{}", self.show(host));
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
        for runner in self.runners.drain(..) {
            drop(runner.join());
        }
        let names = ["r", "h1", "h2", "p1", "p2"];
        for name in names {
            drop(Command::new("ip").args(["netns", "del", &format!("{}{name}", self.prefix)]).status());
        }
    }
}

fn sh(script: &str) {
    assert!(Command::new("sh").args(["-c", script]).status().unwrap().success(), "{script}");
}

#[test]
fn pods_of_hosts_on_one_link_reach_each_other_by_a_route() {
    if !root() {
        return;
    }
    let world = World::start(false);
    world.list(&[1, 2]);
    for (host, other) in [(1, 2), (2, 1)] {
        let route = format!("{} via {}", World::pod_cidr(other), world.address(other));
        world.until(host, "a route", |shown| shown.contains(&route) && !shown.contains("vxlan"));
        assert_eq!(world.transfer(host, other).unwrap(), World::pod(host), "the source address is kept");
    }
}

#[test]
fn a_node_that_moves_takes_its_route_along_and_a_link_of_another_kind_is_left_alone() {
    if !root() {
        return;
    }
    let world = World::start(false);
    // Not ours, though it is named as our VXLAN device would be.
    sh(&format!("ip -n {} link add drover0x type bridge", world.name(1)));
    world.list(&[1, 2]);
    let route = |address: Ipv4Addr| format!("{} via {address} dev eth0", World::pod_cidr(2));
    world.until(1, "a route", |shown| shown.contains(&route(world.address(2))));
    let moved = Ipv4Addr::new(192, 0, 2, 102);
    sh(&format!("ip -n {} addr add {moved}/24 dev eth0", world.name(2)));
    world.list_at(&[(1, world.address(1)), (2, moved)]);
    world.until(1, "the route of after the move", |shown| {
        shown.contains(&route(moved)) && !shown.contains(&route(world.address(2)))
    });
    sh(&format!("ip -n {} -d link show drover0x | grep -q bridge", world.name(1)));
}

#[test]
fn pods_of_hosts_behind_a_router_reach_each_other_by_vxlan() {
    if !root() {
        return;
    }
    let world = World::start(true);
    world.list(&[1, 2]);
    for (host, other) in [(1, 2), (2, 1)] {
        let route = format!("{} via 10.128.{}.0 dev drover0x", World::pod_cidr(other), other * 4);
        let end = format!("dst {}", world.address(other));
        world.until(host, "a tunnel", |shown| shown.contains(&route) && shown.contains(&end));
    }
    // Full packets of 1500 bytes do not fit: the host says so, and the transfer goes on in smaller ones.
    for (host, other) in [(1, 2), (2, 1)] {
        assert_eq!(world.transfer(host, other).unwrap(), World::pod(host), "the source address is kept");
    }
    // A node that goes leaves nothing behind, and its return needs no more than its Node.
    world.list(&[1]);
    world.until(1, "nothing of the other", |shown| !shown.contains("10.128.8.0") && !shown.contains("vxlan"));
    world.list(&[1, 2]);
    world.until(1, "a tunnel again", |shown| shown.contains("10.128.8.0/22 via 10.128.8.0 dev drover0x"));
    world.transfer(1, 2).unwrap();
}

#[test]
fn what_others_break_is_repaired_and_what_is_theirs_is_left() {
    if !root() {
        return;
    }
    let world = World::start(true);
    let name = world.name(1);
    sh(&format!(
        "ip -n {name} route add 10.140.0.0/22 dev eth0 && ip -n {name} route add 10.200.0.0/16 dev eth0 proto 0xd7"
    ));
    world.list(&[1, 2]);
    let whole = |shown: &str| {
        shown.contains("10.128.8.0/22 via 10.128.8.0 dev drover0x")
            && shown.contains("10.128.8.0 dev drover0x lladdr")
            && shown.contains(&format!("dst {}", Ipv4Addr::new(192, 0, 2, 33)))
    };
    // Ours by its number, and not wanted.
    world.until(1, "the stray route gone", |shown| whole(shown) && !shown.contains("10.200.0.0/16"));
    for damage in [
        "ip -n {} route del 10.128.8.0/22",
        "ip -n {} neigh del 10.128.8.0 dev drover0x",
        "bridge -n {} fdb del 0a:d0:0a:80:08:00 dev drover0x",
        "ip -n {} link del drover0x",
        "ip -n {} link set drover0x down",
    ] {
        world.until(1, "all as it was", whole);
        sh(&damage.replace("{}", &name));
        world.until(1, damage, whole);
        world.transfer(1, 2).unwrap();
    }
    assert!(world.show(1).contains("10.140.0.0/22"), "another's route");
}
