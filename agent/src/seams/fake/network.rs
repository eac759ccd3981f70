//! A pod network in memory.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    io,
    net::Ipv4Addr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::watch;

use crate::{
    clock::Clock,
    ids::{ContainerId, PodUid},
    network::{AddressChooser, Cidr, PodHostPorts},
    seams::{EngineNetworking, NetworkError, NetworkMode, PodNetwork, Sandbox, SandboxRequest},
};

/// Hands out addresses and makes nothing. Cheap to clone; clones are the same network. What it gave out outlives the
/// agent, as name spaces do in a kernel.
#[derive(Debug, Clone)]
pub struct FakeNetwork {
    state: Arc<Mutex<State>>,
    host_ports: watch::Sender<PodHostPorts>,
}

#[derive(Debug)]
struct State {
    sandboxes: BTreeMap<PodUid, Sandbox>,
    range: Cidr,
    chooser: AddressChooser,
    clock: Option<Clock>,
    connections: u32,
    failure: Option<String>,
    delay: Duration,
}

impl Default for FakeNetwork {
    /// A network over 10.128.0.0/9.
    fn default() -> Self {
        let range = Cidr::new(Ipv4Addr::new(10, 128, 0, 0), 9).expect("9 bits are a prefix");
        let state = State {
            sandboxes: BTreeMap::new(),
            range,
            chooser: AddressChooser::new(range, HashMap::new(), None),
            clock: None,
            connections: 0,
            failure: None,
            delay: Duration::ZERO,
        };
        Self { state: Arc::new(Mutex::new(state)), host_ports: watch::channel(PodHostPorts::default()).0 }
    }
}

impl FakeNetwork {
    /// Gives out addresses of `range` from now on, as an agent does that has learnt its node's pod CIDR. The same range
    /// again changes nothing.
    pub fn set_range(&self, range: Cidr, clock: Clock) {
        let mut state = self.lock();
        if state.clock.is_none() || state.range != range {
            state.chooser = AddressChooser::new(range, HashMap::new(), None);
        }
        state.range = range;
        state.clock = Some(clock);
    }

    /// Loses all name spaces, as the host's end does.
    pub fn lose_all(&self) {
        self.lock().sandboxes.clear();
        self.host_ports.send_replace(PodHostPorts::default());
    }

    /// How many established connections every pod has from now on.
    pub fn set_connections(&self, connections: u32) {
        self.lock().connections = connections;
    }

    /// Makes every name space fail with these words from now on; `None` heals.
    pub fn set_failure(&self, failure: Option<String>) {
        self.lock().failure = failure;
    }

    /// How long it takes to make a name space from now on.
    pub fn set_delay(&self, delay: Duration) {
        self.lock().delay = delay;
    }

    /// The pods that have a name space, each with its address.
    pub fn addresses(&self) -> BTreeMap<PodUid, Ipv4Addr> {
        self.lock().sandboxes.iter().map(|(pod, sandbox)| (pod.clone(), sandbox.address)).collect()
    }

    /// The host ports of all pods.
    pub fn host_ports(&self) -> watch::Receiver<PodHostPorts> {
        self.host_ports.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl PodNetwork for FakeNetwork {
    async fn ensure(&self, request: &SandboxRequest) -> Result<Sandbox, NetworkError> {
        let delay = self.lock().delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let mut state = self.lock();
        if let Some(message) = state.failure.clone() {
            return Err(NetworkError { message });
        }
        if let Some(sandbox) = state.sandboxes.get(&request.pod) {
            return Ok(sandbox.clone());
        }
        let taken: HashSet<Ipv4Addr> = state.sandboxes.values().map(|sandbox| sandbox.address).collect();
        let now = state.clock.as_ref().map(Clock::now).unwrap_or_default();
        let free = state.chooser.choose(&taken, now);
        let address = free.ok_or_else(|| NetworkError { message: "no free address".to_owned() })?;
        let sandbox = Sandbox {
            address,
            netns: PathBuf::from("/nonexistent").join(request.pod.as_str()),
            nameserver: None,
            engine: EngineNetworking { network_mode: "none".to_owned(), runtime: None, ipv4: None },
        };
        state.sandboxes.insert(request.pod.clone(), sandbox.clone());
        if !request.host_ports.is_empty() {
            let ports = (address, request.host_ports.clone());
            self.host_ports.send_modify(|all| drop(all.insert(request.pod.clone(), ports)));
        }
        Ok(sandbox)
    }

    async fn link_container(&self, _container: &ContainerId, _pod: &PodUid) -> Result<(), NetworkError> {
        Ok(())
    }

    async fn unlink_container(&self, _container: &ContainerId) -> Result<(), NetworkError> {
        Ok(())
    }

    async fn remove(&self, pod: &PodUid) -> Result<(), NetworkError> {
        let mut state = self.lock();
        let gone = state.sandboxes.remove(pod);
        if let (Some(sandbox), Some(now)) = (gone, state.clock.as_ref().map(Clock::now)) {
            state.chooser.release(sandbox.address, now);
        }
        self.host_ports.send_if_modified(|all| all.remove(pod).is_some());
        Ok(())
    }

    async fn list(&self) -> Result<Vec<PodUid>, NetworkError> {
        Ok(self.lock().sandboxes.keys().cloned().collect())
    }

    async fn connections(&self, _sandbox: &Sandbox, _ports: BTreeSet<u16>) -> io::Result<u32> {
        Ok(self.lock().connections)
    }

    fn mode(&self) -> NetworkMode {
        NetworkMode::Wrapper
    }
}
