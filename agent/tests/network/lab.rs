//! A private piece of network for one test: bridge, address ranges and run directory of its own, removed at the end.

use std::{
    io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::Arc,
};

use drover_agent::{
    clock::Clock,
    ids::PodUid,
    network::{Cidr, HostNetwork, NetworkConfig},
    seams::{HostPort, PodNetwork, Sandbox, SandboxRequest},
};
use nix::sched::{CloneFlags, setns};

/// One test's network.
pub(crate) struct Lab {
    pub(crate) network: Arc<HostNetwork>,
    pub(crate) config: NetworkConfig,
    _folder: tempfile::TempDir,
}

/// Whether this process may change the network; says so where a test has to be left out.
pub(crate) fn root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: this test makes network name spaces and needs root");
    }
    root
}

impl Lab {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // The process id is unique among running tests (nextest gives each its own). 100.64.0.0/10 is nobody's here, not
        // even a cluster's: the service table of one that runs meanwhile would translate for us.
        let unique = std::process::id() & 0xfff;
        let base = Ipv4Addr::new(100, 64, 0, 0).to_bits() + (unique << 8);
        let services = Ipv4Addr::new(100, 80, 0, 0).to_bits() + (unique << 8);
        let config = NetworkConfig {
            bridge: format!("drt{:x}", std::process::id()),
            run_dir: folder.path().join("run"),
            links_dir: folder.path().join("run/containers"),
            pod_cidr: Cidr::new(Ipv4Addr::from_bits(base), 24).unwrap(),
            cluster_cidr: Cidr::new(Ipv4Addr::new(100, 64, 0, 0), 10).unwrap(),
            service_cidr: Cidr::new(Ipv4Addr::from_bits(services), 24).unwrap(),
            runtime: "drover".into(),
        };
        let network = Arc::new(HostNetwork::start(config.clone(), Clock::System).await.unwrap());
        Self { network, config, _folder: folder }
    }

    /// The network as a new agent finds it after this one was killed.
    pub(crate) async fn restart(&mut self) {
        self.network = Arc::new(HostNetwork::start(self.config.clone(), Clock::System).await.unwrap());
    }

    pub(crate) async fn pod(&self, uid: &str) -> Sandbox {
        self.network.ensure(&request(uid, Vec::new())).await.unwrap()
    }

    /// Address `last` of the test's Service range.
    pub(crate) fn service_address(&self, last: u8) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.config.service_cidr.network().to_bits() + u32::from(last))
    }

    pub(crate) async fn end(self) {
        for pod in self.network.list().await.unwrap() {
            self.network.remove(&pod).await.unwrap();
        }
        let network = Arc::into_inner(self.network).expect("the test holds no other reference");
        network.uninstall().await.unwrap();
    }
}

pub(crate) fn request(uid: &str, host_ports: Vec<HostPort>) -> SandboxRequest {
    let pod = PodUid::new(uid).unwrap();
    SandboxRequest { pod, namespace: "default".into(), name: uid.into(), hostname: uid.into(), host_ports }
}

/// Runs `work` on a thread inside the name space.
pub(crate) fn inside<T: Send + 'static>(
    netns: &Path,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> std::thread::JoinHandle<io::Result<T>> {
    let netns: PathBuf = netns.to_owned();
    std::thread::spawn(move || {
        setns(std::fs::File::open(netns)?, CloneFlags::CLONE_NEWNET)?;
        work()
    })
}
