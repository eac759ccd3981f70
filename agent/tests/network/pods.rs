//! The pod network on a real kernel.

use std::{
    collections::HashSet,
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    time::{Duration, Instant},
};

use crate::lab::{Lab, inside, request, root};
use drover_agent::{
    ids::{ContainerId, PodUid},
    seams::{HostPort, PodNetwork, Sandbox},
};

const PORT: u16 = 8080;

/// Answers `count` connections inside the pod with the caller's address.
fn serve(pod: &Sandbox, count: usize) -> std::thread::JoinHandle<std::io::Result<()>> {
    let address = SocketAddr::from((pod.address, PORT));
    let (ready, listening) = std::sync::mpsc::channel();
    let thread = inside(&pod.netns, move || {
        let listener = TcpListener::bind(address)?;
        ready.send(()).unwrap();
        for _ in 0..count {
            let (mut stream, peer) = listener.accept()?;
            stream.write_all(peer.ip().to_string().as_bytes())?;
        }
        Ok(())
    });
    listening.recv().unwrap();
    thread
}

fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(10))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_reach_each_other_and_are_reached_from_the_host_under_their_own_addresses() {
    if !root() {
        return;
    }
    let lab = Lab::start().await;
    let (client, server) = (lab.pod("client").await, lab.pod("server").await);
    let serving = serve(&server, 3);
    let target = SocketAddr::from((server.address, PORT));
    let from_pod = inside(&client.netns, move || ask(target)).join().unwrap().unwrap();
    assert_eq!(from_pod, client.address.to_string(), "the source address is kept");
    assert_eq!(ask(target).unwrap(), lab.network.gateway().to_string());
    let from_itself = inside(&server.netns, move || ask(target)).join().unwrap().unwrap();
    assert_eq!(from_itself, server.address.to_string());
    serving.join().unwrap().unwrap();
    lab.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_keeps_its_address_over_repeats_and_restarts() {
    if !root() {
        return;
    }
    let mut lab = Lab::start().await;
    let port = HostPort { host_address: None, host_port: 18080, container_port: 80, protocol: "TCP".into() };
    let wanted = request("one", vec![port.clone()]);
    let first = lab.network.ensure(&wanted).await.unwrap();
    assert_eq!(lab.network.ensure(&wanted).await.unwrap(), first);
    lab.restart().await;
    assert_eq!(lab.network.list().await.unwrap(), [PodUid::new("one").unwrap()]);
    let ports = lab.network.host_ports().borrow().clone();
    assert_eq!(ports.into_values().collect::<Vec<_>>(), [(first.address, vec![port])], "host ports outlive the agent");
    assert_eq!(lab.network.ensure(&wanted).await.unwrap(), first);
    let second = lab.pod("two").await;
    assert_ne!(second.address, first.address);
    lab.network.remove(&wanted.pod).await.unwrap();
    lab.network.remove(&wanted.pod).await.unwrap();
    assert!(!first.netns.exists());
    lab.restart().await;
    let third = lab.pod("three").await;
    assert_ne!(third.address, first.address, "a released address rests");
    lab.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forty_pods_at_once_get_forty_addresses() {
    if !root() {
        return;
    }
    let lab = Lab::start().await;
    let started = Instant::now();
    let uids: Vec<String> = (0..40).map(|number| format!("pod-{number}")).collect();
    let pods = futures::future::join_all(uids.iter().map(|uid| lab.pod(uid))).await;
    eprintln!("40 pods in {:?}", started.elapsed());
    let addresses: HashSet<_> = pods.iter().map(|pod| pod.address).collect();
    assert_eq!(addresses.len(), 40);
    let started = Instant::now();
    lab.pod("alone").await;
    eprintln!("one pod in {:?}", started.elapsed());
    let last = pods.last().unwrap();
    let serving = serve(last, 1);
    ask(SocketAddr::from((last.address, PORT))).unwrap();
    serving.join().unwrap().unwrap();
    let started = Instant::now();
    lab.end().await;
    eprintln!("41 removals in {:?}", started.elapsed());
}

/// What an agent that was killed between two steps leaves, and what an administrator may break.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_half_made_state_is_completed() {
    if !root() {
        return;
    }
    let mut lab = Lab::start().await;
    let whole = lab.pod("pod").await;
    let link = host_link(&lab);
    let netns = whole.netns.clone();
    let unmount = || nix::mount::umount2(&netns, nix::mount::MntFlags::MNT_DETACH).unwrap();
    let breakages: [(&str, &dyn Fn()); 5] = [
        ("the link is gone", &|| ip(&["link", "del", &link])),
        ("the name space is a plain file, the link is left", &unmount),
        ("the file is gone too", &|| {
            unmount();
            fs::remove_file(&netns).unwrap();
        }),
        ("address and route are missing", &|| {
            let nsenter = format!("--net={}", netns.display());
            let flushed =
                std::process::Command::new("nsenter").args([&nsenter, "ip", "addr", "flush", "dev", "eth0"]).status();
            assert!(flushed.unwrap().success());
        }),
        ("another agent made it meanwhile", &|| ()),
    ];
    for (what, breakage) in breakages {
        breakage();
        lab.restart().await;
        assert_eq!(lab.pod("pod").await, whole, "{what}");
        let serving = serve(&whole, 1);
        ask(SocketAddr::from((whole.address, PORT))).unwrap_or_else(|error| panic!("{what}: {error}"));
        serving.join().unwrap().unwrap();
    }
    unmount();
    lab.end().await;
    assert!(!netns.exists());
}

/// The pod's link on the host: the one whose alias names this network.
fn host_link(lab: &Lab) -> String {
    let listed = std::process::Command::new("ip").args(["-o", "link"]).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let alias = format!("alias {}/", lab.config.bridge);
    let line = listed.lines().find(|line| line.contains(&alias)).expect("the pod has a link");
    line.split([' ', '@']).nth(1).unwrap().to_owned()
}

fn ip(arguments: &[&str]) {
    assert!(std::process::Command::new("ip").args(arguments).status().unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_is_linked_only_to_a_pod_that_has_a_name_space() {
    if !root() {
        return;
    }
    let lab = Lab::start().await;
    let container = ContainerId::new("0123456789abcdef").unwrap();
    let pod = lab.pod("pod").await;
    let uid = PodUid::new("pod").unwrap();
    for _ in 0..2 {
        lab.network.link_container(&container, &uid).await.unwrap();
        assert_eq!(fs::read_link(lab.config.links_dir.join("0123456789abcdef")).unwrap(), pod.netns);
    }
    for _ in 0..2 {
        lab.network.unlink_container(&container).await.unwrap();
    }
    assert_eq!(fs::read_dir(&lab.config.links_dir).unwrap().count(), 0);
    let error = lab.network.link_container(&container, &PodUid::new("other").unwrap()).await.unwrap_err();
    assert_eq!(error.to_string(), "pod network: the pod has no name space");
    lab.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_firewall_rules_come_back_and_go_at_the_end() {
    if !root() {
        return;
    }
    let mut lab = Lab::start().await;
    let pods = lab.config.pod_cidr.to_string();
    let rules = || {
        let listed = std::process::Command::new("iptables").args(["-w", "-S", "FORWARD"]).output().unwrap();
        String::from_utf8(listed.stdout).unwrap().lines().filter(|line| line.contains(&pods)).count()
    };
    assert_eq!(rules(), 4);
    lab.restart().await;
    assert_eq!(rules(), 4, "a second start adds nothing");
    let specification = format!("-s {pods} -m comment --comment");
    let mut words = vec!["-w", "-D", "FORWARD"];
    words.extend(specification.split(' '));
    words.extend(["drover: pod traffic", "-j", "ACCEPT"]);
    assert!(std::process::Command::new("iptables").args(words).status().unwrap().success());
    assert_eq!(rules(), 3);
    lab.restart().await;
    assert_eq!(rules(), 4);
    lab.end().await;
    assert_eq!(rules(), 0);
}
